"""The server on a real socket: where it listens, how it stops, and what it does with clients that never finish."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import httpx
import pytest

from accord.errors import ResourceError, UsageError
from accord.web import Limits, create_app, serve

CHILD = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("gallery_fixture", sys.argv[1])
fixture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixture)

class Slow(fixture.Gallery):
    def by_id(self, id, k):
        print("asked", flush=True)
        time.sleep(0.8)
        return super().by_id(id, k)

app = fixture.create_app(Slow(), report_html=None)
fixture.serve(app, port=0, ready=lambda running: print(running.url, flush=True))
print("stopped", flush=True)
"""


def test_a_free_port_is_taken_and_told(running):
    assert urlsplit(running.url).port > 0
    response = httpx.get(running.url + "/health", timeout=5)
    assert response.json() == {"status": "ok"}
    assert "server" not in response.headers


def test_an_address_others_can_reach_needs_a_token(app):
    for host in ("0.0.0.0", "::", "192.168.1.5", "some-name"):
        with pytest.raises(UsageError, match="access token"):
            serve(app, host, 0)


def test_with_a_token_other_addresses_are_served(gallery):
    app = create_app(gallery, report_html=None, token="t" * 30)
    seen = []

    def ready(running):
        seen.append(running.url)
        running.stop()

    thread = threading.Thread(target=serve, args=(app, "0.0.0.0", 0), kwargs={"ready": ready})
    thread.start()
    thread.join(20)
    assert seen[0].startswith("http://0.0.0.0:")


def test_a_taken_port_is_named(app):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=str(port)):
            serve(app, "127.0.0.1", port)


def test_an_unknown_address_is_named(gallery, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)  # some networks answer for every name
    app = create_app(gallery, report_html=None, token="t" * 30)
    with pytest.raises(UsageError, match=r"no\.such\.host\.invalid"):
        serve(app, "no.such.host.invalid", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_finishes_its_answers_and_ends_well(number):
    fixture = os.path.join(os.path.dirname(__file__), "conftest.py")
    command = [sys.executable, "-c", CHILD, fixture]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        url = child.stdout.readline().strip()
        answers = []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(url + "/api/items/1/neighbours", timeout=20)))
        asking.start()
        assert child.stdout.readline() == "asked\n"
        child.send_signal(number)
        asking.join(20)
        out, err = child.communicate(timeout=20)
    assert [answer.status_code for answer in answers] == [200]
    assert (child.returncode, out, err) == (0, "stopped\n", "")


def connect(running):
    parts = urlsplit(running.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def trickle(connection):
    for _ in range(200):
        connection.sendall(b"G")
        time.sleep(0.05)


def closed_after(connection, started):
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - started


@pytest.fixture
def impatient(gallery, serving):
    return serving(create_app(gallery, report_html=None, limits=Limits(header_seconds=0.8, body_seconds=0.8)))


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nHost: 127.0"])
def test_headers_that_never_end_are_cut_off(impatient, first):
    with connect(impatient) as connection:
        connection.sendall(first)
        assert closed_after(connection, time.monotonic()) < 6


def test_headers_that_trickle_after_a_good_request_are_cut_off(impatient):
    with connect(impatient) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b"200 OK" in connection.recv(4096)
        started = time.monotonic()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            trickle(connection)
        assert time.monotonic() - started < 6


def test_a_stalled_upload_is_answered_and_cut_off(impatient):
    with connect(impatient) as connection:
        head = (
            b"POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\nabc"
        )
        connection.sendall(head)
        assert b"408" in connection.recv(4096)
        assert closed_after(connection, time.monotonic()) < 6


def test_endless_headers_are_refused(running):
    with connect(running) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1_000_000)
            answer = connection.recv(4096)
        except OSError:
            answer = b"HTTP/1.1 400"
    assert answer.startswith(b"HTTP/1.1 400")


def test_a_quick_client_may_keep_its_connection_longer_than_the_header_deadline(gallery, serving):
    parts = urlsplit(serving(create_app(gallery, report_html=None, limits=Limits(header_seconds=2.0))).url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.connect()
    connection.auto_open = 0  # one that was closed stays closed
    for _ in range(25):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b'{"status":"ok"}')
        time.sleep(0.1)
    connection.close()

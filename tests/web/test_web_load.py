"""Big, slow and many requests: each meets its bound, and the server stays able to answer."""

import asyncio
import threading

import httpx
import pytest
from starlette.requests import ClientDisconnect

from accord.web import Limits, create_app
from accord.web._lanes import Lane
from accord.web._problems import Refused

IMAGE = {"Content-Type": "image/jpeg"}


def client(app):
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


def test_a_body_that_declares_too_much_is_refused_unread(gallery, call):
    read = []

    async def body():
        read.append(1)
        yield b"x"

    app = create_app(gallery, report_html=None, limits=Limits(body_bytes=1000))
    response = call(app, "POST", "/api/search", content=body(), headers={**IMAGE, "Content-Length": "1001"})
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert response.headers["connection"] == "close"
    assert not read


@pytest.mark.parametrize(("length", "status"), [("-5", 400), ("many", 400), ("٣", 400), ("9" * 5000, 413)])
def test_lengths_that_are_no_sizes_are_refused(app, call, length, status):
    headers = {**IMAGE, "Content-Length": length.encode()}
    assert call(app, "POST", "/api/search", content=b"x", headers=headers).status_code == status


def test_an_undeclared_body_is_cut_at_the_limit(gallery, call):
    sent = []

    async def body():
        for _ in range(1000):
            sent.append(100)
            yield b"x" * 100

    app = create_app(gallery, report_html=None, limits=Limits(body_bytes=1000))
    response = call(app, "POST", "/api/search", content=body(), headers=IMAGE)
    assert response.json()["code"] == "too_large"
    assert sum(sent) == 1100


def test_an_upload_that_trickles_meets_its_deadline(gallery, call):
    sent = []

    async def body():
        for _ in range(100):
            sent.append(1)
            yield b"x"
            await asyncio.sleep(0.05)

    app = create_app(gallery, report_html=None, limits=Limits(body_seconds=0.2))
    response = call(app, "POST", "/api/search", content=body(), headers=IMAGE)
    assert (response.status_code, response.json()["code"]) == (408, "too_slow")
    assert len(sent) < 100


def test_all_uploads_together_are_bounded_and_room_comes_back(gallery, call):
    async def flood(app):
        held, refused = asyncio.Event(), asyncio.Event()

        async def waiting():
            yield b"x" * 900
            held.set()
            await refused.wait()

        async with client(app) as http:
            first = asyncio.create_task(http.post("/api/search", content=waiting(), headers=IMAGE))
            await held.wait()
            second = await http.post("/api/search", content=b"x" * 900, headers=IMAGE)
            refused.set()
            await first
            third = await http.post("/api/search", content=b"x" * 900, headers=IMAGE)
        return second, third

    app = create_app(gallery, report_html=None, limits=Limits(bytes_in_flight=1000))
    second, third = asyncio.run(flood(app))
    assert second.json()["code"] == "busy"
    assert third.json()["code"] == "image_refused"


def test_a_client_that_leaves_while_sending_is_told_nothing_more(app):
    async def leave():
        messages = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/search", "query_string": b"", "headers": []}
        scope["headers"] = [(b"host", b"127.0.0.1"), (b"content-type", b"image/png")]
        await app(scope, receive, send)
        return sent

    assert asyncio.run(leave())[0]["status"] == 400
    assert issubclass(ClientDisconnect, Exception)


@pytest.fixture
def slow(gallery):
    """A service whose searches wait until they are let go."""

    class Slow(type(gallery)):
        gate = threading.Event()
        asked = 0

        def by_id(self, id, k):
            type(self).asked += 1
            assert self.gate.wait(20)
            return super().by_id(id, k)

    yield Slow()
    Slow.gate.set()


def test_health_and_pictures_answer_while_a_search_computes(slow):
    async def poll(app):
        async with client(app) as http:
            search = asyncio.create_task(http.get("/api/items/1/neighbours"))
            await asyncio.sleep(0.05)
            for path in ["/health", "/api/info", "/api/items/1/thumbnail"] * 5:
                assert (await http.get(path)).status_code == 200
            assert not search.done()
            slow.gate.set()
            return (await search).status_code

    assert asyncio.run(poll(create_app(slow, report_html=None))) == 200


def test_what_does_not_fit_the_queue_is_told_to_come_back(slow):
    async def crowd(app):
        async with client(app) as http:
            searches = [asyncio.create_task(http.get("/api/items/1/neighbours")) for _ in range(12)]
            while sum(search.done() for search in searches) < 8:
                await asyncio.sleep(0.01)
            slow.gate.set()
            return await asyncio.gather(*searches)

    answers = asyncio.run(crowd(create_app(slow, report_html=None, limits=Limits(queue=3))))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 8
    assert all(answer.headers["retry-after"] == "2" for answer in answers if answer.status_code == 503)


def test_an_answer_that_takes_too_long_is_given_up(slow, call):
    app = create_app(slow, report_html=None, limits=Limits(answer_seconds=0.1))
    response = call(app, "GET", "/api/items/1/neighbours")
    assert (response.status_code, response.json()["code"]) == (503, "too_late")


def test_work_whose_client_has_gone_is_dropped_from_the_queue(slow):
    class Request:
        async def receive(self):
            return {"type": "http.disconnect"}

    async def leave(lane):
        first = lane.submit(lambda: slow.by_id(1, 1))
        with pytest.raises(Refused, match="gone"):
            await lane.answer(Request(), lambda: slow.by_id(2, 1), seconds=5.0)
        slow.gate.set()
        await asyncio.wrap_future(first)

    lane = Lane("test", queue=4)
    asyncio.run(leave(lane))
    assert lane.submit(lambda: 4).result(5) == 4
    assert slow.asked == 1
    lane.close()
    assert lane.submit(lambda: 5).result(5) == 5
    lane.close()


def test_answers_do_not_depend_on_who_else_asks(app, gallery):
    async def ask_all(app):
        async with client(app) as http:
            return await asyncio.gather(*(http.get(f"/api/items/{id}/neighbours?k=10") for id in range(24)))

    for id, answer in enumerate(asyncio.run(ask_all(app))):
        assert [hit["id"] for hit in answer.json()["neighbours"]] == [hit.id for hit in gallery.by_id(id, 10)]

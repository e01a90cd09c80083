"""Runs the application until it is told to stop: on loopback unless a token guards it, and to the last answer."""

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from accord.errors import ResourceError, UsageError
from accord.web._limits import Limits


class Running(NamedTuple):
    """A server that answers: under which address, and how to stop it."""

    url: str
    stop: Callable[[], None]


def serve(
    app: FastAPI, host: str = "127.0.0.1", port: int = 8000, *, ready: Callable[[Running], None] | None = None
) -> None:
    """Answer requests until SIGINT or SIGTERM, then finish the answers under way and return.

    `port` 0 takes a free one; `ready` is called with the address once it answers. Raises UsageError for an address that
    others can reach when the app asks for no token, ResourceError when the port is taken.
    """
    if not _is_loopback(host) and not app.state.asks_for_token:
        raise UsageError(
            f"web: {host} can be reached from other machines, so an access token is needed. Or use 127.0.0.1."
        )
    listening = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    limits: Limits = app.state.limits
    config = uvicorn.Config(
        app,
        http=_protocol(limits.header_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.connections,
        h11_max_incomplete_event_size=16 * 1024,
        timeout_graceful_shutdown=limits.shutdown_seconds,
    )
    url = f"http://{shown}:{listening.getsockname()[1]}"
    with listening:
        _Server(config, url, ready).run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise UsageError(f"web: there is no address called {host!r} here.") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ResourceError(
            f"web: can't listen on {host}, port {port}. Choose another port, or 0 for a free one."
        ) from error
    return listening


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, url: str, ready: Callable[[Running], None] | None) -> None:
        super().__init__(config)
        self._url = url
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready and self.started:
            self._ready(Running(self._url, self._stop))

    def _stop(self) -> None:
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # unlike uvicorn's own, the signal is not raised again in the end: being told to stop is no failure
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _protocol(seconds: float) -> type[H11Protocol]:
    class Patient(H11Protocol):
        """HTTP/1.1 with a deadline for the headers: a connection that sends none, or lets them trickle, is closed."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._deadline:
                self._deadline.cancel()

        def _watch(self) -> None:
            waiting = self.cycle is None or self.cycle.response_complete
            if waiting and self._deadline is None:
                self._deadline = self.loop.call_later(seconds, self.transport.close)
            elif not waiting and self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Patient

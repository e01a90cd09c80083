"""Work off the event loop: a lane computes one thing at a time and keeps a short, bounded queue."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

from accord.web._problems import Refused

Answer = TypeVar("Answer")


class Lane:
    """One worker thread with a bounded queue; what does not fit is refused at once instead of waiting for long."""

    def __init__(self, name: str, *, queue: int) -> None:
        self._name = name
        self._workers = self._worker()
        self._room = threading.BoundedSemaphore(queue + 1)

    def submit(self, work: Callable[[], Answer]) -> "Future[Answer]":
        """Queue some work, or refuse it when the queue is full."""
        if not self._room.acquire(blocking=False):
            raise Refused("busy")
        future = self._workers.submit(work)
        # released when the work ends or is dropped, not when its client stops waiting: running work still takes a place
        future.add_done_callback(lambda _: self._room.release())
        return future

    async def answer(self, request: Request, work: Callable[[], Answer], *, seconds: float) -> Answer:
        """Wait for some work, at most so long; it is dropped from the queue when the client has gone."""
        future = self.submit(work)
        result = asyncio.wrap_future(future)
        gone = asyncio.ensure_future(_disconnected(request))
        waiting: set[asyncio.Future[Any]] = {result, gone}
        try:
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if result in done:
                return result.result()
            raise Refused("gone" if gone in done else "too_late")
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
            future.cancel()

    def close(self) -> None:
        """Drop what waits and leave what runs to end; the lane can be used again."""
        workers, self._workers = self._workers, self._worker()
        workers.shutdown(wait=False, cancel_futures=True)

    def _worker(self) -> ThreadPoolExecutor:
        # its thread is started by the first work
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"accord-{self._name}")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue

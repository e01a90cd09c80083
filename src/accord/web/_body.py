"""Reading an upload: counted byte by byte while it comes in, under a deadline, and under a bound for all uploads."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from accord.web._limits import Limits
from accord.web._problems import Refused


class Uploads:
    """Reads the bodies of requests and knows how many bytes of them are held in memory."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held = 0

    @asynccontextmanager
    async def body(self, request: Request, *, limit: int | None = None) -> AsyncIterator[bytes]:
        """The body of a request, held for as long as the context lasts.

        Refused are: more bytes than the limit (at once, when the length is declared), an upload that takes too long in
        total however steadily it trickles, and one that would bring all uploads together above their bound.
        """
        limit = limit or self._limits.body_bytes
        if _declared(request) > limit:
            raise Refused("too_large")
        parts: list[bytes] = []
        try:
            await self._read(request, parts, limit)
            yield b"".join(parts)
        finally:
            self.held -= sum(map(len, parts))

    async def _read(self, request: Request, parts: list[bytes], limit: int) -> None:
        length = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for part in request.stream():
                    parts.append(part)
                    self.held += len(part)
                    length += len(part)
                    self._check(length, limit)
        except TimeoutError as error:
            raise Refused("too_slow") from error
        except ClientDisconnect as error:
            raise Refused("gone") from error

    def _check(self, length: int, limit: int) -> None:
        if length > limit:
            raise Refused("too_large")
        if self.held > self._limits.bytes_in_flight:
            raise Refused("busy")


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refused("bad_request")
    return int(length) if len(length) < 20 else 10**20

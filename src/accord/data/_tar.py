"""Reads the files of a tar stream one after the other, within bounds; anything but files and folders is refused."""

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, cast

from accord.data._names import printable
from accord.errors import DataError

_CHUNK = 2**20
_BLOCK = 512


class _Bounded(io.RawIOBase):
    """A stream that is read forwards only, never beyond `cap` bytes in all and never more than a chunk at once.

    tarfile reads a long name in one piece, however long a header says it is; that piece is refused here.
    """

    def __init__(self, stream: io.BufferedIOBase, who: str, cap: int) -> None:
        self.stream, self.who, self.cap = stream, who, cap
        self.place, self.last = 0, b""

    def read(self, size: int = -1) -> bytes:
        """The next bytes, fewer only at the end."""
        if not 0 <= size <= _CHUNK or self.place + size > self.cap + _CHUNK:
            raise DataError(
                f"{self.who} looks like a bomb and was not unpacked.\n"
                f"  It had become {self.place} bytes, and a header asks for {size} more."
            )
        self.last = self.stream.read(size)
        self.place += len(self.last)
        return self.last

    def tell(self) -> int:
        """How many bytes have been read."""
        return self.place

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Read on to a later place."""
        if whence != io.SEEK_SET or place < self.place:
            raise DataError(f"{self.who} has a header that leads backwards. It is damaged.")
        while self.place < place and self.read(min(_CHUNK, place - self.place)):
            pass
        return self.place


def members_of(stream: io.BufferedIOBase, who: str, cap: int) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Path, size and bytes in pieces of each file; the pieces must be taken before the next file.

    Raises DataError for a link, a device, a sparse file or an unknown kind of entry, for more than `cap` bytes, and
    for an archive that ends without its end mark; tarfile's own errors for damage.
    """
    bounded = _Bounded(stream, who, cap)
    with tarfile.open(
        fileobj=cast(BinaryIO, bounded), mode="r:", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # which would hold 100,000 of them
            path = "/".join(part for part in member.name.split("/") if part != ".")
            if member.name.startswith("/"):
                path = f"/{path.lstrip('/')}"
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.issparse():
                raise DataError(
                    f"{who}: '{printable(member.name)}' is a link or a device; only files and folders are unpacked."
                )
            if member.size < 0:
                raise tarfile.ReadError(f"{printable(member.name)} has a negative size")
            if member.type != tarfile.DIRTYPE:
                yield path, member.size, _pieces(archive, member)
            elif ".." in path.split("/") or path.startswith("/"):
                raise DataError(f"{who}: the folder '{printable(member.name)}' leads outside.")
    if bounded.last != bytes(_BLOCK):
        raise DataError(f"{who} has no end: it is damaged or cut short. Fetch it anew.")


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    reader = archive.extractfile(member)
    while reader is not None and (piece := reader.read(_CHUNK)):  # which raises where the stream ends before the file
        yield piece

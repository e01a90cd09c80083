"""The run's diary: one JSON object per line, of which a crash can lose only the end."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accord.errors import ArtifactError
from accord.runs._disk import disk_trouble, read_file
from accord.runs._json import from_json, to_json
from accord.types import Json

_ZEROS = bytes(8)


def read_log(path: Path) -> list[Json]:
    """Every complete entry, oldest first; a torn last line is left out. ArtifactError names a damaged line."""
    return [entry for _, entry in _entries(path)] if path.exists() else []


class LogWriter:
    """Appends entries. Opening it cuts off a torn last line, which a killed writer may have left.

    An entry survives a crash of the process at once, and a power cut after `sync`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        end = max((end for end, _ in _entries(path)), default=0) if path.exists() else 0
        with disk_trouble(path, 0):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            self._cut(end)
        except BaseException:
            self.close()
            raise

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one entry as a whole, or not at all."""
        line = to_json(dict(entry)) + b"\n"
        with disk_trouble(self.path, len(line)):
            try:
                self._write(line)
            except OSError:
                # half a line must not be sealed into the run; if even this fails, the next entry is written over it
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self._end)
                raise
        self._end += len(line)

    def truncate(self, step: int) -> None:
        """Drop the first entry whose `step` is larger, and all that follow it."""
        kept = 0
        for end, entry in _entries(self.path):
            if entry.get("step", step) > step:
                break
            kept = end
        self._cut(kept)

    def sync(self) -> None:
        """Force what was appended to the disk."""
        with disk_trouble(self.path, 0):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _write(self, line: bytes) -> None:
        written = 0
        while written < len(line):
            written += os.pwrite(self._descriptor, line[written:], self._end + written)

    def _cut(self, end: int) -> None:
        with disk_trouble(self.path, 0):
            os.ftruncate(self._descriptor, end)
            os.fsync(self._descriptor)
        self._end = end


def _entries(path: Path) -> Iterator[tuple[int, Json]]:
    """Each complete line's end in bytes, and its entry."""
    *lines, _torn = read_file(path).split(b"\n")
    end = 0
    for number, line in enumerate(lines, start=1):
        # a power cut fills what never reached the disk with zeros; nothing behind them was promised to anybody
        if _ZEROS in line:
            return
        entry = from_json(line, name=f"{path}, line {number},")
        if not isinstance(entry, dict):
            raise ArtifactError(f"{path}, line {number}, is no JSON object.")
        end += len(line) + 1
        yield end, entry

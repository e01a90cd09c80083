"""One owner per run folder: a lock that the system itself releases when its holder dies."""

import json
import os
import socket
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from accord.errors import ResourceError
from accord.runs._disk import disk_trouble, write_all

LOCK = "accord.lock"


class Lock:
    """Exclusive ownership of a folder while held. The file stays behind: it marks the folder as a run."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object owns the folder now."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Become the owner, or raise ResourceError naming who is: process, host and since when."""
        if find_spec("fcntl") is None:  # said here, where a run is written; to read one nothing of it is needed
            raise ResourceError(f"{self.path.parent} can't be locked: runs are written on Linux and macOS only.")
        with disk_trouble(self.path, 0):
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            self._lock(descriptor)
            self._sign(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; harmless when nothing is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        import fcntl

        with disk_trouble(self.path, 0):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ResourceError(
                    f"{self.path.parent} is in use by {_holder(descriptor)}.\n"
                    "Wait until it ends, stop it, or choose another --out."
                ) from error

    def _sign(self, descriptor: int) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        signature = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        with disk_trouble(self.path, 0):
            os.ftruncate(descriptor, 0)
            write_all(descriptor, json.dumps(signature).encode())


def _holder(descriptor: int) -> str:
    """Who signed the lock file; the holder may not have come so far yet."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"

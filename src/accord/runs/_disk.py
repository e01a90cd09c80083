"""Files that are either the old ones or the new ones, whatever happens while they are written."""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from accord.errors import ArtifactError, ResourceError

TEMPORARY = ".accord-tmp"


def write_atomic(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that a reader, now or after a crash, finds the old file or the new one, never a mixture.

    The bytes go to a neighbour with one fixed name (a killed writer leaves at most one), are forced to the disk, and
    take the real name only then. Raises ResourceError, with the old file intact, when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    with disk_trouble(path, len(data)):
        _check_room(path, len(data))
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
        except OSError:
            # what can't be removed now is removed by the next owner's sweep; the first error is the one to tell
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; the system may take a large block in pieces."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def make_folder(path: Path) -> None:
    """Make a folder that outlives a power cut; one that exists is left alone."""
    if not path.is_dir():
        with disk_trouble(path, 0):
            make_folder(path.parent)
            # another process may have made it since
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
            sync_folder(path.parent)


def remove(path: Path) -> None:
    """Remove a file if it is there, and make its absence last."""
    with disk_trouble(path, 0):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Force a folder's list of names to the disk; without it a power cut may undo a rename."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(root: Path) -> None:
    """Remove the temporary files that a killed writer left. Only the folder's owner may call this."""
    for leftover in list(root.rglob(f".*{TEMPORARY}")):
        with disk_trouble(leftover, 0):
            os.unlink(leftover)


def read_file(path: Path) -> bytes:
    """Read a whole file; ArtifactError names one that is missing or can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}.") from error


def sha256(data: bytes) -> str:
    """Fingerprint of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def disk_trouble(path: Path, needed: int) -> Iterator[None]:
    """Turn the system's refusal to write into a ResourceError that says how much was needed and how much is free."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"{path} could not be written: {error.strerror or error} ({_code(error)}).\n"
            f"  needed: {needed:,} bytes\n"
            f"  free:   {_free(path)}\n"
            f"What was there before is untouched. {_way_out(error)} or choose another --out, then go on with --resume."
        ) from error


def _check_room(path: Path, needed: int) -> None:
    usage = shutil.disk_usage(path.parent)
    # some file systems don't know their size and report none
    if usage.total and usage.free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _way_out(error: OSError) -> str:
    return "Make room" if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG} else "Mend this"


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown reason")


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,} bytes"
    except OSError:
        return "unknown"

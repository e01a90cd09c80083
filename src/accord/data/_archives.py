"""Unpacks an archive as it was downloaded: files and folders only, never beyond its folder, all of it or nothing."""

import gzip
import hashlib
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from tarfile import TarError
from typing import NamedTuple

from accord.data._names import bytes_of, check_relative, extension, is_ignored, printable
from accord.data._sources import MAX_DEPTH, MAX_ENTRIES, MAX_FILE_BYTES, MAX_RATIO, open_source
from accord.data._tar import members_of
from accord.errors import DataError, ImageError, ResourceError

Stages = Callable[[str, int, int], None]
ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
MARK = ".accord.json"
CHUNK = 2**20
_MAX_BYTES = 2**36
_MANY, _TINY = 1000, 64  # so many files of so few bytes on average hold no images
_DAMAGED = (TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError, OverflowError, ImageError)


class Member(NamedTuple):
    """One file of an archive: its path, size and bytes in pieces."""

    path: str
    size: int
    pieces: Iterator[bytes]


def archive_stem(path: Path) -> str | None:
    """The name of an archive without its ending, or None if it does not end like one."""
    ending = next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)
    return None if ending is None else path.name[: -len(ending)] or None


def unpack(archive: Path, *, sha256: str | None = None, told: Stages | None = None) -> Path:
    """Unpack a `.tgz`, `.tar.gz`, `.tar` or `.zip` beside itself and return the folder, named like the archive.

    Only regular files and folders are written. A link, a device, a sparse file, a path that leads out, two files of
    one name, or more entries or bytes than such an archive of images can hold refuse the whole archive, and so does
    damage. Everything goes to a hidden folder first and is renamed at the end: there is never half a data set. Hidden
    and system files are left out; modes, owners and times are not taken over.

    The archive's SHA-256 is compared with `sha256` if that is given, and written into the folder; when the archive is
    given again, the folder is used as it is. No checksum is built in: none could be checked against the files.
    `told(stage, done, total)` hears how far it is.

    Raises DataError for a refused or damaged archive, or a folder of that name that came from elsewhere;
    ResourceError if it can't be written.
    """
    archive = archive.absolute()
    stem = archive_stem(archive)
    who = f"data: the archive '{printable(archive.name)}'"
    if stem is None:
        raise DataError(f"{who} ends in none of {', '.join(ENDINGS)}. Unpack it yourself and give the folder.")
    target = archive.with_name(stem)
    if _is_fresh(archive, target, sha256):
        return target
    digest = check_sha256(archive, sha256, told)
    if os.path.lexists(target):
        return _reused(target, digest, who)
    try:
        _unpack_into(archive, target, digest, who, told)
    except OSError as error:
        raise ResourceError(
            f"{who} can't be unpacked into {printable(str(archive.parent))}: {error.strerror or error}.\n"
            "  Make room, or unpack it yourself and give the folder."
        ) from error
    return target


def check_sha256(archive: Path, wanted: str | None, told: Stages | None = None) -> str:
    """The SHA-256 of a file; DataError if another one is wanted."""
    digest, size, done = hashlib.sha256(), archive.stat().st_size, 0
    with archive.open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
            done += len(piece)
            if told is not None:
                told("checksum", done, size)
    found = digest.hexdigest()
    if wanted is not None and wanted.lower() != found:
        raise DataError(
            f"data: '{printable(archive.name)}' is not the archive that was expected. Fetch it anew.\n"
            f"  expected: {wanted.lower()}\n  came:     {found}"
        )
    return found


def _is_fresh(archive: Path, target: Path, sha256: str | None) -> bool:
    """Whether the folder was unpacked from this very file, by its size and time; no need to read it all again."""
    mark, facts = _mark(target), archive.stat()
    same = (mark.get("bytes"), mark.get("modified")) == (facts.st_size, facts.st_mtime_ns)
    return same and (sha256 is None or mark.get("sha256") == sha256.lower())


def _reused(target: Path, digest: str, who: str) -> Path:
    if _mark(target).get("sha256") == digest:
        return target
    why = "from another archive" if _mark(target) else "not by accord"
    raise DataError(
        f"{who} would become the folder {printable(target.name)}, which is there already and was unpacked {why}.\n"
        "  Give that folder instead of the archive, or move it away."
    )


def _mark(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or none of ours
        return {}
    return found if isinstance(found, dict) else {}


def was_unpacked(folder: Path) -> bool:
    """Whether a folder was made by `unpack`."""
    return bool(_mark(folder))


def _unpack_into(archive: Path, target: Path, digest: str, who: str, told: Stages | None) -> None:
    hidden = Path(tempfile.mkdtemp(prefix=f".{target.name[:64]}.", suffix=".part", dir=archive.parent))
    try:
        folder = hidden / target.name  # with the modes the user's folders have; the hidden one is for its owner alone
        folder.mkdir()
        _write_all(archive, folder, who, told)
        entries = list(folder.iterdir())
        if len(entries) == 1 and entries[0].name == target.name and entries[0].is_dir():
            folder = entries[0]  # the archive wraps its files in a folder of its own name
        facts = archive.stat()
        mark = {"archive": archive.name, "sha256": digest, "bytes": facts.st_size, "modified": facts.st_mtime_ns}
        (folder / MARK).write_text(json.dumps(mark), encoding="utf-8")
        try:
            folder.rename(target)
        except OSError:  # another process may have made it in the meantime
            if not target.is_dir():
                raise
            _reused(target, digest, who)
    except _DAMAGED as error:
        if isinstance(error, DataError) and not isinstance(error, ImageError):
            raise
        raise DataError(f"{who} is damaged or cut short. Fetch it anew.\n  {printable(str(error))}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _write_all(archive: Path, folder: Path, who: str, told: Stages | None) -> None:
    size = archive.stat().st_size
    files = written = 0
    writer = _Writer(folder, who)
    members = _zip_members(archive, told) if extension(archive.name) == ".zip" else _tar_members(archive, who, told)
    for member in members:
        check_member(member.path, member.size, who)
        files, written = files + 1, written + member.size
        if files > MAX_ENTRIES or written > min(_MAX_BYTES, MAX_RATIO * max(size, 2**20)) or _is_dust(files, written):
            raise DataError(
                f"{who} looks like a bomb and was not unpacked.\n"
                f"  {size} bytes had become {files} files of {written} bytes."
            )
        if not any(is_ignored(part) for part in member.path.split("/")):
            writer.write(member)


def _is_dust(files: int, written: int) -> bool:
    return files > _MANY and written < _TINY * files


def check_member(path: str, size: int, who: str) -> None:
    """Refuse a path that leads out, is too long or too deep, and a file that is too large."""
    check_relative(path.replace("\\", "/"), who)
    parts = [bytes_of(part) for part in path.split("/")]
    if len(bytes_of(path)) > 4096 or len(parts) > MAX_DEPTH or any(len(part) > 255 for part in parts):
        raise DataError(f"{who} holds a path that is too long or too deep: {printable(path[:80])} …")
    if size > MAX_FILE_BYTES:
        raise DataError(f"{who}: '{printable(path)}' holds {size} bytes; {MAX_FILE_BYTES} are allowed.")


class _Writer:
    """Writes files that must be new into folders that are really below a root."""

    def __init__(self, root: Path, who: str) -> None:
        self.root, self.who = os.path.realpath(root), who
        self._known = {self.root}

    def write(self, member: Member) -> None:
        """Write one file."""
        target = os.path.join(self.root, member.path)
        try:
            self._make_folder(os.path.dirname(target), member.path)
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise DataError(f"{self.who} holds '{printable(member.path)}' twice. Pack it again.") from None
        with open(handle, "wb") as file:
            for piece in member.pieces:
                file.write(piece)

    def _make_folder(self, folder: str, path: str) -> None:
        if folder in self._known:
            return
        os.makedirs(folder, exist_ok=True)
        if os.path.commonpath([self.root, os.path.realpath(folder)]) != self.root:  # we write no links; yet be sure
            raise DataError(f"{self.who}: '{printable(path)}' would be written outside its folder.")
        self._known.add(folder)


def _zip_members(archive: Path, told: Stages | None) -> Iterator[Member]:
    """The files of a zip, whose table of contents `open_source` has found harmless."""
    source = open_source(archive)
    files = source.listing().files
    for done, path in enumerate(files, start=1):
        data = source.read(path)
        yield Member(path, len(data), iter((data,)))
        if told is not None:
            told("unpacking", done, len(files))


def _tar_members(archive: Path, who: str, told: Stages | None) -> Iterator[Member]:
    """The files of a tar, compressed or not by its first bytes, whatever its name says."""
    size = archive.stat().st_size
    with archive.open("rb") as packed:
        magic = packed.read(2)
        packed.seek(0)
        stream: io.BufferedIOBase = gzip.GzipFile(fileobj=packed) if magic == b"\x1f\x8b" else packed
        cap = min(_MAX_BYTES, MAX_RATIO * max(size, 2**20))
        for path, length, pieces in members_of(stream, who, cap):
            yield Member(path, length, pieces)
            if told is not None:
                told("unpacking", packed.tell(), size)

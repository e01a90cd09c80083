"""Where the bytes of a data set come from: a folder, or a zip archive that is read in place and never unpacked."""

import errno
import os
import stat
import threading
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from accord.data._names import bytes_of, check_relative, is_ignored, printable, shown
from accord.errors import DataError, ImageError

MAX_FILE_BYTES = 256 * 2**20
MAX_ENTRIES = 2_000_000
MAX_RATIO = 100  # image files hardly shrink in an archive; what grows a hundredfold was made to
MAX_DEPTH = 32
# what zipfile and zlib raise of damaged bytes, beside an OSError where a broken table points to no place in the file;
# and, with NotImplementedError, of bytes that may be sound and are packed in a way that they don't know
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError)


class Listing(NamedTuple):
    """What lies under a root: relative paths of files and folders, and what was left out on the way."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Lists and reads the files of a data set. Reading may be called from several threads."""

    def listing(self) -> Listing: ...

    def read(self, path: str) -> bytes: ...


def open_source(root: Path, *, outside_links: bool = False) -> Source:
    """The folder or zip archive at `root`, ready to be listed and read."""
    if root.is_dir():
        return Folder(root, outside_links=outside_links)
    if not root.exists():
        raise DataError(
            f"data: there is nothing at '{printable(str(root))}'. Give a folder or a .zip archive of images."
        )
    if not _is_zip(root):
        if root.suffix.lower() == ".zip":
            raise DataError(
                f"data: '{printable(str(root))}' is no whole zip archive: damaged or cut short. Fetch it anew."
            )
        raise DataError(
            f"data: '{printable(str(root))}' is neither a folder nor a zip archive. Give a folder, or pack it as .zip."
        )
    facts = root.stat()
    return _cached_archive(root.resolve(), facts.st_mtime_ns, facts.st_size)


class Folder:
    """A folder on disk; links inside it are followed once, links that leave it only on request."""

    def __init__(self, root: Path, *, outside_links: bool = False) -> None:
        self.root, self.outside_links = root, outside_links

    def listing(self) -> Listing:
        """Every file and folder below the root, each once, hidden names and loops left out."""
        return _Walk(os.path.realpath(self.root), self.outside_links).run()

    def read(self, path: str) -> bytes:
        """The bytes of one file; pipes, devices and giants are refused before they are read."""
        check_relative(path, "data")
        try:
            # non-blocking, so that a pipe with an image's name can't hang the reader
            with open(os.open(self.root / path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise ImageError(f"{printable(path)}: this is not a regular file.")
                _check_size(path, facts.st_size)
                return file.read(MAX_FILE_BYTES)
        except OSError as error:
            reason = (
                "the file is gone" if isinstance(error, FileNotFoundError) else f"it can't be read ({error.strerror})"
            )
            raise ImageError(f"{printable(path)}: {reason}.") from error


class _Walk:
    """One pass over a folder tree: real folders first, then links, so that a link never takes a class's place."""

    def __init__(self, root: str, outside_links: bool) -> None:
        self.root, self.outside_links = root, outside_links
        self.files: list[str] = []
        self.folders: list[str] = []
        self.links: list[str] = []
        self.seen: set[tuple[int, int]] = set()
        self.left_out: dict[str, list[str]] = {}

    def run(self) -> Listing:
        self._visit("")
        while self.links:
            batch, self.links = sorted(self.links, key=bytes_of), []
            for link in batch:
                self._follow(link)
        notes = [f"{len(paths)} {why}: {shown(sorted(paths, key=bytes_of))}" for why, paths in self.left_out.items()]
        return Listing(tuple(sorted(self.files, key=bytes_of)), tuple(sorted(self.folders, key=bytes_of)), tuple(notes))

    def _skip(self, why: str, path: str) -> None:
        self.left_out.setdefault(why, []).append(path)

    def _visit(self, start: str) -> None:
        waiting = [start]
        while waiting:
            folder = waiting.pop()
            try:
                facts = os.stat(os.path.join(self.root, folder))
                if (facts.st_dev, facts.st_ino) in self.seen:
                    continue
                self.seen.add((facts.st_dev, facts.st_ino))
                with os.scandir(os.path.join(self.root, folder)) as entries:
                    found = list(entries)
            except OSError:
                self._skip("folders could not be opened", folder or ".")
                continue
            waiting += self._sort_out(folder, found, facts.st_dev)

    def _sort_out(self, folder: str, entries: list[os.DirEntry[str]], device: int) -> list[str]:
        deeper = []
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if is_ignored(entry.name):
                continue
            if entry.is_symlink():
                self.links.append(path)
            elif entry.is_dir(follow_symlinks=False):
                if path.count("/") >= MAX_DEPTH:
                    self._skip(f"folders lie deeper than {MAX_DEPTH} levels", path)
                    continue
                self.folders.append(path)
                deeper.append(path)
            elif entry.is_file(follow_symlinks=False):
                self.seen.add((device, entry.inode()))
                self.files.append(path)
        return deeper

    def _follow(self, link: str) -> None:
        target = os.path.realpath(os.path.join(self.root, link))
        inside = target == self.root or target.startswith(self.root.rstrip(os.sep) + os.sep)
        if not inside and not self.outside_links:
            return self._skip("links lead outside the folder and were not followed", link)
        try:
            facts = os.stat(target)
        except OSError:
            return self._skip("links lead nowhere", link)
        if (facts.st_dev, facts.st_ino) in self.seen:
            return self._skip("links lead to something that is already in the data set", link)
        if stat.S_ISDIR(facts.st_mode):
            self.folders.append(link)
            self._visit(link)
        elif stat.S_ISREG(facts.st_mode):
            self.seen.add((facts.st_dev, facts.st_ino))
            self.files.append(link)
        return None


@lru_cache(maxsize=8)
def _cached_archive(root: Path, modified: int, size: int) -> "Archive":
    """One opened archive per version of the file; reading its table of contents again costs more than an image."""
    return Archive(root)


class Archive:
    """A zip archive, read member by member in memory after its table of contents was found harmless."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(root)
        except (OSError, *_DAMAGE) as error:
            reason = _unread(error) or "is damaged. Pack it again"
            raise DataError(f"data: the zip archive '{printable(str(root))}' {reason}.") from error
        self._members = _checked_members(self._zip, root)

    def listing(self) -> Listing:
        """Every file and folder of the archive, hidden names left out."""
        kept = [path for path in self._members if not any(is_ignored(part) for part in path.rstrip("/").split("/"))]
        files = tuple(sorted((path for path in kept if not path.endswith("/")), key=bytes_of))
        folders = {path.rstrip("/") for path in kept if path.endswith("/")}
        for path in files:
            parts = path.split("/")
            folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        return Listing(files, tuple(sorted(folders, key=bytes_of)))

    def read(self, path: str) -> bytes:
        """The bytes of one member; its check sum is verified on the way."""
        try:
            member = self._members[path]
            with self._lock:  # ZipFile counts its open handles without one
                return self._zip.read(member)
        except KeyError as error:
            raise ImageError(f"{printable(path)}: the archive holds no such file.") from error
        except (OSError, *_DAMAGE) as error:
            raise ImageError(f"{printable(path)}: it {_unread(error) or 'is damaged inside the archive'}.") from error


def _is_zip(root: Path) -> bool:
    """Whether a file is a zip archive; one that may not be read is said to be that, and not to be something else."""
    try:
        if not root.is_file():  # a pipe would not let go of whoever opens it
            return False
        with root.open("rb") as file:
            return zipfile.is_zipfile(file)
    except OSError as error:
        raise DataError(f"data: '{printable(str(root))}' can't be read: {error.strerror}.") from error


def _unread(error: Exception) -> str | None:
    """What kept bytes from being read, if it was not that they are damaged; EINVAL is a seek to no place."""
    if isinstance(error, NotImplementedError):
        return "is packed in a way that can't be read here. Pack it again as a plain zip"
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return f"can't be read: {error.strerror}"
    return None


def _checked_members(archive: zipfile.ZipFile, root: Path) -> dict[str, zipfile.ZipInfo]:
    """Every member by its path, or a refusal: paths that leave, links, encryption, bombs, twins."""
    who = f"data: the zip archive '{printable(root.name)}'"
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        check_relative(info.orig_filename.replace("\\", "/"), who)
        _check_member(info, who)
        if info.filename in members:
            raise DataError(f"{who} holds '{printable(info.filename)}' twice. Pack it again.")
        members[info.filename] = info
    packed, unpacked = sum(i.compress_size for i in members.values()), sum(i.file_size for i in members.values())
    size = root.stat().st_size
    if packed > size or unpacked > MAX_RATIO * max(size, 2**20) or len(members) > MAX_ENTRIES:
        raise DataError(
            f"{who} looks like a bomb and was not opened.\n"
            f"  {len(members)} entries, {size} bytes that would become {unpacked}."
        )
    return members


def _check_member(info: zipfile.ZipInfo, who: str) -> None:
    """Refuse links, devices, encryption, rare compressions, giants and overlong names."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{who}: '{printable(info.filename)}' is a link or a device; only files and folders are read.")
    if info.flag_bits & 1:
        raise DataError(f"{who} is encrypted. Unpack it yourself and give the folder.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{who} uses an unusual compression. Pack it again as a plain zip.")
    if len(bytes_of(info.filename)) > 4096:
        raise DataError(f"{who} holds a path longer than 4096 bytes.")
    if info.file_size > MAX_FILE_BYTES:
        raise DataError(
            f"{who}: '{printable(info.filename)}' holds {info.file_size} bytes; {MAX_FILE_BYTES} are allowed."
        )


def _check_size(path: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{printable(path)}: the file holds {size} bytes; {MAX_FILE_BYTES} are allowed.")

"""Which names count as images, which are a system's litter, and how any name is shown in a message."""

from collections.abc import Iterable, Sequence

from accord.errors import DataError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".gif"}
)
_LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"})


def is_ignored(name: str) -> bool:
    """Whether one file or folder name is hidden or left behind by a system: `.DS_Store`, `._x.jpg`, `__MACOSX` …"""
    return name.startswith(".") or name.casefold() in _LITTER


def extension(path: str) -> str:
    """The lower-case ending of a path's last name with its dot, or nothing."""
    stem, dot, ending = path.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def bytes_of(name: str) -> bytes:
    """The bytes of a file name, the key of the one sorting order: no locale, no listing order, no machine."""
    return name.encode("utf-8", "surrogateescape")


def printable(name: str) -> str:
    """A name that can be written anywhere: control characters and undecodable bytes become escapes."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def shown(names: Iterable[str], limit: int = 5) -> str:
    """The first few names of a list in quotes, and how many more there are."""
    return listed([f"'{printable(name)}'" for name in names], limit)


def listed(entries: Sequence[str], limit: int = 5, *, between: str = ", ") -> str:
    """The first few entries as they are, and how many more there are; with a line break `between`, line by line."""
    more = f"{between.removeprefix(',')}and {len(entries) - limit} more" if len(entries) > limit else ""
    return between.join(entries[:limit]) + more


def check_relative(path: str, who: str) -> None:
    """Refuse a path that could lead out of its root: absolute, with `..`, a drive, a NUL, or none at all."""
    parts = path.split("/")
    drive = len(parts[0]) == 2 and parts[0][1] == ":"
    if "\0" in path or ".." in parts or parts[0] == "" or drive:
        raise DataError(
            f"{who}: the path '{printable(path)}' could lead outside the data set.\n"
            "  Only paths relative to its root, without '..', are read."
        )

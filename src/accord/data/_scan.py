"""Makes a manifest from a folder or a zip archive of images, and from the data sets that come with accord."""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from accord.data._layout import arrange
from accord.data._names import printable
from accord.data._sources import Source, open_source
from accord.errors import ImageError, UnknownNameError
from accord.types import Item, Manifest

Progress = Callable[[int, int], None]
WORKERS = min(4, os.cpu_count() or 1)

BUILTIN: Mapping[str, str] = MappingProxyType(
    {"objects": "148 everyday objects × 12 rendered views on clutter, 64 × 64 pixels, public domain (CC0)"}
)


def scan(
    root: Path | str,
    *,
    name: str | None = None,
    progress: Progress | None = None,
    outside_links: bool = False,
    fewest_classes: int = 2,
) -> Manifest:
    """List the images of a folder or `.zip` archive, one sub-folder per class.

    Items are sorted by the bytes of their path and numbered in that order, so every machine finds the same table.
    Each file's SHA-256 is taken; an unreadable one has none, and `readable` will say why. Hidden and system files are
    left out, links that leave the folder too unless `outside_links`; whatever was left out is said in `notes`.
    Folders named train, val and test at the top are read as splits where their classes differ, and as one pool where
    they are the same. An archive is never unpacked to disk. `progress` is called with (files done, files in all).

    Raises DataError, with what was found and what is expected, if there is no image or less than `fewest_classes`.
    """
    root = Path(root)
    source = open_source(root, outside_links=outside_links)
    layout = arrange(source.listing(), f"data: '{printable(str(root))}'", fewest_classes=fewest_classes)
    hashes = hashed(source, [row.path for row in layout.rows], progress)
    items = tuple(
        Item(number, row.path, row.label, sha256, row.split)
        for number, (row, sha256) in enumerate(zip(layout.rows, hashes, strict=True))
    )
    return Manifest(name or root.absolute().stem or "images", root.absolute(), items, layout.notes)


def builtin(name: str) -> Manifest:
    """A data set that comes with accord, read straight from its archive inside the package. See `BUILTIN`."""
    return scan(builtin_path(name), name=name)


def builtin_path(name: str) -> Path:
    """Where the archive of a data set that comes with accord lies."""
    if name not in BUILTIN:
        raise UnknownNameError("data set", name, BUILTIN)
    return Path(__file__).with_name(f"{name}.zip")


def hashed(source: Source, paths: list[str], progress: Progress | None) -> list[str]:
    """The SHA-256 of each file, in order; nothing for a file that can't be read."""
    hashes = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, value in enumerate(pool.map(lambda path: _hash(source, path), paths), start=1):
            hashes.append(value)
            if progress is not None:
                progress(done, len(paths))
    return hashes


def _hash(source: Source, path: str) -> str:
    try:
        return hashlib.sha256(source.read(path)).hexdigest()
    except ImageError:  # told, with its reason, by `readable` and `inspect_folder`, which look at every image
        return ""

"""Opens whatever a user points at: class folders, a published data set, a table, or an archive of any of these."""

import os
from collections.abc import Callable
from pathlib import Path

from accord.data._archives import Stages, archive_stem, check_sha256, unpack, was_unpacked
from accord.data._benchmarks import BENCHMARKS, find_benchmark, items_of, read_benchmark
from accord.data._entries import Entry, refuse_twins
from accord.data._findings import lookalikes, small_classes
from accord.data._groups import with_groups
from accord.data._names import EXTENSIONS, bytes_of, check_relative, extension, listed, printable
from accord.data._scan import Progress, hashed, scan
from accord.data._sources import Folder, Listing, open_source
from accord.data._tabular import TABLES, table_entries
from accord.errors import DataError, UnknownNameError, UsageError
from accord.types import Manifest

LAYOUTS = {
    "auto": "told by what is there: a table by its ending, a published set by its annotations, class folders else",
    "folders": "one folder per class, or such folders inside train, val and test",
    "table": "a .csv, .tsv or .parquet file with a path and a label in every row",
    **{name: benchmark.summary for name, benchmark in BENCHMARKS.items()},
}


def read_images(
    path: Path | str,
    *,
    layout: str = "auto",
    root: Path | str | None = None,
    boxes: bool = False,
    group: str = "",
    sha256: str | None = None,
    told: Stages | None = None,
    fewest_classes: int = 2,
) -> Manifest:
    """A manifest from class folders, a published data set, a table, or an archive (`.zip`, `.tar`, `.tgz`) of these.

    `layout` is a name of `LAYOUTS`. A zip is read in place; a tar is unpacked beside itself first, and so are the
    archives in a folder that holds archives and no images (see `unpack`). `root` is where the paths of a table start;
    without it, the table's own folder. `boxes` crops to the boxes of a published set, `group` reads groups from the
    paths (see `with_groups`), and `sha256` is what the archive must have. `told(stage, done, total)` hears how far it
    is. Every option given is used or refused.
    """
    path = Path(path).expanduser()
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    if layout == "table" or (layout == "auto" and path.suffix.lower() in TABLES and not path.is_dir()):
        _refuse_unused(boxes=(boxes, "a published data set"), sha256=(sha256, "an archive"))
        return with_groups(read_table(path, root=root, progress=_stage(told), fewest_classes=fewest_classes), group)
    _refuse_unused(root=(root, "a table"))
    path = unpacked(path, sha256, told)
    if layout == "auto":
        listing = open_source(path).listing()
        layout = find_benchmark(listing, f"data: '{printable(str(path))}'") or "folders"
    if layout == "folders":
        _refuse_unused(boxes=(boxes, "a published data set"))
        found = scan(path, progress=_stage(told), fewest_classes=fewest_classes)
    else:
        found = read_benchmark(path, layout, boxes=boxes, progress=_stage(told))
    return with_groups(found, group)


def read_table(
    path: Path | str,
    *,
    root: Path | str | None = None,
    progress: Progress | None = None,
    fewest_classes: int = 2,
) -> Manifest:
    """The images that a CSV or Parquet table names (columns: see `manifest_to_csv`), sorted by path.

    Paths are relative to `root`, a folder or a zip, by default the table's folder; absolute ones must lie below it.
    Raises DataError, naming the rows, for images that are not there, that are named twice, or whose SHA-256 is not the
    one written beside them.
    """
    path = Path(path).expanduser()
    who = f"data: the table '{printable(path.name)}'"
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{who}: a table ends in {', '.join(TABLES)}.")
    where = Path(root).expanduser().absolute() if root is not None else path.absolute().parent
    source = open_source(where)
    exists = _exists(where, None if isinstance(source, Folder) else source.listing())
    entries = [entry._replace(path=relative_path(entry, where, exists, who)) for entry in table_entries(path)]
    refuse_twins(entries, who)
    gone = [f"{entry.where}: {printable(entry.path)}" for entry in entries if not exists(entry.path)]
    _refuse_rows(gone, f"{who}: {len(gone)} of {len(entries)} images are not below {printable(str(where))}")
    if len({entry.label for entry in entries}) < fewest_classes:
        raise DataError(f"{who} names less than {fewest_classes} classes. At least so many are needed.")
    entries.sort(key=lambda entry: bytes_of(entry.path))
    hashes = hashed(source, [entry.path for entry in entries], progress)
    pairs = zip(entries, hashes, strict=True)
    other = [f"{entry.where}: {printable(entry.path)}" for entry, found in pairs if entry.sha256 not in ("", found)]
    _refuse_rows(other, f"{who}: {len(other)} images are not those of their sha256")
    labels = [entry.label for entry in entries]
    return Manifest(path.stem, where, items_of(entries, hashes), tuple(small_classes(labels) + lookalikes(labels)))


def _refuse_rows(wrong: list[str], why: str) -> None:
    if wrong:
        raise DataError(f"{why}.\n  " + listed(wrong, between="\n  "))


def _exists(root: Path, listing: Listing | None) -> Callable[[str], bool]:
    if listing is None:
        return lambda path: os.path.isfile(root / path)
    files = frozenset(listing.files)
    return lambda path: path in files


def relative_path(entry: Entry, root: Path, exists: Callable[[str], bool], who: str) -> str:
    """A path of a table relative to the root, with forward slashes."""
    path, start = entry.path, f"{str(root).rstrip('/')}/"
    if path.startswith("/") and not path.startswith(start):
        raise DataError(
            f"{who}, {entry.where}: {printable(path)} does not lie below {printable(str(root))}.\n"
            "  Say where the paths start: --set data.root=FOLDER"
        )
    path = path.removeprefix(start).removeprefix("./")
    check_relative(path, f"{who}, {entry.where}")
    turned = path.replace("\\", "/")  # a table made on Windows
    if turned != path and not exists(path):
        check_relative(turned, f"{who}, {entry.where}")
        return turned
    return path


def unpacked(path: Path, sha256: str | None, told: Stages | None) -> Path:
    """The folder or zip to read, after unpacking what can't be read in place."""
    if path.is_file() and archive_stem(path) is not None:
        if extension(path.name) != ".zip":
            return unpack(path, sha256=sha256, told=told)
        if sha256 is not None:
            check_sha256(path, sha256, told)
        return path
    _refuse_unused(sha256=(sha256, "an archive"))
    if path.is_dir():
        _unpack_inside(path, told)
    return path


def _unpack_inside(folder: Path, told: Stages | None) -> None:
    """Unpack the archives of a folder that holds no images yet, or some that were unpacked by an earlier call."""
    files = open_source(folder).listing().files
    archives = [folder / file for file in files if archive_stem(Path(file)) is not None and file.count("/") < 2]
    targets = [archive.with_name(archive_stem(archive) or "") for archive in archives]
    if any(extension(file) in EXTENSIONS for file in files) and not any(map(was_unpacked, targets)):
        return
    for archive in archives:
        unpack(archive, told=told)


def _stage(told: Stages | None) -> Progress | None:
    return None if told is None else lambda done, total: told("reading images", done, total)


def _refuse_unused(**options: tuple[object, str]) -> None:
    """Every option given is used or refused."""
    for name, (value, kind) in options.items():
        if value:
            raise UsageError(f"data.{name} is only for {kind}, and this is none.")

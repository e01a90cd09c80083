"""Looks at every image before anything depends on it: drops what can't be read, or says everything that is wrong."""

import statistics
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from accord.data._decode import Facts, decode, facts
from accord.data._names import bytes_of, printable, shown
from accord.data._scan import WORKERS, Progress, scan
from accord.data._sources import Source, open_source
from accord.data._split import check_leaks
from accord.errors import DataError, ImageError
from accord.types import Item, Json, Manifest

_PREVIEW = 64  # pixels; enough to read a JPEG to its end, at an eighth of the work


class Problem(NamedTuple):
    """One file that can't be used, and why."""

    path: str
    reason: str


def readable(
    manifest: Manifest, progress: Progress | None = None, *, max_share: float = 0.1, fewest_classes: int = 2
) -> tuple[Manifest, list[Problem]]:
    """The manifest without the images that can't be decoded, and the list of those, each with its reason.

    What was dropped is said in the notes; ids of the others stay. Raises DataError if more than `max_share` of the
    images, or so many that less than `fewest_classes` remain, can't be read: then the data set, not a file, is wrong.
    """
    looks = _examine(manifest, progress)
    problems = [look for look in looks if isinstance(look, Problem)]
    if not problems:
        return manifest, []
    kept = tuple(item for item, look in zip(manifest.items, looks, strict=True) if isinstance(look, Facts))
    listed = "\n".join(f"  {printable(problem.path)}: {problem.reason}" for problem in problems[:5])
    if len(problems) > max_share * len(manifest) or len({item.label for item in kept}) < fewest_classes:
        raise DataError(
            f"data: {len(problems)} of {len(manifest)} images can't be read; {max_share:.0%} may be left out.\n{listed}"
        )
    notes = [f"{len(problems)} images can't be read and were left out: {shown(problem.path for problem in problems)}"]
    gone = set(manifest.classes) - {item.label for item in kept}
    if gone:
        notes.append(f"{len(gone)} classes lost all their images: {shown(sorted(gone, key=bytes_of))}")
    return Manifest(manifest.name, manifest.root, kept, (*manifest.notes, *notes)), problems


def inspect_folder(root: Path | str, *, progress: Progress | None = None) -> Json:
    """Everything that can be said about a folder or archive of images before training on it.

    What it is made of, `inspect_manifest` says. A folder without usable layout is a problem with the path `.`.
    """
    try:
        manifest = scan(root)
    except DataError as error:
        return no_manifest(root, error)
    return inspect_manifest(manifest, progress=progress)


def no_manifest(root: Path | str, error: DataError) -> Json:
    """The report on images that can't even be listed."""
    return _report(str(root), problems=[Problem(".", str(error))])


def inspect_manifest(manifest: Manifest, *, progress: Progress | None = None) -> Json:
    """Everything that can be said about the images of a manifest before training on them.

    Keys: `root`, `images`, `classes`, `problems` (path and reason of every unusable file), `duplicates` (lists of paths
    with the same bytes), `conflicts` (those under different classes), `singletons` (classes with one image), `sizes`
    (shorter side in pixels: min, median, max), `per_class` (images: min, median, max), `formats`, `animated`, `notes`
    `splits` (images of each, if there are any), `roles`, `groups` (how many) and `ok`: true if it can be trained on
    and no file is unusable. Too few classes to be divided are a problem with the path `.`.
    """
    looks = _examine(manifest, progress)
    seen = [look for look in looks if isinstance(look, Facts)]
    sizes = Counter(item.label for item in manifest.items)
    return _report(
        str(manifest.root),
        images=len(manifest),
        classes=len(manifest.classes),
        problems=[look for look in looks if isinstance(look, Problem)] + _too_few(sizes),
        singletons=[label for label in manifest.classes if sizes[label] == 1],
        sizes=_spread([min(look.width, look.height) for look in seen]),
        per_class=_spread(list(sizes.values())),
        formats=dict(sorted(Counter(look.format for look in seen).items())),
        animated=[
            item.path for item, look in zip(manifest.items, looks, strict=True) if getattr(look, "frames", False)
        ],
        notes=list(manifest.notes),
        splits=_named(item.split for item in manifest.items),
        roles=_named(item.role for item in manifest.items),
        groups=len({item.group for item in manifest.items if item.group}),
        **_repeats(manifest),
    )


def _report(root: str, *, problems: list[Problem], **known: object) -> Json:
    empty: Json = {"images": 0, "classes": 0, "duplicates": [], "conflicts": [], "singletons": [], "sizes": {}}
    empty |= {"per_class": {}, "formats": {}, "animated": [], "notes": [], "splits": {}, "roles": {}, "groups": 0}
    listed = [problem._asdict() for problem in problems]
    return {"root": root, **empty, **known, "problems": listed, "ok": not problems}


def _too_few(sizes: Counter[str]) -> list[Problem]:
    """Whether there are classes enough to train on some and to be judged on others."""
    if len(sizes) < 4:
        return [Problem(".", f"{len(sizes)} classes are too few: 2 must train and 2 others judge what was learned.")]
    if sum(size > 1 for size in sizes.values()) < 3:
        return [
            Problem(".", "too few classes have two images: 2 are needed to train, and 1 to judge what was learned.")
        ]
    return []


def _repeats(manifest: Manifest) -> Json:
    """Groups of paths with equal bytes, wherever the folders put them."""
    one_side = Manifest("", manifest.root, tuple(item._replace(split=str(item.id)) for item in manifest.items))
    leaks = check_leaks(one_side)
    paths = {
        name: [[item["path"] for item in group["items"]] for group in leaks[name]] for name in ("across", "conflicts")
    }
    return {"duplicates": paths["across"], "conflicts": paths["conflicts"]}


def _named(names: Iterable[str]) -> Json:
    """How often each name occurs."""
    return dict(sorted(Counter(name for name in names if name).items()))


def _spread(numbers: list[int]) -> Json:
    if not numbers:
        return {}
    return {"min": min(numbers), "median": statistics.median(numbers), "max": max(numbers)}


def _examine(manifest: Manifest, progress: Progress | None) -> list[Facts | Problem]:
    source = open_source(manifest.root)
    looks = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for done, look in enumerate(pool.map(lambda item: _look(source, item), manifest.items), start=1):
            looks.append(look)
            if progress is not None:
                progress(done, len(manifest))
    return looks


def _look(source: Source, item: Item) -> Facts | Problem:
    """Decode one image to its end; its header's facts, or what is wrong with it."""
    try:
        data = source.read(item.path)
        picture = decode(data, name=item.path, at_least=_PREVIEW if item.box is None else 0)
        header = facts(data, name=item.path)
        if item.box is not None and (item.box[0] >= picture.width or item.box[1] >= picture.height):
            size = f"{picture.width} × {picture.height}"
            return Problem(item.path, f"the box {item.box} holds no pixel of the {size} image.")
        return header
    except ImageError as error:
        return Problem(item.path, str(error).removeprefix(f"{printable(item.path)}: "))

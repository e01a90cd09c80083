"""The images that pairs and triplets name, as a manifest whose classes are the groups that are linked."""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from accord.data._archives import Stages
from accord.data._entries import Entry
from accord.data._names import EXTENSIONS, bytes_of, extension, printable, shown
from accord.data._open import relative_path, unpacked
from accord.data._relations import Said, read_relations
from accord.data._scan import BUILTIN, builtin_path, hashed
from accord.data._sources import Folder, open_source
from accord.errors import DataError
from accord.losses import linked_labels
from accord.types import Item, Manifest, Pairs

FEWEST_GROUPS = 4  # two to train, and two others to judge
_SIDES = ("train", "validation", "test")
GROUPS_NOTE = (
    "groups of images said to belong together stand for classes; other images may belong together without being named"
)


def read_related(
    source: Path | str, relations: Path | str, *, sha256: str | None = None, told: Stages | None = None
) -> Manifest:
    """The images of a folder, archive or built-in set that a table of pairs or triplets names, sorted by path.

    `relations` is a table of paths relative to the source, see `read_relations`. An item's label is the group it is
    linked with, directly or by way of others, named after the group's first image; `relations` of the manifest are the
    table's, by item id, each once. Images in no row are left out, and a note says how many.

    Raises DataError, naming file, row and image, for an image that is not there, one that is related to itself, and two
    that are said to belong together in some rows and not to in others; and if less than 4 groups have two images.
    """
    file = Path(relations).expanduser()
    who = f"relations: '{printable(file.name)}'"
    rows = read_relations(file)
    root, name = _root(source, sha256, told)
    opened = open_source(root)
    files = opened.listing().files
    rows = _placed(rows, root, set(files), who, is_folder=isinstance(opened, Folder))
    paths = sorted({path for row in rows for path in (*(row.together or ()), *(row.apart or ()))}, key=bytes_of)
    labels = _groups(rows, paths, who)
    _refuse_contradictions(rows, dict(zip(paths, labels, strict=True)), who)
    _refuse_few(labels, who)
    progress = None if told is None else lambda done, total: told("reading images", done, total)
    hashes = hashed(opened, paths, progress)
    items = tuple(Item(number, *of) for number, of in enumerate(zip(paths, _names(paths, labels), hashes, strict=True)))
    ids = {path: number for number, path in enumerate(paths)}
    found = [tuple(ids[path] for path in row.images) for row in rows if row.images]
    kept = _each_once(found)
    notes = _notes(rows, found, kept, [path for path in files if extension(path) in EXTENSIONS and path not in ids])
    return Manifest(name, root, items, (GROUPS_NOTE, *notes), kept)


def split_related(manifest: Manifest, split: Callable[[Manifest], Manifest]) -> Manifest:
    """Let `split` divide the groups that are linked; an image that is only a negative goes where it is needed most.

    That is the side on which most of its triplets have their anchor, of equals the first of train, validation and test.
    It stays a group of its own, so no group is on two sides. Images that are in no relation to learn from go; a note
    says how many.
    """
    sizes = Counter(item.label for item in manifest.items)
    linked = tuple(item for item in manifest.items if sizes[item.label] > 1)
    divided = split(Manifest(manifest.name, manifest.root, linked, manifest.notes))
    sides = {item.id: item.split for item in divided.items}
    votes: dict[int, Counter[str]] = {}
    for anchor, *_, last in manifest.relations:
        if last not in sides:
            votes.setdefault(last, Counter())[sides[anchor]] += 1
    for item, counts in votes.items():
        sides[item] = max(_SIDES, key=lambda side: counts[side])
    items = tuple(item._replace(split=sides[item.id]) for item in manifest.items if item.id in sides)
    gone = len(manifest.items) - len(items)
    notes = [f"{gone:,} images are in no relation to learn from and were left out"] if gone else []
    return Manifest(manifest.name, manifest.root, items, (*divided.notes, *notes), manifest.relations)


def with_relations(manifest: Manifest, relations: Sequence[tuple[int, ...]]) -> Manifest:
    """The manifest with those relations whose items are all there and on one side of the split; a note counts the rest.

    Raises DataError if none is left to train on.
    """
    sides = {item.id: item.split for item in manifest.items}
    there = [relation for relation in relations if all(item in sides for item in relation)]
    kept = tuple(relation for relation in there if len({sides[item] for item in relation}) == 1)
    notes = []
    if len(there) < len(relations):
        notes.append(f"{len(relations) - len(there):,} relations were left out with the images they name")
    if len(kept) < len(there):
        notes.append(
            f"{len(there) - len(kept):,} of {len(there):,} triplets lie on two sides of the split by their negative "
            "and were left out"
        )
    if not any(sides[relation[0]] == "train" for relation in kept):
        raise DataError(
            f"relations: of {len(relations):,} none lies wholly on the training side of the split.\n"
            "  Choose a smaller share for the test (data.test) or another data.split_seed, or add rows."
        )
    return Manifest(manifest.name, manifest.root, manifest.items, (*manifest.notes, *notes), kept)


def _root(source: Path | str, sha256: str | None, told: Stages | None) -> tuple[Path, str]:
    if source in BUILTIN:
        return builtin_path(str(source)), str(source)
    path = unpacked(Path(source).expanduser(), sha256, told).absolute()
    return path, path.stem or "images"


def _placed(rows: list[Said], root: Path, files: set[str], who: str, *, is_folder: bool) -> list[Said]:
    """The rows with paths as the source has them; DataError for images that are not there or related to themselves."""
    known: dict[str, str] = {}
    gone: list[str] = []

    def place(path: str, where: str) -> str:
        if path not in known:
            exists: Callable[[str], bool] = files.__contains__
            known[path] = relative_path(Entry(path, "", where), root, exists, who)
            if known[path] not in files and not (is_folder and (root / known[path]).is_file()):
                gone.append(f"{where}: {printable(path)}")
        return known[path]

    placed = []
    for row in rows:
        together, apart = (
            None if two is None else (place(two[0], row.where), place(two[1], row.where)) for two in row[2:]
        )
        for two in (together, apart):
            if two is not None and two[0] == two[1]:
                raise DataError(f"{who}, {row.where}: '{printable(two[0])}' is related to itself; name another image.")
        placed.append(Said(row.where, tuple(known[path] for path in row.images), together, apart))
    if gone:
        more = [f"and {len(gone) - 5} more"] if gone[5:] else []
        raise DataError(
            f"{who}: {len(gone)} images are not in {printable(str(root))}. Paths are relative to it.\n  "
            + "\n  ".join(gone[:5] + more)
        )
    return placed


def _groups(rows: list[Said], paths: list[str], who: str) -> list[int]:
    """For each image the number of the first one it is linked with."""
    place = {path: number for number, path in enumerate(paths)}
    links = [(place[one], place[other]) for row in rows if row.together for one, other in [row.together]]
    if not links:
        raise DataError(f"{who}: no row says that two images belong together; there is nothing to learn.")
    anchors, others = torch.tensor(links, dtype=torch.int64).unbind(dim=1)
    found: list[int] = linked_labels(Pairs(anchors, others), len(paths)).tolist()
    return found


def _names(paths: list[str], labels: list[int]) -> list[str]:
    """Groups by the name of their first image, with its ending only where two would be called the same."""
    stems = {label: paths[label].removesuffix(f".{paths[label].rpartition('.')[2]}") for label in set(labels)}
    twice = {stem for stem, count in Counter(stems.values()).items() if count > 1}
    return [paths[label] if stems[label] in twice else stems[label] for label in labels]


def _refuse_contradictions(rows: list[Said], groups: dict[str, int], who: str) -> None:
    wrong = [row for row in rows if row.apart and groups[row.apart[0]] == groups[row.apart[1]]]
    if not wrong:
        return
    first = wrong[0]
    assert first.apart is not None
    one, other = first.apart
    chain = _chain(rows, one, other)
    more = f"\n  So do {len(wrong) - 1} more rows: {', '.join(row.where for row in wrong[1:6])}." if wrong[1:] else ""
    raise DataError(
        f"{who}, {first.where}: '{printable(one)}' and '{printable(other)}' are said not to belong together, but are "
        f"linked by {', '.join(chain)}.\n  Remove one of these rows.{more}"
    )


def _chain(rows: list[Said], start: str, end: str) -> list[str]:
    """The rows of a shortest way from one image to another."""
    links: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        if row.together:
            one, other = row.together
            links.setdefault(one, []).append((other, row.where))
            links.setdefault(other, []).append((one, row.where))
    came: dict[str, tuple[str, str]] = {start: (start, "")}
    waiting = deque([start])
    while end not in came:
        here = waiting.popleft()
        for there, where in links[here]:
            if there not in came:
                came[there] = here, where
                waiting.append(there)
    way = []
    while end != start:
        end, where = came[end]
        way.append(where)
    return way[::-1]


def _refuse_few(labels: list[int], who: str) -> None:
    sizes = Counter(labels)
    linked = sum(size > 1 for size in sizes.values())
    if linked >= FEWEST_GROUPS:
        return
    one = f"all {len(labels)} images are linked into one group" if len(sizes) == 1 else None
    what = one or f"{len(labels)} images make {linked} groups of two or more that belong together"
    raise DataError(
        f"{who}: {what}; at least {FEWEST_GROUPS} groups are needed, 2 to train and 2 others to judge.\n"
        "  Who belongs with one image of a group belongs with all of it: remove a row that links what does not belong "
        "together, or add rows with other images."
    )


def _each_once(found: list[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Each triplet once, and each pair, whichever of its images comes first."""
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    for relation in found:
        seen.setdefault(relation if len(relation) == 3 else (min(relation), max(relation)), relation)
    return tuple(seen.values())


def _notes(
    rows: list[Said], found: list[tuple[int, ...]], kept: Sequence[tuple[int, ...]], other: list[str]
) -> list[str]:
    kind = "triplets" if len(kept[0]) == 3 else "pairs"
    notes = [f"{len(kept):,} {kind} are learned from"]
    if len(kept) < len(found):
        notes.append(f"{len(found) - len(kept):,} rows that repeat another were left out")
    if len(found) < len(rows):
        notes.append(
            f"{len(rows) - len(found):,} pairs that don't belong together were only checked against the others"
        )
    if other:
        notes.append(f"{len(other):,} images are in no row and were left out: {shown(other)}")
    return notes

"""Reads a listing as classes and splits: one folder per class, or train/ and test/ folders that hold such folders."""

from typing import NamedTuple

from accord.data._findings import census, empty_folders, lookalikes, odd_endings, other_files, small_classes
from accord.data._names import EXTENSIONS, bytes_of, extension, printable, shown
from accord.data._sources import Listing
from accord.errors import DataError

EXPECTED = (
    "  Expected one folder per class, each with images of it:\n"
    "    root/cup/1.jpg  root/cup/2.jpg  root/lamp/1.jpg …\n"
    "  or the same inside root/train and root/test, with different classes in each."
)
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class Row(NamedTuple):
    """One image as the folders name it."""

    path: str
    label: str
    split: str = ""


class Layout(NamedTuple):
    """The images of a listing with their classes, and what a user should know about how they were read."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def arrange(listing: Listing, who: str, *, fewest_classes: int = 2) -> Layout:
    """Find the classes in a listing.

    The first folder below the root names the class; images in deeper folders belong to it too. A root that only wraps
    one other folder of classes is looked through. Top folders called train, val/validation and test are splits if each
    holds class folders (see `_split_layout`).
    """
    images = [path for path in listing.files if extension(path) in EXTENSIONS]
    notes = [*listing.notes, *other_files(listing.files)]
    if not images:
        raise DataError(f"{who}: found no image in {census(listing)}.\n{EXPECTED}")
    base = _wrapping(images)
    if base:
        notes.append(f"the classes were found inside the folder '{printable(base[:-1])}'")
    tops = _tops(images, base)
    if len(tops) > 1 and all(top.casefold() in SPLIT_NAMES for top in tops):
        rows, levels = _split_layout(images, base, tops, notes, who), 2
    else:
        rows, levels = _class_layout(images, base, tops, notes, who, fewest_classes), 1
    labels = [row.label for row in rows]
    notes += empty_folders(listing, images, base, levels) + odd_endings([row.path for row in rows])
    notes += small_classes(labels) + lookalikes(labels)
    return Layout(tuple(rows), tuple(notes))


def _tops(images: list[str], base: str) -> list[str]:
    """The folders directly below `base` that hold an image at any depth, in byte order."""
    inside = [path[len(base) :] for path in images if path.startswith(base)]
    return sorted({path.partition("/")[0] for path in inside if "/" in path}, key=bytes_of)


def _loose(images: list[str], base: str) -> list[str]:
    return [path for path in images if path.startswith(base) and "/" not in path[len(base) :]]


def _wrapping(images: list[str]) -> str:
    """The prefix of folders that merely wrap the class folders, as `photos/` or nothing."""
    base = ""
    while True:
        tops = _tops(images, base)
        if _loose(images, base) or len(tops) != 1:
            return base
        deeper = f"{base}{tops[0]}/"
        if _loose(images, deeper) or not _tops(images, deeper):
            return base
        base = deeper


def _class_layout(
    images: list[str], base: str, tops: list[str], notes: list[str], who: str, fewest_classes: int
) -> list[Row]:
    loose = _loose(images, base)
    if not tops:
        raise DataError(
            f"{who}: found {len(loose)} images that lie in no class folder ({shown(loose, 3)}).\n"
            f"  Sort them into one folder per class: the folder's name is the class.\n{EXPECTED}"
        )
    if len(tops) < fewest_classes:
        raise DataError(
            f"{who}: found only one class, {shown(tops)}, with {len(images) - len(loose)} images"
            f"{f', and {len(loose)} images beside it' if loose else ''}.\n"
            f"  At least two classes are needed to learn what differs.\n{EXPECTED}"
        )
    if loose:
        notes.append(f"{len(loose)} images lie beside the class folders and were left out: {shown(loose)}")
    start = len(base)
    return [Row(path, path[start:].partition("/")[0]) for path in images if "/" in path[start:]]


def _split_layout(images: list[str], base: str, tops: list[str], notes: list[str], who: str) -> list[Row]:
    """Read train/, val/ and test/ folders as splits if their classes differ; as one pool if they are the same."""
    roles = {top: SPLIT_NAMES[top.casefold()] for top in tops}
    if "train" not in roles.values() or len(set(roles.values())) < len(tops):
        raise DataError(f"{who}: found the folders {shown(tops)}, which are not one train and one test.\n{EXPECTED}")
    if "test" not in roles.values():  # a held-out set by another name
        roles = {top: "test" if role == "validation" else role for top, role in roles.items()}
    loose = [path for top in tops for path in _loose(images, f"{base}{top}/")]
    flat = [top for top in tops if not _tops(images, f"{base}{top}/")]
    if flat:
        raise DataError(f"{who}: the folders {shown(flat)} hold images but no class folders.\n{EXPECTED}")
    if loose:
        notes.append(f"{len(loose)} images lie beside the class folders and were left out: {shown(loose)}")
    lists = {roles[top]: set(_tops(images, f"{base}{top}/")) for top in tops}
    folded = _overlap(lists, notes, who)
    rows = []
    for path in images:
        top, _, rest = path[len(base) :].partition("/")
        if "/" in rest:
            rows.append(Row(path, rest.partition("/")[0], folded[roles[top]]))
    if len({row.label for row in rows}) < 2:
        raise DataError(f"{who}: found only one class, {shown({row.label for row in rows})}.\n{EXPECTED}")
    return rows


def _overlap(lists: dict[str, set[str]], notes: list[str], who: str) -> dict[str, str]:
    """Which split each folder becomes, after looking at the classes they share."""
    train, test = lists["train"], lists["test"]
    validation = lists.get("validation", set())
    roles = {role: role for role in lists}
    if train == test and validation <= train:
        notes.append(
            "the train and test folders hold the same classes; accord judges on classes never seen in training, "
            "so all images were put together and the split is drawn anew by class"
        )
        return dict.fromkeys(lists, "")
    if validation and validation == train:
        notes.append("the validation folder holds the classes of the train folder and was added to it")
        roles["validation"] = "train"
        validation = set()
    shared = (train & test) | (validation & (train | test))
    if shared:
        raise DataError(
            f"{who}: {len(shared)} classes are in more than one of the split folders: "
            f"{shown(sorted(shared, key=bytes_of))}.\n"
            "  accord judges on classes never seen in training. Move each class into one of the folders,\n"
            "  or put all class folders side by side and let accord draw the split."
        )
    return roles

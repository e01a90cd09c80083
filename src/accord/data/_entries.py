"""Images as an annotation names them, matched with the files that are there, and checked against published counts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil, floor
from typing import NamedTuple

from accord.data._findings import lookalikes, small_classes
from accord.data._names import EXTENSIONS, bytes_of, check_relative, extension, shown
from accord.data._sources import Listing
from accord.errors import DataError

Box = tuple[int, int, int, int]
Counts = Mapping[str, tuple[int, int]]


class Entry(NamedTuple):
    """One image as an annotation names it; `where` says in which file and line, for messages."""

    path: str
    label: str
    where: str
    split: str = ""
    group: str = ""
    box: Box | None = None
    role: str = ""
    sha256: str = ""


def outward(left: float, top: float, right: float, bottom: float) -> Box:
    """The smallest box of whole pixels that holds a box of fractions."""
    return floor(left), floor(top), ceil(right), ceil(bottom)


def present(entries: Sequence[Entry], listing: Listing, base: str, who: str) -> tuple[list[Entry], list[str]]:
    """The entries whose file is there, with their path from the root, in byte order; and notes on what is not.

    Annotations name images relative to a folder of their own. It is `base`, or wherever below the root most of the
    named images lie: archives are unpacked in more than one way.
    """
    refuse_twins(entries, who)
    files = set(listing.files)
    prefix = _prefix(entries, listing, base, files)
    placed = [entry._replace(path=prefix + entry.path) for entry in entries]
    kept = sorted((entry for entry in placed if entry.path in files), key=lambda entry: bytes_of(entry.path))
    if not kept:
        first = shown([entry.path for entry in entries], 3) or "none"
        raise DataError(f"{who}: none of the {len(entries)} images it names is there: {first}.")
    gone = [entry.path for entry in placed if entry.path not in files]
    notes = [f"{len(gone)} of {len(entries)} named images are not there: {shown(gone)}"] if gone else []
    named = {entry.path for entry in kept}
    other = [path for path in listing.files if extension(path) in EXTENSIONS and path not in named]
    if other:
        notes.append(f"{len(other)} images are not named by the annotations and were left out: {shown(other)}")
    labels = [entry.label for entry in kept]
    return kept, notes + small_classes(labels) + lookalikes(labels)


def refuse_twins(entries: Sequence[Entry], who: str) -> None:
    """DataError if two entries name one path, or one names a path that leads out."""
    first: dict[str, str] = {}
    for entry in entries:
        check_relative(entry.path, entry.where)
        earlier = first.setdefault(entry.path, entry.where)
        if earlier != entry.where:
            raise DataError(
                f"{who}: {entry.where} names {shown([entry.path])} again, after {earlier}.\n"
                "  Each image is one item; name it once."
            )


def _prefix(entries: Sequence[Entry], listing: Listing, base: str, files: set[str]) -> str:
    """The folder that the entries' paths start from: the one below which most of them are."""
    tops = {entry.path.partition("/")[0] for entry in entries if "/" in entry.path}
    folders = [folder for folder in listing.folders if folder.rpartition("/")[2] in tops]
    places = dict.fromkeys([base, "", *(folder[: len(folder) - len(folder.rpartition("/")[2])] for folder in folders)])
    few = entries[:: max(1, len(entries) // 200)]
    for some in (few, entries):  # all of them only if the few are just those that are not there
        best = max(places, key=lambda place: sum(place + entry.path in files for entry in some))
        if any(best + entry.path in files for entry in some):
            return best
    return base


def counted(entries: Sequence[Entry], published: Counts) -> list[str]:
    """A note if classes and images differ from what the authors published; `published` names a split, a role or all."""
    found = {name: [entry for entry in entries if name in ("all", entry.split, entry.role)] for name in published}
    differ = {
        name: (len(Counter(entry.label for entry in part)), len(part))
        for name, part in found.items()
        if (len(Counter(entry.label for entry in part)), len(part)) != published[name]
    }
    if not differ:
        return []
    expected = ", ".join(f"{name} {published[name][0]} classes and {published[name][1]} images" for name in differ)
    got = ", ".join(f"{name} {classes} and {images}" for name, (classes, images) in differ.items())
    return [f"these are not all the images that were published; expected: {expected}; got: {got}"]

"""Labelled Faces in the Wild: people as classes, and the lists of pairs by which verification is judged.

The layout is the one the authors published, written down from memory; the archives were not at hand.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from accord.data._entries import Entry
from accord.data._lines import Annotations, Line, lines_of
from accord.data._names import EXTENSIONS, extension, printable
from accord.data._sources import MAX_FILE_BYTES, Listing, open_source
from accord.errors import DataError
from accord.types import Manifest

_FACE = re.compile(r"(?:^|/)([^/]+)/\1_(\d{4,})\.[A-Za-z]+$")
_PEOPLE = {"train": "peopleDevTrain.txt", "test": "peopleDevTest.txt"}


class FacePairs(NamedTuple):
    """Pairs of images by item id, whether both show one person, and the fold each belongs to, counted from 0."""

    first: Int[Tensor, " pair"]
    second: Int[Tensor, " pair"]
    same: Bool[Tensor, " pair"]
    fold: Int[Tensor, " pair"]


def read_faces(files: Annotations, base: str, boxes: bool) -> list[Entry]:
    """`lfw/Name/Name_0001.jpg`. Where `peopleDevTrain.txt` and `peopleDevTest.txt` lie beside them, the people of the
    first train and those of the second are the unseen test; otherwise there is no published split."""
    sides = _sides(files)
    entries = []
    for path in files.listing.files:
        face = _FACE.search(path)
        if face is None or extension(path) not in EXTENSIONS:
            continue
        name = face[1]
        if sides and name not in sides:
            raise DataError(f"{files.who}: '{printable(path)}' shows nobody of {' and '.join(_PEOPLE.values())}.")
        entries.append(Entry(path, name, printable(path), sides.get(name, "")))
    return entries


def holds_faces(listing: Listing) -> bool:
    """Whether an image bears the name of its folder and a number, as LFW's do."""
    return any(map(names_a_face, listing.files))


def names_a_face(path: str) -> bool:
    """Whether a path is one of LFW's: a person's folder, and in it the name and a number, `Name/Name_0001.jpg`."""
    return _FACE.search(path) is not None


def read_pairs(manifest: Manifest, path: Path | str | None = None) -> FacePairs:
    """The pairs of `pairs.txt` (or `pairsDevTrain.txt`, `pairsDevTest.txt`) as item ids of an LFW manifest.

    The first line says how many folds there are (none: one) and how many pairs of each kind each of them holds; each
    fold then lists as many pairs of one person (`name n m`) and as many of two (`name n name m`): 10 × (300 + 300) for
    `pairs.txt`. Without `path` the file is looked for below the manifest's root, then beside it.

    Raises DataError with the file and line of anything else, and for a pair whose image is not in the manifest.
    """
    lines = _pair_lines(manifest, path)
    if not lines:
        raise DataError("pairs: the list of pairs is empty.")
    folds, each = _announced(lines[0])
    if len(lines) - 1 != 2 * folds * each:
        raise lines[0].wrong(f"{2 * folds * each} pairs are announced, but {len(lines) - 1} are listed")
    ids = {(face[1], int(face[2])): item.id for item in manifest.items if (face := _FACE.search(item.path))}
    rows = [_pair(line, number, each, ids) for number, line in enumerate(lines[1:])]
    first, second, same, fold = zip(*rows, strict=True)
    return FacePairs(torch.tensor(first), torch.tensor(second), torch.tensor(same), torch.tensor(fold))


def _pair(line: Line, number: int, each: int, ids: dict[tuple[str, int], int]) -> tuple[int, int, bool, int]:
    """One line of the list; each fold starts with the pairs of one person."""
    same = number % (2 * each) < each
    if same:
        name, left, right = line.fields("name", "n", "m")
        faces = [(name, line.whole(left, "n")), (name, line.whole(right, "m"))]
    else:
        name, left, other, right = line.fields("name", "n", "name", "m")
        faces = [(name, line.whole(left, "n")), (other, line.whole(right, "m"))]
        if name == other:
            raise line.wrong("this pair must show two people")
    for person, image in faces:
        if (person, image) not in ids:
            raise line.wrong(f"the image {printable(person)}/{printable(person)}_{image:04d} is not in the data set")
    return ids[faces[0]], ids[faces[1]], same, number // (2 * each)


def _announced(line: Line) -> tuple[int, int]:
    words = line.text.split()
    if len(words) not in (1, 2):
        raise line.wrong("the first line says how many folds there are and how many pairs each of them holds")
    numbers = [line.whole(word, "a count") for word in words]
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _pair_lines(manifest: Manifest, path: Path | str | None) -> list[Line]:
    if path is not None:
        return _lines_at(Path(path).expanduser())
    source = open_source(manifest.root)
    files = Annotations(source, source.listing(), "pairs")
    inside = files.find("pairs.txt")
    if inside is not None:
        return files.lines(inside)
    return _lines_at(manifest.root.parent / "pairs.txt")


def _lines_at(path: Path) -> list[Line]:
    try:
        with path.open("rb") as file:
            return lines_of(file.read(MAX_FILE_BYTES), str(path))
    except OSError as error:
        raise DataError(f"pairs: '{printable(str(path))}' can't be read ({error.strerror}). Give the list.") from None


def _sides(files: Annotations) -> dict[str, str]:
    """Train or test for each person, if both lists are there."""
    found = {split: files.find(name) for split, name in _PEOPLE.items()}
    sides: dict[str, str] = {}
    for split, path in found.items():
        if path is None or not all(found.values()):
            return {}
        for line, name in _people(files.lines(path)):
            if sides.setdefault(name, split) != split:
                raise line.wrong(f"'{printable(name)}' is in {_PEOPLE['train']}, too")
    return sides


def _people(lines: list[Line]) -> Iterator[tuple[Line, str]]:
    """A count, then as many lines of a name and how many images there are."""
    if not lines:
        return
    count = lines[0].whole(lines[0].text, "the number of people")
    if count != len(lines) - 1:
        raise lines[0].wrong(f"{count} people are announced, but {len(lines) - 1} are listed")
    for line in lines[1:]:
        name, images = line.fields("name", "images")
        line.whole(images, "the number of images")
        yield line, name

"""Manifests as JSON, the one numbering of classes, and the hash that names a data set."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from accord.data._names import bytes_of, check_relative, printable, shown
from accord.data._scan import BUILTIN, builtin_path
from accord.errors import DataError
from accord.types import Item, Json, Manifest

_VERSION = 1
_PACKAGED = "builtin:"


def manifest_to_json(manifest: Manifest) -> Json:
    """A manifest as plain JSON values.

    Undecodable bytes in names stay as lone surrogates, which JSON writes as `\\udc..` escapes when told to stay in
    ASCII (Python's default). A data set that comes with accord is named, not located, so that the text fits any
    machine.
    """
    packaged = {builtin_path(name): name for name in BUILTIN}
    name = packaged.get(manifest.root)
    return {
        "schema_version": _VERSION,
        "name": manifest.name,
        "root": f"{_PACKAGED}{name}" if name else str(manifest.root),
        "notes": list(manifest.notes),
        "items": [_item_to_json(item) for item in manifest.items],
        **({"relations": [list(relation) for relation in manifest.relations]} if manifest.relations else {}),
    }


def manifest_from_json(json: Json, root: Path | None = None) -> Manifest:
    """The manifest that `manifest_to_json` described, its root replaced by `root` where the files have moved.

    Raises DataError for another schema, a missing field, an id used twice or a path that leads out of the root.
    """
    try:
        if json["schema_version"] != _VERSION:
            raise DataError(f"manifest: schema version {json['schema_version']} is not {_VERSION}. Use a newer accord.")
        items = tuple(_item_from_json(entry) for entry in json["items"])
        written, name, notes = str(json["root"]), str(json["name"]), tuple(str(note) for note in json["notes"])
        relations = _relations_from_json(json.get("relations", []), {item.id for item in items})
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"manifest: this is not a manifest accord wrote ({type(error).__name__}: {error}).") from error
    if len({item.id for item in items}) < len(items):
        raise DataError("manifest: an id is used twice. Scan the images again.")
    if root is None:
        root = builtin_path(written.removeprefix(_PACKAGED)) if written.startswith(_PACKAGED) else Path(written)
    return Manifest(name, root, items, notes, relations)


def fingerprint(manifest: Manifest) -> str:
    """SHA-256 of what the data set is: paths, boxes, classes, contents and relations, whatever its place, split or
    numbering."""
    rows = sorted(bytes_of(f"{item.path}\0{item.label}\0{item.sha256}\0{item.box or ''}") for item in manifest.items)
    paths = {item.id: item.path for item in manifest.items} if manifest.relations else {}
    rows += sorted(bytes_of("\0".join(("", *(paths[item] for item in row)))) for row in manifest.relations)
    return hashlib.sha256(b"".join(rows)).hexdigest()


class ClassMap:
    """The one numbering of classes: a name's place in `names`. Saved with whatever was trained, compared on resume."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._numbers = {name: number for number, name in enumerate(self.names)}
        if len(self._numbers) < len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1}, key=bytes_of)
            raise DataError(f"classes: {shown(twice)} would have two numbers. Name each class once.")

    def number(self, label: str) -> int:
        """The number of one class; DataError if it is not in the table."""
        if label not in self._numbers:
            raise DataError(f"classes: '{printable(label)}' is not among the {len(self.names)} known classes.")
        return self._numbers[label]

    def numbers(self, manifest: Manifest) -> Int[Tensor, " item"]:
        """The class number of every item; DataError with the first five culprits if a class is not in the table."""
        strangers = [item for item in manifest.items if item.label not in self._numbers]
        if strangers:
            raise DataError(
                f"classes: {len(strangers)} items have a class that is not among the {len(self.names)} known ones: "
                f"{shown(dict.fromkeys(item.label for item in strangers))}.\n"
                f"  files: {shown([item.path for item in strangers])}"
            )
        return torch.tensor([self._numbers[item.label] for item in manifest.items], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassMap) and self.names == other.names

    def __hash__(self) -> int:
        return hash(self.names)


def _item_to_json(item: Item) -> Json:
    """Fields that hold nothing are left out."""
    return {key: value for key, value in item._asdict().items() if value or key == "id"}


def _item_from_json(entry: Json) -> Item:
    texts = {key: entry[key] for key in ("path", "label", "sha256", "split", "group", "role") if key in entry}
    if type(entry["id"]) is not int or not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("an item's id must be a whole number, its other fields texts")
    check_relative(texts["path"], "manifest")
    return Item(id=entry["id"], box=_box(entry.get("box")), **texts)


def _relations_from_json(rows: Sequence[Sequence[int]], known: set[int]) -> tuple[tuple[int, ...], ...]:
    relations = tuple(tuple(row) for row in rows)
    if len({len(row) for row in relations}) > 1 or not {len(row) for row in relations} <= {2, 3}:
        raise ValueError("relations must be pairs or triplets")
    if not known.issuperset(item for row in relations for item in row):
        raise ValueError("a relation is of an item that is not there")
    return relations


def _box(corners: Sequence[int] | None) -> tuple[int, int, int, int] | None:
    if corners is None:
        return None
    left, top, right, bottom = (int(corner) for corner in corners)
    return left, top, right, bottom

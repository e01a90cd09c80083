"""Makes what the engine judges out of any model's vectors: embeddings, labels, ids and groups, checked and numbered."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from accord.data import printable
from accord.errors import DataError
from accord.recipes.arrays import Source, open_array
from accord.recipes.columns import number, read_column
from accord.recipes.pair_list import PairList
from accord.recipes.tables import Wanted
from accord.types import Labelled

VECTORS = ("embeddings", "embedding", "vectors", "vector", "features")
COLUMNS = {
    "labels": ("label", "labels", "class"),
    "ids": ("id", "ids", "path"),
    "groups": ("group", "groups", "camera", "vendor"),
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Sources(NamedTuple):
    """Where the vectors of one side come from: the gallery's, or the queries'. Only the first two are needed."""

    embeddings: Source
    labels: Source
    ids: Source | None = None
    groups: Source | None = None


class Vectors(NamedTuple):
    """One side, ready for the engine; `groups` is None where none were given."""

    labelled: Labelled
    groups: Tensor | None


class Judged(NamedTuple):
    """What is judged: `labels` and `groups` index `class_names` and `group_names`.

    `item_names` says what an id was called where the ids were text; empty where they are numbers. `pairs` is a list to
    judge beside the rest.
    """

    gallery: Vectors
    queries: Vectors | None
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]
    item_names: Mapping[int, str]
    notes: tuple[str, ...]
    pairs: PairList | None = None


def read_vectors(gallery: Sources, queries: Sources | None = None) -> Judged:
    """Read gallery and queries and number their labels, groups and textual ids by one bijection each.

    Labels are what they are called: 5 in an array and 5 in a text file are one class, 5 and 05 are two. Names are
    numbered in the order of their bytes, whole numbers by their size. Queries without ids are taken for other items
    than those of the gallery.
    """
    sides = [("", gallery)] + ([("query_", queries)] if queries is not None else [])
    read = [_Side.read(prefix, source) for prefix, source in sides]
    if len(read) == 2 and read[0].embeddings.shape[1] != read[1].embeddings.shape[1]:
        raise DataError(
            "judge: queries and gallery must be equally wide; they come from one model.\n"
            f"  embeddings:       {tuple(read[0].embeddings.shape)}\n"
            f"  query_embeddings: {tuple(read[1].embeddings.shape)}"
        )
    class_names, labels = number([side.columns["labels"] for side in read])
    group_names, groups = _groups(read)
    item_names, ids = _ids(read)
    vectors = [
        Vectors(Labelled(side.embeddings, label, item), group)
        for side, label, item, group in zip(read, labels, ids, groups, strict=True)
    ]
    notes = tuple(note for side in read for note in side.notes)
    return Judged(vectors[0], vectors[1] if len(vectors) == 2 else None, class_names, group_names, item_names, notes)


class _Side(NamedTuple):
    """One side as it was read: embeddings, and columns of whole numbers or text."""

    prefix: str
    embeddings: Tensor
    columns: Mapping[str, np.ndarray]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, prefix: str, sources: Sources) -> "_Side":
        notes: list[str] = []
        embeddings = _embeddings(sources.embeddings, f"{prefix}embeddings", notes)
        columns = {}
        for name, source in zip(COLUMNS, sources[1:], strict=True):
            if source is None:
                continue
            what = f"{prefix}{name}"
            columns[name] = column = read_column(source, what, COLUMNS[name], notes)
            if len(column) != len(embeddings):
                header = " A .csv begins with a line of column names." if len(column) == len(embeddings) - 1 else ""
                raise DataError(
                    f"{what} must have one entry per embedding, but there are {len(column):,} for "
                    f"{len(embeddings):,} rows.{header}"
                )
        return cls(prefix, embeddings, columns, tuple(notes))


def _embeddings(source: Source, what: str, notes: list[str]) -> Tensor:
    found = open_array(source, Wanted(what, VECTORS, matrix=True))
    if isinstance(found, np.ndarray):
        found = _tensor(found, what)
    if found.ndim != 2 or not found.shape[1]:
        wish = "flatten what is beyond the first axis with E.reshape(len(E), -1)" if found.ndim > 2 else "one row each"
        raise DataError(f"{what} must be an (item, dim) table, not {tuple(found.shape)}: {wish}.")
    if not len(found):
        raise DataError(f"{what} hold no rows: there is nothing to judge.")
    if found.is_complex() or (found.is_floating_point() and found.dtype not in FLOATS):
        raise DataError(f"{what} must be real numbers, not {found.dtype}; save them with E.float().")
    if not found.is_floating_point():
        notes.append(f"{what} holds whole numbers ({str(found.dtype).removeprefix('torch.')}); their cosine is judged.")
        found = found.to(torch.float32)
    return found


def _tensor(array: np.ndarray, what: str) -> Tensor:
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise DataError(f"{what} must be real numbers, not {array.dtype}; save E.astype('float32').")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _groups(sides: Sequence[_Side]) -> tuple[tuple[str, ...], list[Tensor | None]]:
    given = [side.columns.get("groups") for side in sides]
    known = [column for column in given if column is not None]
    if len(known) not in (0, len(sides)):
        missing = "query_groups" if given[0] is not None else "groups"
        raise DataError(f"judge: groups must be given for queries and gallery alike; add {missing}.")
    names, numbered = number(known) if known else ((), [])
    return names, [*numbered] if known else [None] * len(sides)


def _ids(sides: Sequence[_Side]) -> tuple[dict[int, str], list[Tensor]]:
    """Whole numbers as they are; text numbered; where none are given, the row, and for queries the rows after these."""
    columns = [side.columns.get("ids") for side in sides]
    if len(sides) == 2 and columns[1] is not None and columns[0] is None:
        raise DataError("judge: query_ids say which items of the gallery the queries are; give ids, too.")
    if columns[0] is None:
        rows = len(sides[0].embeddings)
        return {}, [torch.arange(rows), *(torch.arange(rows, rows + len(side.embeddings)) for side in sides[1:])]
    if len(sides) == 2 and columns[1] is None:
        raise DataError("judge: ids were given for the gallery alone; give query_ids, too, or neither.")
    known = [column for column in columns if column is not None]
    for side, column in zip(sides, known, strict=True):
        _refuse_twice(column, f"{side.prefix}ids")
    if all(column.dtype.kind in "ib" or column.dtype == np.uint8 for column in known):
        return {}, [torch.from_numpy(column.astype(np.int64)) for column in known]
    names, numbered = number(known)
    return dict(enumerate(names)), numbered


def _refuse_twice(column: np.ndarray, what: str) -> None:
    values, counts = np.unique(column, return_counts=True)
    twice = values[counts > 1]
    if len(twice):
        shown = ", ".join(printable(str(value)) for value in twice[:5].tolist())
        raise DataError(
            f"{what} must be unique, but {len(twice)} are given more than once: {shown}.\n"
            "  An item is kept out of its own results by its id."
        )

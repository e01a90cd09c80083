"""Reads a column of labels, ids or groups as whole numbers or text, and numbers what it names by one bijection."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from accord.data import printable
from accord.errors import DataError
from accord.recipes.arrays import Source, open_array
from accord.recipes.tables import Wanted

# beyond these a whole number may have been rounded when it was stored as a float of that many bytes
EXACT = {2: 2**11, 4: 2**24, 8: 2**53}


def read_column(source: Source, what: str, names: tuple[str, ...], notes: list[str]) -> np.ndarray:
    """A column as whole numbers or text, with everything else refused and the fix named."""
    found = open_array(source, Wanted(what, names))
    if isinstance(found, Tensor):
        found = (found.double() if found.dtype == torch.bfloat16 else found).cpu().numpy()
    if found.ndim == 2:
        fix = ".reshape(-1)" if 1 in found.shape else ".argmax(axis=1), where they are one-hot"
        raise DataError(f"{what} must have one axis, not {found.shape}; save {what}{fix}.")
    if found.ndim != 1:
        raise DataError(f"{what} must have one axis and one entry per row, not the shape {found.shape}.")
    kind = found.dtype.kind
    if kind == "O":
        found = _of_objects(found, what)
    elif kind == "S":
        found = np.char.decode(found, "utf-8", "surrogateescape")
    elif kind == "f":
        found = _whole(found, what, notes)
    elif kind not in "iubU":
        raise DataError(f"{what} must be whole numbers or text, not {found.dtype}.")
    if found.dtype.kind == "U" and (found == "").any():
        raise DataError(
            f"{what}: row {int((found == '').argmax())} (counted from 0) is empty; every item needs a name."
        )
    return found


def _of_objects(column: np.ndarray, what: str) -> np.ndarray:
    """Text, or whole numbers too large for 64 bits; None, tuples and the like are refused."""
    for row, value in enumerate(column.tolist()):
        if not isinstance(value, str | int):
            raise DataError(f"{what}: row {row} holds {printable(repr(value)[:40])}; give whole numbers or text.")
    return np.asarray([str(value) for value in column.tolist()], dtype=np.str_)


def _whole(column: np.ndarray, what: str, notes: list[str]) -> np.ndarray:
    """Floats that are whole numbers and small enough not to have been rounded, as int64."""
    wrong = ~np.isfinite(column) | (column != np.floor(column))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{what} must be whole numbers or text, but row {row} holds {column[row]} ({column.dtype}).\n"
            f"  Save them as whole numbers: np.save('{what}.npy', {what}.astype('int64'))."
        )
    most = EXACT.get(column.dtype.itemsize, 2**53)
    if len(column) and np.abs(column).max() > most:
        raise DataError(
            f"{what} are {column.dtype}, which holds whole numbers exactly only up to {most:,}, but there are "
            f"some up to {np.abs(column).max():.0f}: different ones may have become equal.\n"
            f"  Save them anew from where they come from, as int64."
        )
    notes.append(f"{what} holds {column.dtype}; all are whole numbers and were taken as such.")
    return column.astype(np.int64)


def number(columns: Sequence[np.ndarray]) -> tuple[tuple[str, ...], list[Tensor]]:
    """Names in their one order, and each column as places in it."""
    found = [np.unique(column, return_inverse=True) for column in columns]
    texts = [[str(value) for value in values.tolist()] for values, _ in found]
    names = sorted({name for text in texts for name in text}, key=_key({name for text in texts for name in text}))
    place = {name: number for number, name in enumerate(names)}
    return tuple(names), [
        torch.from_numpy(np.asarray([place[name] for name in text], dtype=np.int64)[inverse.reshape(-1)])
        for text, (_, inverse) in zip(texts, found, strict=True)
    ]


def number_names(names: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """The different names in their one order, and each one's place in it."""
    known, (places,) = number([np.asarray(names, dtype=np.str_)])
    return known, places


def _key(names: set[str]) -> Callable[[str], Any]:
    if all(_is_whole(name) for name in names):
        return int
    return lambda name: name.encode("utf-8", "surrogatepass")


def _is_whole(name: str) -> bool:
    return len(name) < 40 and name.removeprefix("-").isdecimal() and str(int(name)) == name

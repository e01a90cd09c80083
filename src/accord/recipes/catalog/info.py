"""What the catalogue knows of a loss."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class LossInfo(NamedTuple):
    """One loss of the catalogue.

    `needs` lists what its constructor or its batches require: `classes` (dim and classes go to its constructor),
    `pairs` (two items of a class in every batch), `ranks` (it sorts, so large batches pay). `options` says what each
    option means, `presets` which values were published for which data set.
    """

    path: str
    family: str
    summary: str
    paper: str
    year: int
    needs: tuple[str, ...] = ()
    options: Mapping[str, str] = {}
    presets: Mapping[str, Mapping[str, Any]] = {}

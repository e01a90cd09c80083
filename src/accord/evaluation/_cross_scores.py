"""Exact cosine scores between two sets of items, tile by tile: a tile's size changes no bit."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from accord.errors import BatchError
from accord.evaluation._gallery import Items, gather
from accord.evaluation._scores import parts
from accord.types import Labelled

BUDGET_BYTES = 64 * 2**20


def some(who: str, name: str, labelled: Labelled) -> Items:
    """Checked items, at least one of them; a message calls them `name`."""
    if isinstance(labelled.embeddings, Tensor) and not labelled.embeddings.numel():
        raise BatchError(f"{who}: {name} holds no items.")
    return gather(f"{who}, {name}", labelled)


class Tile(NamedTuple):
    """How many rows and columns of scores are made at a time."""

    height: int
    width: int


def tile_of(budget_bytes: int, dim: int, *, per_row: int = 0) -> Tile:
    """The largest tile that fits into a budget; `per_row` counts numbers of eight bytes kept for each row beside it."""
    # side² scores in about eight copies (sums, masks, places), and the parts of both sides with their temporaries
    linear, square = 8 * 8 * dim, 8 * 8
    side = max(1, int((math.sqrt(linear**2 + 2 * square * budget_bytes) - linear) / (2 * square)))
    return Tile(max(1, min(side, budget_bytes // (16 * per_row + 1))), side)


def products(q: Items, k: Items, rows: slice, columns: slice) -> Float[Tensor, "row column"]:
    """Exact scores of some rows of `q` with some of `k`."""
    q_high, q_low = parts(q, rows)
    k_high, k_low = parts(k, columns)
    return q_high @ k_high.T + (q_high @ k_low.T + q_low @ k_high.T)


def tiles(
    q: Items, k: Items, tile: Tile, *, upper: bool = False
) -> Iterator[tuple[slice, slice, Float[Tensor, "row column"]]]:
    """Exact scores of all rows of `q` with all of `k`, tile by tile, row by row of tiles.

    With `upper` the tiles that lie wholly below the diagonal are left out.
    """
    for rows in _steps(len(q), tile.height):
        for columns in _steps(len(k), tile.width):
            if not upper or columns.stop > rows.start:
                yield rows, columns, products(q, k, rows, columns)


def _steps(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))

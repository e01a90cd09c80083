"""Exact cosine scores between two sets of items, tile by tile, with bits that depend on the two rows alone.

The arithmetic is that of `_scores`: unit rows are cut into a high and a low part whose products and sums fit into
float64 without rounding. So a tile's size changes no bit, and neither does the number of threads.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError, NumericError
from accord.geometry import full
from accord.types import Labelled

BUDGET_BYTES = 64 * 2**20
HIGH_BITS = 26
_SHOWN = 10


class Vectors(NamedTuple):
    """Embeddings of any length with their exact lengths; nothing is copied but half precision."""

    rows: Float[Tensor, "item dim"]
    lengths: Float[Tensor, " item"]

    def parts(self, chosen: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The high and low parts of some unit rows."""
        unit = self.rows[chosen].double() / self.lengths[chosen, None]
        # |Σ high · low| ≤ √dim · 2^(-HIGH_BITS - 1): the grid leaves 53 bits for it, twice over for the two mixed sums
        low_bits = 52 - math.ceil(math.log2(unit.shape[1]) / 2)
        high = _round(unit, HIGH_BITS)
        return high, _round(unit - high, low_bits)


def vectors(who: str, name: str, labelled: Labelled) -> Vectors:
    """Check items at the door: BatchError where shapes do not fit or ids repeat, NumericError naming bad rows' ids."""
    embeddings, labels, ids = labelled
    tensors = isinstance(embeddings, Tensor) and isinstance(ids, Tensor)
    if not tensors or ids.shape != embeddings.shape[:1] or ids.is_floating_point():
        wish = f"{name}: ids must be an integer tensor with one entry per embedding."
        raise BatchError(f"{who}: {wish}\n  embeddings: {describe(embeddings)}\n  ids:        {describe(ids)}")
    if not len(ids):
        raise BatchError(f"{who}: {name} holds no items.")
    check_finite(who, name, embeddings, ids)
    check_batch(who, embeddings, labels)
    values, counts = torch.unique(ids, return_counts=True)
    if len(values) < len(ids):
        raise BatchError(f"{who}: ids must be unique, but {name} repeats {_listed(values[counts > 1])}.")
    rows = full(embeddings.detach())
    lengths = torch.cat([_lengths(rows[part].double()) for part in _pieces(len(rows), rows.shape[1])])
    wrong = ids[~(lengths.isfinite() & (lengths > 0))]
    if len(wrong):
        raise NumericError(
            f"{who}: an embedding of length zero has no direction to compare, but {len(wrong)} of {len(ids)} items of "
            f"{name} have one: id {_listed(wrong)}.\nLook at these items and at what the model does to them."
        )
    return Vectors(rows, lengths)


def pair_products(
    q: Vectors, k: Vectors, rows: Int[Tensor, " pair"], columns: Int[Tensor, " pair"]
) -> Float[Tensor, " pair"]:
    """Exact scores of pairs: row number in `q`, row number in `k`."""
    scores = q.lengths.new_empty(len(rows))
    for part in _pieces(len(rows), 4 * q.rows.shape[1]):
        q_high, q_low = q.parts(rows[part])
        k_high, k_low = k.parts(columns[part])
        scores[part] = (q_high * k_high).sum(1) + k_low.mul_(q_high).addcmul_(q_low, k_high).sum(1)
    return scores


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


def products(q: Vectors, k: Vectors, rows: slice, columns: slice) -> Float[Tensor, "row column"]:
    """Exact scores of some rows of `q` with some of `k`."""
    q_high, q_low = q.parts(rows)
    k_high, k_low = k.parts(columns)
    return q_high @ k_high.T + (q_high @ k_low.T + q_low @ k_high.T)


def tiles(
    q: Vectors, k: Vectors, tile: Tile, *, upper: bool = False
) -> Iterator[tuple[slice, slice, Float[Tensor, "row column"]]]:
    """Exact scores of all rows of `q` with all of `k`, tile by tile, row by row of tiles.

    With `upper` the tiles that lie wholly below the diagonal are left out.
    """
    for rows in _steps(len(q.rows), tile.height):
        for columns in _steps(len(k.rows), tile.width):
            if not upper or columns.stop > rows.start:
                yield rows, columns, products(q, k, rows, columns)


def _steps(rows: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def _pieces(rows: int, columns: int) -> list[slice]:
    return list(_steps(rows, max(1, 2**19 // columns)))


def _lengths(rows: Tensor) -> Tensor:
    # scaled by the largest entry: squares of tiny or huge float64 entries would leave the range
    peak = rows.abs().amax(dim=1, keepdim=True)
    safe = peak.clamp_min(torch.finfo(torch.float64).tiny)
    lengths: Tensor = peak[:, 0] * torch.linalg.vector_norm(rows / safe, dim=1)
    return lengths


def _round(x: Tensor, bits: int) -> Tensor:
    # scaling by a power of two is exact
    return (x * 2.0**bits).round_().mul_(2.0**-bits)


def _listed(ids: Tensor) -> str:
    shown = ", ".join(map(str, ids[:_SHOWN].tolist()))
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")

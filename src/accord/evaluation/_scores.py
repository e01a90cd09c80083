"""Cosine scores whose bits depend on the two embeddings alone, not on blocks, threads or the order of a sum.

A unit row is cut into a high part, multiples of 2⁻²⁶, and a low part on a grid so fine that every product of parts, and
every sum of such products, fits into float64 without rounding. So it does not matter how a matrix product groups its
sums, and equal pairs of rows have equal scores. The product of two low parts (below dim · 2⁻⁵⁴) is left out.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.evaluation._gallery import Items, pieces
from accord.geometry import row_blocks

HIGH_BITS = 26
# Scores this close are tied: far above the error of an exact score, far below what a float32 embedding can mean.
TIE = 2.0**-40


def error_bound(dim: int) -> float:
    """How far a float32 product of two unit rows can be from the exact score, whatever the order of its sum."""
    return (dim + 8) * 2.0**-24


def close_bound(dim: int) -> float:
    """How far a score of `close_pairs` can be from the exact one."""
    return (dim + 16) * 2.0**-52


def close_pairs(
    queries: Items, rows: Int[Tensor, " pair"], items: Items, columns: Int[Tensor, " pair"]
) -> Float[Tensor, " pair"]:
    """Cosine scores of pairs in plain float64, which settle all but ties at a fraction of the cost of exact ones."""
    scores = items.norms.new_empty(len(rows))
    for part in pieces(len(rows), 2 * items.embeddings.shape[1]):
        asked, place = torch.unique_consecutive(rows[part], return_inverse=True)
        q = queries.embeddings[asked].double() / queries.norms[asked, None]
        k, norms = items.embeddings[columns[part]].double(), items.norms[columns[part]]
        if items.reading == "double":
            # tiny entries would leave the range
            k, norms = k / norms[:, None], torch.ones_like(norms)
        scores[part] = torch.linalg.vecdot(q[place], k) / norms
    return scores


def exact_pairs(
    queries: Items, rows: Int[Tensor, " pair"], items: Items, columns: Int[Tensor, " pair"]
) -> Float[Tensor, " pair"]:
    """Exact cosine scores of queries with items, given by row number; fast where equal `rows` stand together."""
    scores = items.norms.new_empty(len(rows))
    for part in pieces(len(rows), 4 * items.embeddings.shape[1]):
        asked, place = torch.unique_consecutive(rows[part], return_inverse=True)
        q_high, q_low = (table[place] for table in parts(queries, asked))
        k_high, k_low = parts(items, columns[part])
        scores[part] = (q_high * k_high).sum(1) + k_low.mul_(q_high).addcmul_(q_low, k_high).sum(1)
    return scores


def exact_rows(queries: Items, rows: Int[Tensor, " query"], items: Items) -> Float[Tensor, "query item"]:
    """Exact cosine scores of some queries with all items."""
    n, dim = items.embeddings.shape
    q_high, q_low = parts(queries, rows)
    scores = items.norms.new_empty(len(rows), n)
    everyone = torch.arange(n, device=rows.device)
    for part in row_blocks(n, 4 * dim, budget_bytes=2**23, itemsize=8):
        k_high, k_low = parts(items, everyone[part])
        scores[:, part] = q_high @ k_high.T + (q_high @ k_low.T + q_low @ k_high.T)
    return scores


def parts(items: Items, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
    """The high and low parts of some unit rows."""
    unit = items.embeddings[rows].double() / items.norms[rows, None]
    unit.masked_fill_(~items.sound[rows, None], 0)
    # |Σ high · low| ≤ √dim · 2^(-HIGH_BITS - 1): the grid leaves 53 bits for it, twice over for the two mixed sums
    low_bits = 52 - math.ceil(math.log2(unit.shape[1]) / 2)
    high = _round(unit, HIGH_BITS)
    return high, _round(unit - high, low_bits)


def _round(x: Tensor, bits: int) -> Tensor:
    # scaling by a power of two is exact
    return (x * 2.0**bits).round_().mul_(2.0**-bits)

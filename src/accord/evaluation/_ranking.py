"""The nearest items of every query, exact to the last tie, found block by block under a memory budget.

Fast float32 products only propose. A row's proposal is accepted when the rounding error bound proves that nothing is
missing; neighbours too close for float32 to order get exact scores; rows that can't be proved are done exactly. So
the result does not depend on block size, threads, or the precision the platform multiplies with.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.evaluation._gallery import Gallery
from accord.evaluation._scores import TIE, error_bound, exact_pairs, exact_rows
from accord.geometry import inner, row_blocks

BUDGET_BYTES = 32 * 2**20
# One exact pair costs about as much as this many entries of an exact row of scores (measured at 128 to 1,280 dims).
PAIR_COST = 16


class Ranked(NamedTuple):
    """Some queries (row numbers) with their nearest items, best first: float64 scores and row numbers.

    Holds every item that scores at least as high as the query's depth-th best other item, less a tie.
    """

    queries: Int[Tensor, " query"]
    scores: Float[Tensor, "query rank"]
    columns: Int[Tensor, "query rank"]


def rank(
    gallery: Gallery, queries: Int[Tensor, " query"], depths: Int[Tensor, " query"], *, budget_bytes: int = BUDGET_BYTES
) -> Iterator[Ranked]:
    """Yield the nearest items of each query, itself left out, complete to the query's depth with everything tied there.

    Queries come in groups and in any order. At most `budget_bytes` are used for scores at a time.
    """
    # queries of like depth together, so that one large class does not make every list long
    order = depths.argsort(stable=True)
    n = len(gallery.ids)
    for rows in row_blocks(len(order), 2 * n, budget_bytes=budget_bytes):
        block = queries[order[rows]]
        depth = min(int(depths[order[rows]].max()), n - 1)
        proved, group = _propose(gallery, block, depth)
        if len(group.queries):
            yield group
        rest = block[~proved]
        for part in row_blocks(len(rest), 4 * n, budget_bytes=budget_bytes, itemsize=8):
            yield _exactly(gallery, rest[part], depth)


def _propose(gallery: Gallery, queries: Tensor, depth: int) -> tuple[Bool[Tensor, " query"], Ranked]:
    """The queries whose neighbours float32 products can prove, and these neighbours."""
    width = min(len(gallery.ids) - 1, depth + max(8, depth // 4))
    fast = inner(gallery.unit[queries], gallery.unit)
    fast[torch.arange(len(queries)), queries] = -torch.inf
    top, columns = fast.topk(width)
    scores = top.double()
    doubt = 2 * error_bound(gallery.unit.shape[1]) + TIE
    proved = torch.full_like(queries, width == len(gallery.ids) - 1, dtype=torch.bool)
    proved |= scores[:, depth - 1] - scores[:, -1] > doubt
    close = scores[:, :-1] - scores[:, 1:] <= doubt
    unsettled = torch.zeros_like(scores, dtype=torch.bool)
    unsettled[:, 1:] |= close
    unsettled[:, :-1] |= close
    # the first column always, so that every row has its precision measured
    unsettled[:, 0] = True
    unsettled &= proved[:, None]
    if int(unsettled.sum()) * PAIR_COST > fast.numel():
        proved &= False
    else:
        sound = _settle(gallery, queries, columns, scores, unsettled)
        proved &= sound
    return proved, _sorted(queries[proved], scores[proved], columns[proved])


def _settle(gallery: Gallery, queries: Tensor, columns: Tensor, scores: Tensor, unsettled: Tensor) -> Tensor:
    """Write exact scores over the unsettled ones; tell whether the fast ones were as good as the bound says."""
    row, place = unsettled.nonzero(as_tuple=True)
    exact = exact_pairs(gallery, queries[row], columns[row, place])
    # a platform that multiplies in bfloat16 or TF32 breaks the bound, and is found out here
    sound = bool(((exact - scores[row, place]).abs() <= error_bound(gallery.unit.shape[1])).all())
    scores[row, place] = exact
    return torch.tensor(sound, device=scores.device)


def _exactly(gallery: Gallery, queries: Tensor, depth: int) -> Ranked:
    scores = exact_rows(gallery, queries)
    scores[torch.arange(len(queries)), queries] = -torch.inf
    last = scores.topk(depth).values[:, -1:]
    width = int((scores >= last - TIE).sum(dim=1).max())
    return _sorted(queries, *scores.topk(width))


def _sorted(queries: Tensor, scores: Tensor, columns: Tensor) -> Ranked:
    scores, order = scores.sort(dim=1, descending=True, stable=True)
    return Ranked(queries, scores, columns.gather(1, order))

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

from accord.evaluation._protocol import Problem
from accord.evaluation._scores import TIE, close_bound, close_pairs, error_bound, exact_pairs, exact_rows
from accord.evaluation._shortlist import CHUNK, Shortlist
from accord.geometry import quick_inner, row_blocks

BUDGET_BYTES = 64 * 2**20
# What ranking and judging hold at a time for each place of a list: measured, temporaries included.
PLACE_BYTES = 192
# One pair in double precision costs about as much as this many entries of an exact row of scores.
PAIR_COST = 8
# Blocks of scores are at most so many queries high: beyond, products gain nothing.
HIGH = 2048


class Ranked(NamedTuple):
    """Some queries (row numbers) with their nearest items, best first: float64 scores and row numbers.

    Holds every item that scores at least as high as the query's depth-th best one, less a tie; -inf where there are
    fewer. The order is beyond doubt between right and wrong items, among the first `fine` also between all classes, and
    among the first `ordered` between all items.
    """

    queries: Int[Tensor, " query"]
    scores: Float[Tensor, "query rank"]
    columns: Int[Tensor, "query rank"]


def rank(
    problem: Problem,
    queries: Int[Tensor, " query"],
    depths: Int[Tensor, " query"],
    *,
    fine: int = 1,
    ordered: int = 0,
    budget_bytes: int = BUDGET_BYTES,
) -> Iterator[Ranked]:
    """Yield the nearest items of each query, complete to the query's depth with everything tied there.

    Queries come in groups and in any order. Scores and lists take half of `budget_bytes`; the other half is for the
    numbers kept per item, for what products need and for what the allocator does not give back.
    """
    n, budget_bytes = len(problem.gallery), budget_bytes // 2
    depths = torch.minimum(depths, problem.found[queries]).clamp_min(1)
    deepest, care = int(depths.max()), (fine, ordered)
    if problem.within and 2 * len(queries) > n and n * _width(deepest, n) * 12 <= budget_bytes / 2:
        shortlist = _mirrored(problem, _width(deepest, n), budget_bytes // 2)
        yield from _finish(problem, queries, depths, shortlist, queries, care, budget_bytes // 2)
        return
    # queries of like depth together, so that one large class does not make every list long
    order = depths.argsort(stable=True)
    high = max(1, min(HIGH, budget_bytes // (96 * _width(deepest, n)), budget_bytes // (16 * CHUNK)))
    for start in range(0, len(order), high):
        block = order[start : start + high]
        shortlist = _swept(problem, queries[block], _width(int(depths[block].max()), n), budget_bytes // 4)
        rows = torch.arange(len(block), device=block.device)
        yield from _finish(problem, queries[block], depths[block], shortlist, rows, care, budget_bytes // 2)


def _width(depth: int, items: int) -> int:
    return min(items, depth + max(8, depth // 4))


def fast_scores(problem: Problem, rows: Int[Tensor, " query"], unit: Tensor, columns: slice) -> Tensor:
    """Fast scores of queries, whose unit rows are given, with items; -inf for what they leave out or can't find."""
    gallery = problem.gallery
    scores = quick_inner(unit, gallery.unit(columns))
    barred = problem.barred(rows, columns)
    if barred is not None:
        scores.masked_fill_(barred, -torch.inf)
    own = problem.own[rows] - columns.start
    here = ((own >= 0) & (own < scores.shape[1])).nonzero()[:, 0]
    scores[here, own[here]] = -torch.inf
    if not bool(gallery.sound[columns].all()):
        scores[:, ~gallery.sound[columns]] = -torch.inf
    return scores


def _swept(problem: Problem, queries: Tensor, width: int, budget_bytes: int) -> Shortlist:
    """The shortlists of some queries: one block of items after another."""
    shortlist = Shortlist(len(queries), width, queries.device)
    unit = problem.queries.unit(queries)
    for columns in strips(len(problem.gallery), len(queries), unit.shape[1], budget_bytes):
        shortlist.offer(slice(None), fast_scores(problem, queries, unit, columns), columns.start)
    return shortlist


def strips(items: int, queries: int, dim: int, budget_bytes: int) -> list[slice]:
    """Consecutive slices of items whose scores with so many queries, and whose unit rows, keep within the budget."""
    size = max(CHUNK, budget_bytes // (4 * queries + 8 * dim) // CHUNK * CHUNK)
    return [slice(start, min(start + size, items)) for start in range(0, items, size)]


def _mirrored(problem: Problem, width: int, budget_bytes: int) -> Shortlist:
    """The shortlists of all items among themselves: each product serves both sides, which halves the cost."""
    n = len(problem.gallery)
    shortlist = Shortlist(n, width, problem.own.device)
    size = max(CHUNK, min(HIGH, int((budget_bytes / 8) ** 0.5) // CHUNK * CHUNK))
    strips = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    for rows in strips:
        everyone = torch.arange(rows.start, rows.stop, device=problem.own.device)
        unit = problem.gallery.unit(rows)
        # itself first: then all others need only be better than what is known
        for columns in [rows, *strips[rows.start // size + 1 :]]:
            scores = fast_scores(problem, everyone, unit, columns)
            scores.masked_fill_(~problem.gallery.sound[rows, None], -torch.inf)
            shortlist.offer(rows, scores, columns.start)
            if columns != rows:
                shortlist.offer_across(columns, scores, rows.start)
    return shortlist


def _finish(
    problem: Problem,
    queries: Tensor,
    depths: Tensor,
    shortlist: Shortlist,
    places: Tensor,
    care: tuple[int, int],
    budget_bytes: int,
) -> Iterator[Ranked]:
    """Prove and settle the shortlists of some queries, which stand at `places`; do exactly those that can't be."""
    n, width = len(problem.gallery), shortlist.scores.shape[1]
    for part in row_blocks(len(queries), width, budget_bytes=budget_bytes, itemsize=PLACE_BYTES):
        block, depth = queries[part], depths[part]
        proved, group = _prove(problem, block, depth, shortlist, places[part], care)
        if len(group.queries):
            yield group
        rest, deep = block[~proved], depth[~proved]
        for rows in row_blocks(len(rest), 4 * n, budget_bytes=budget_bytes, itemsize=8):
            yield from _exactly(problem, rest[rows], deep[rows], budget_bytes // 2)


def _prove(
    problem: Problem, queries: Tensor, depths: Tensor, shortlist: Shortlist, places: Tensor, care: tuple[int, int]
) -> tuple[Bool[Tensor, " query"], Ranked]:
    """The queries whose neighbours float32 products can prove, and these neighbours."""
    n, dim = problem.gallery.embeddings.shape
    top, order = shortlist.scores[places].sort(dim=1, descending=True)
    scores, columns = top.double(), shortlist.columns[places].gather(1, order).long()
    doubt = 2 * error_bound(dim) + TIE
    last = scores.gather(1, depths[:, None] - 1)[:, 0]
    proved = (last - scores[:, -1] > doubt) | (scores.shape[1] == n)
    proved &= problem.queries.sound[queries]
    unsettled = _doubtful(problem, queries, scores, columns, doubt, care) & proved[:, None]
    if int(unsettled.sum()) * PAIR_COST > len(queries) * n:
        proved &= False
    else:
        proved &= torch.tensor(_settle(problem, queries, columns, scores, unsettled), device=proved.device)
    return proved, _sorted(queries[proved], scores[proved], columns[proved])


def _doubtful(
    problem: Problem, queries: Tensor, scores: Tensor, columns: Tensor, doubt: float, care: tuple[int, int]
) -> Bool[Tensor, "query rank"]:
    """Which places stand in a run of near-equal scores whose order matters: of right and wrong, or among the first."""
    fine, ordered = care
    first = torch.zeros_like(scores, dtype=torch.bool)
    first[:, 0] = True  # always, so that every row has its precision measured
    apart = ~(scores[:, :-1] - scores[:, 1:] <= doubt)
    run = torch.nn.functional.pad(apart.cumsum(dim=1), (1, 0))
    classes = problem.classes[columns]
    right = classes == problem.query_classes[queries, None]
    # a change of side inside a run, or of class where the first few are concerned
    changes = right[:, 1:] != right[:, :-1]
    changes[:, :fine] |= (classes[:, 1:] != classes[:, :-1])[:, :fine]
    changes[:, :ordered] = True
    changes &= ~apart
    mixed = torch.zeros_like(run).scatter_add_(1, run[:, 1:], changes.long()) > 0
    return (mixed.gather(1, run) | first) & scores.isfinite()


def _settle(problem: Problem, queries: Tensor, columns: Tensor, scores: Tensor, unsettled: Tensor) -> bool:
    """Put better scores over the unsettled ones, exact ones where they tie, and order all rows by what is known now.

    Returns whether the fast scores were as good as the bound says.
    """
    dim = problem.gallery.embeddings.shape[1]
    row, place = unsettled.nonzero(as_tuple=True)
    close = close_pairs(problem.queries, queries[row], problem.gallery, columns[row, place])
    # a platform that multiplies in bfloat16 or TF32 breaks the bound, and is found out here
    sound = bool(((close - scores[row, place]).abs() <= error_bound(dim)).all())
    scores[row, place] = close
    order = scores.argsort(dim=1, descending=True, stable=True)
    for table in (scores, columns, unsettled):
        table.copy_(table.gather(1, order))
    near = unsettled[:, :-1] & unsettled[:, 1:] & (scores[:, :-1] - scores[:, 1:] <= TIE + 2 * close_bound(dim))
    tied = torch.nn.functional.pad(near, (1, 0)) | torch.nn.functional.pad(near, (0, 1))
    row, place = tied.nonzero(as_tuple=True)
    scores[row, place] = exact_pairs(problem.queries, queries[row], problem.gallery, columns[row, place])
    return sound


def _exactly(problem: Problem, queries: Tensor, depths: Tensor, budget_bytes: int) -> Iterator[Ranked]:
    scores = exact_rows(problem.queries, queries, problem.gallery)
    hide(problem, queries, scores)
    width = min(int(depths.max()), scores.shape[1])
    last = scores.topk(width).values.gather(1, depths[:, None] - 1)
    # as wide as its ties: of constant embeddings, everything
    width = int((scores >= last - TIE).sum(dim=1).max())
    for part in row_blocks(len(queries), width, budget_bytes=budget_bytes, itemsize=PLACE_BYTES):
        yield _sorted(queries[part], *scores[part].topk(width))


def hide(problem: Problem, queries: Tensor, scores: Tensor) -> None:
    """Write -inf over whole rows of scores where a query leaves an item out or can't find it."""
    everything = slice(0, scores.shape[1])
    barred = problem.barred(queries, everything)
    if barred is not None:
        scores.masked_fill_(barred, -torch.inf)
    own = problem.own[queries]
    here = (own >= 0).nonzero()[:, 0]
    scores[here, own[here]] = -torch.inf
    scores.masked_fill_(~problem.gallery.sound, -torch.inf)


def _sorted(queries: Tensor, scores: Tensor, columns: Tensor) -> Ranked:
    # items by number first: the order of equal scores must not depend on how they were found
    columns, order = columns.sort(dim=1)
    scores, again = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return Ranked(queries, scores, columns.gather(1, again))

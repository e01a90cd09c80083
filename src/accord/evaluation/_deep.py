"""The rank of the first right item however deep it stands, by counting what scores higher; nothing is sorted."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.evaluation._protocol import Problem
from accord.evaluation._ranking import HIGH, PAIR_COST, fast_scores, hide, strips
from accord.evaluation._scores import TIE, error_bound, exact_pairs, exact_rows
from accord.geometry import row_blocks


def first_ranks(
    problem: Problem, queries: Int[Tensor, " query"], *, budget_bytes: int
) -> tuple[Float[Tensor, " query"], Float[Tensor, " query"]]:
    """For each query (by row number) the rank of its first right item with ties against it, and with ties for it.

    Every query must have a right item to find. Three passes: the best right score by fast products, then exactly, then
    the count of wrong items above it, where only those within rounding error are scored exactly.
    """
    worst, best = (torch.empty(len(queries), dtype=torch.float64, device=queries.device) for _ in range(2))
    budget_bytes //= 2  # as in `rank`
    high = max(32, min(HIGH, budget_bytes // 2**14))
    for start in range(0, len(queries), high):
        rows = slice(start, start + high)
        worst[rows], best[rows] = _ranks(problem, queries[rows], budget_bytes)
    return worst, best


def _ranks(problem: Problem, queries: Tensor, budget_bytes: int) -> tuple[Tensor, Tensor]:
    bound = error_bound(problem.gallery.embeddings.shape[1])
    top = torch.full((len(queries),), -torch.inf, device=queries.device)
    for scores, right, _ in _strips(problem, queries, budget_bytes):
        top = torch.maximum(top, scores.masked_fill(~right, -torch.inf).amax(dim=1))
    first = torch.full_like(top, -torch.inf, dtype=torch.float64)
    sound, work = True, 0
    for scores, right, columns in _strips(problem, queries, budget_bytes):
        row, column = (right & (scores >= top[:, None] - (2 * bound + TIE))).nonzero(as_tuple=True)
        exact = exact_pairs(problem.queries, queries[row], problem.gallery, column + columns.start)
        sound &= bool(((exact - scores[row, column]).abs() <= bound).all())
        first.scatter_reduce_(0, row, exact, "amax")
        work += len(row)
    above, tied = (torch.zeros_like(first) for _ in range(2))
    for scores, right, columns in _strips(problem, queries, budget_bytes):
        wrong = ~right & scores.isfinite()
        near = wrong & ((scores - first[:, None]).abs() <= bound + TIE)
        row, column = near.nonzero(as_tuple=True)
        work += len(row)
        if not sound or work * PAIR_COST > 4 * len(queries) * len(problem.gallery):
            return _exactly(problem, queries, budget_bytes)
        above += (wrong & ~near & (scores > first[:, None])).sum(dim=1)
        exact = exact_pairs(problem.queries, queries[row], problem.gallery, column + columns.start)
        above.index_add_(0, row, (exact > first[row] + TIE).double())
        tied.index_add_(0, row, ((exact - first[row]).abs() <= TIE).double())
    return above + tied + 1, above + 1


def _strips(problem: Problem, queries: Tensor, budget_bytes: int) -> Iterator[tuple[Tensor, Tensor, slice]]:
    unit, own = problem.queries.unit(queries), problem.query_classes[queries, None]
    for columns in strips(len(problem.gallery), 8 * len(queries), unit.shape[1], budget_bytes):
        scores = fast_scores(problem, queries, unit, columns)
        yield scores, (problem.classes[columns] == own) & scores.isfinite(), columns


def _exactly(problem: Problem, queries: Tensor, budget_bytes: int) -> tuple[Tensor, Tensor]:
    ranks = []
    for part in row_blocks(len(queries), 4 * len(problem.gallery), budget_bytes=budget_bytes, itemsize=8):
        scores = exact_rows(problem.queries, queries[part], problem.gallery)
        hide(problem, queries[part], scores)
        right = (problem.classes == problem.query_classes[queries[part], None]) & scores.isfinite()
        first = scores.masked_fill(~right, -torch.inf).amax(dim=1, keepdim=True)
        wrong = ~right & scores.isfinite()
        ranks.append([(wrong & (scores >= first - TIE)).sum(1) + 1, (wrong & (scores > first + TIE)).sum(1) + 1])
    worst, best = zip(*ranks, strict=True)
    return torch.cat(worst).double(), torch.cat(best).double()

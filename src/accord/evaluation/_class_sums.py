"""Scores summed class by class as whole numbers, so that no order of adding changes a digit, and drawn again."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_finite, describe
from accord.errors import BatchError
from accord.evaluation._student import expanded_tail
from accord.geometry import row_blocks


class ClassSums(NamedTuple):
    """For each run the sum over each class in whole multiples of 2^-`bits`, kept as float64; `sizes` counts queries.

    `bits` is so small that any sum over classes drawn with replacement, and over runs, stays below 2^53: it is exact,
    whatever the order, the number of threads and the machine. Rounding moves a mean by less than 1e-9.
    """

    sums: Float[Tensor, "run class"]
    sizes: Float[Tensor, " class"]
    bits: int


def class_sums(who: str, per_query: Float[Tensor, "run query"], query_labels: Int[Tensor, " query"]) -> ClassSums:
    """Sum the scores of each run class by class; BatchError and NumericError where they can't be."""
    if per_query.shape[1:] != query_labels.shape or not per_query.numel():
        shapes = f"  per_query:    {describe(per_query)}\n  query_labels: {describe(query_labels)}"
        raise BatchError(f"{who}: give one label per query, and at least one query.\n{shapes}")
    groups, counts = torch.unique(query_labels.cpu(), return_inverse=True, return_counts=True)[1:]
    values = per_query.detach().cpu().double()
    check_finite(who, "per_query", values)
    largest = len(counts) * int(counts.max()) * len(values) * max(1e-300, float(values.abs().max()))
    bits = 52 - math.frexp(largest)[1]
    whole = torch.ldexp(values, torch.tensor(bits)).round().to(torch.int64)
    sums = whole.new_zeros(len(values), len(counts)).index_add_(1, groups, whole)
    return ClassSums(sums.double(), counts.double(), bits)


def drawn_means(
    table: ClassSums, weights: Sequence[Float[Tensor, "draw run"]], *, generator: torch.Generator
) -> list[Float[Tensor, " draw"]]:
    """Draw classes with replacement once per row; for each of `weights` the mean over its weighted runs.

    A weight says how often a draw takes a run. All means of a row rest on the same classes.
    """
    draws, classes = len(weights[0]), len(table.sizes)
    means = [torch.empty(draws, dtype=torch.float64) for _ in weights]
    columns = torch.cat([table.sums, table.sizes[None]]).T
    for part in row_blocks(draws, 3 * classes, itemsize=8):
        picks = torch.randint(classes, (part.stop - part.start, classes), generator=generator)
        times = torch.zeros(picks.shape, dtype=torch.float64)
        times.scatter_add_(1, picks, torch.ones((), dtype=torch.float64).expand(picks.shape))
        *totals, queries = (times @ columns).unbind(dim=1)
        for mean, weight in zip(means, weights, strict=True):
            drawn = weight[part]
            summed = (torch.stack(totals, dim=1) * drawn).sum(dim=1)
            mean[part] = torch.ldexp(summed / (drawn.sum(dim=1) * queries), torch.tensor(-table.bits))
    return means


def interval(means: Float[Tensor, " draw"], classes: int) -> tuple[float, float]:
    """The expanded 95 % percentile interval of drawn means: see `expanded_tail`. One class tells nothing: NaN."""
    if classes < 2:
        return math.nan, math.nan
    ordered = means.sort().values.tolist()
    tail = expanded_tail(classes)
    return _at(ordered, tail), _at(ordered, 1 - tail)


def _at(ordered: list[float], share: float) -> float:
    """The quantile of sorted numbers at place share · (n + 1), linear between two, within the smallest and the largest.

    In plain floats, so that it is the same everywhere; places counted from the middle of n - 1 gaps would lie too far
    inside where tails are thin and draws few.
    """
    place = min(max(share * (len(ordered) + 1) - 1, 0.0), len(ordered) - 1.0)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])

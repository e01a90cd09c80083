"""Two methods held against each other on the same queries: how far apart, how sure, and how likely by chance."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, check_flag, describe
from accord.errors import BatchError
from accord.evaluation._class_sums import ClassSums, class_sums, drawn_means, interval
from accord.evaluation._two_way import correction, parts_of
from accord.geometry import row_blocks

EXACT_CLASSES = 14

Scores = Float[Tensor, "seed query"]


def two_level_bootstrap(
    scores: Scores,
    query_labels: Int[Tensor, " query"],
    *,
    draws: int = 10_000,
    generator: torch.Generator,
) -> tuple[float, float]:
    """A 95 % interval for the mean of a method over its seeds: what other seeds and other classes would have given.

    `scores` holds one row per seed, all for the same queries. Each draw takes seeds and classes again with
    replacement, each class with all its queries (Owen 2007, "The pigeonhole bootstrap"); the interval is the expanded
    percentile one of `class_bootstrap`, its reach corrected for what drawing both counts too often (`correction`). One
    seed says nothing of seeds: the interval is then over classes alone.
    """
    check_count("two_level_bootstrap", "draws", draws)
    table = class_sums("two_level_bootstrap", scores, query_labels)
    (means,) = drawn_means(table, [_seeds(len(scores), draws, generator)], generator=generator)
    return _shrunk(interval(means, len(table.sizes)), table, [table.sums])


def paired_bootstrap(
    first: Scores,
    second: Float[Tensor, "other query"],
    query_labels: Int[Tensor, " query"],
    *,
    paired: bool = False,
    draws: int = 10_000,
    generator: torch.Generator,
) -> tuple[float, float]:
    """A 95 % interval for the mean of `first` minus the mean of `second`, over other seeds and other classes.

    Both hold one row per seed for the same queries, and every draw gives both methods the same classes. `paired` says
    that rows of equal place share their seed: they are then drawn together, and there must be as many of them. See
    `two_level_bootstrap`; where one side has one seed, its seeds are not covered.

    BatchError when shapes do not fit, NumericError for scores that are not finite.
    """
    who = "paired_bootstrap"
    check_count(who, "draws", draws)
    check_flag(who, "paired", paired)
    _check_sides(who, first, second)
    if paired and len(first) != len(second):
        raise BatchError(f"{who}: paired methods must have as many seeds.\n{_shapes(first, second)}")
    table = class_sums(who, torch.cat([first.double(), second.double()]), query_labels)
    ours = _seeds(len(first), draws, generator)
    theirs = ours if paired else _seeds(len(second), draws, generator)
    none = [torch.zeros(draws, len(rows), dtype=torch.float64) for rows in (first, second)]
    weights = [torch.cat([ours, none[1]], dim=1), torch.cat([none[0], theirs], dim=1)]
    mean, other = drawn_means(table, weights, generator=generator)
    first_sums, second_sums = table.sums[: len(first)], table.sums[len(first) :]
    methods = [first_sums - second_sums] if paired else [first_sums, -second_sums]
    return _shrunk(interval(mean - other, len(table.sizes)), table, methods)


def sign_flip(
    first: Scores,
    second: Float[Tensor, "other query"],
    query_labels: Int[Tensor, " query"],
    *,
    draws: int = 10_000,
    generator: torch.Generator,
) -> float:
    """How likely a difference of means this large is by chance: the two-sided p-value of flipping whole classes.

    If the methods were alike, each class could as well have favoured the other one. With up to `EXACT_CLASSES` = 14
    classes all sign patterns are counted; with more, `draws` random ones, and the observed one among them:
    (hits + 1) / (draws + 1) (Phipson and Smyth 2010, eq. 2). Fewer than six classes can't give p < 0.05. Seeds are
    averaged first, so what a seed changes in all classes at once is not seen here but by `paired_bootstrap`.
    """
    check_count("sign_flip", "draws", draws)
    _check_sides("sign_flip", first, second)
    sums = class_sums("sign_flip", (_mean(first) - _mean(second))[None], query_labels).sums[0]
    observed, classes = sums.sum().abs(), len(sums)
    if classes <= EXACT_CLASSES:
        patterns = torch.arange(2**classes)[:, None] >> torch.arange(classes) & 1
        return float(((_signs(patterns) @ sums).abs() >= observed).double().mean())
    hits = 0
    for part in row_blocks(draws, 2 * classes, itemsize=8):
        patterns = torch.randint(2, (part.stop - part.start, classes), generator=generator)
        hits += int(((_signs(patterns) @ sums).abs() >= observed).sum())
    return (hits + 1) / (draws + 1)


def _shrunk(bounds: tuple[float, float], table: ClassSums, methods: list[Tensor]) -> tuple[float, float]:
    """The interval without what drawing seeds and classes together counts too often: see `correction`."""
    if len(table.sizes) < 2:
        return bounds
    queries = math.fsum(table.sizes.tolist())
    centre = math.fsum(
        math.ldexp(math.fsum(method.flatten().tolist()) / (len(method) * queries), -table.bits) for method in methods
    )
    factor = correction(parts_of(methods, table.sizes), len(table.sizes))
    low, high = (centre + factor * (bound - centre) for bound in bounds)
    return low, high


def _mean(scores: Scores) -> Float[Tensor, " query"]:
    """Over seeds, added one after another: the same bits everywhere."""
    total = scores[0].double()
    for row in scores[1:]:
        total = total + row
    return total / len(scores)


def _signs(patterns: Int[Tensor, "draw class"]) -> Float[Tensor, "draw class"]:
    return patterns.double().mul_(2).sub_(1)


def _seeds(runs: int, draws: int, generator: torch.Generator) -> Float[Tensor, "draw run"]:
    """How often each draw takes each run."""
    picks = torch.randint(runs, (draws, runs), generator=generator)
    once = torch.ones(draws, runs, dtype=torch.float64)
    return torch.zeros_like(once).scatter_add_(1, picks, once)


def _check_sides(who: str, first: Tensor, second: Tensor) -> None:
    if first.shape[1:] != second.shape[1:] or not len(first) or not len(second):
        raise BatchError(f"{who}: both methods must be judged on the same queries.\n{_shapes(first, second)}")


def _shapes(first: Tensor, second: Tensor) -> str:
    return f"  first:  {describe(first)}\n  second: {describe(second)}"

"""What may be said of a comparison: Holm's correction, fixed words, ranks over data sets, and luck with many looks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_count, check_range, describe
from accord.errors import BatchError, UsageError

BAR_POINTS = 0.5
SIGNIFICANCE = 0.05
MOST_LOOKS = 10**9


class Verdict(NamedTuple):
    """`word` is `better`, `worse` or `no difference shown`; `sentence` is what a reader is told."""

    word: str
    sentence: str


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for how many were looked at, so that one false alarm among all stays below 5 % (Holm 1979).

    The smallest is multiplied by their number, the next by one less and so on; none falls below a smaller one's, none
    exceeds 1. The order is kept.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    for p in p_values:
        check_range("holm", "p_values", p, low=0.0, high=1.0)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def verdict(difference: float, low: float, high: float, p: float, *, bar_points: float = BAR_POINTS) -> Verdict:
    """The fixed words for a difference of two methods, given as a fraction with its interval and corrected p-value.

    `better` or `worse` only if the interval leaves out 0 and p < 0.05; beyond that, a difference smaller than
    `bar_points` percentage points is said to be so. An interval that is NaN shows nothing.

    >>> verdict(0.031, 0.012, 0.05, 0.001).sentence
    'better'
    >>> verdict(0.003, 0.001, 0.005, 0.001).sentence
    'better, but less than the bar of 0.5 points'
    >>> verdict(0.003, -0.011, 0.017, 0.6).sentence
    'no difference shown (could be between −1.1 and +1.7 points)'
    """
    check_range("verdict", "bar_points", bar_points, low=0.0, high=100.0)
    if (low > 0 or high < 0) and p < SIGNIFICANCE:
        word = "better" if low > 0 else "worse"
        small = abs(difference) * 100 < bar_points
        return Verdict(word, f"{word}, but less than the bar of {bar_points:g} points" if small else word)
    word = "no difference shown"
    if math.isnan(low):
        return Verdict(word, f"{word} (one class tells nothing)")
    sentence = f"{word} (could be between {_points(low)} and {_points(high)} points)"
    if -bar_points < 100 * low and 100 * high < bar_points:
        sentence += f"; any is less than the bar of {bar_points:g} points"
    return Verdict(word, sentence)


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}".replace("-", "−")


def average_ranks(scores: Float[Tensor, "data method"]) -> Float[Tensor, " method"]:
    """The mean place of each method over several data sets, 1 the best; equals share the mean of their places.

    Percentages of different data sets have no common scale, so places are averaged and not scores (Demšar 2006,
    section 3.2.2).

    >>> average_ranks(torch.tensor([[0.9, 0.8, 0.8], [0.4, 0.6, 0.5]])).tolist()
    [2.0, 1.75, 2.25]
    """
    if scores.dim() != 2 or not scores.numel() or bool(scores.isnan().any()):
        raise BatchError(f"average_ranks: give one score per data set and method, none missing: {describe(scores)}")
    above = (scores[:, None, :] > scores[:, :, None]).sum(dim=2)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(dim=2)
    return (above + (equal + 1) / 2).double().mean(dim=0)


def expected_optimism(looks: int, deviation: float) -> float:
    """How much the best of several equal models is expected to look better than it is, from luck alone.

    It is the mean of the largest of `looks` normal numbers with the standard `deviation`, which is what seeds alone
    change: 10, 40 and 100 looks at 0.4 points give 0.62, 0.86 and 1.00 points.
    """
    check_count("expected_optimism", "looks", looks, high=MOST_LOOKS)
    if not (math.isfinite(deviation) and deviation >= 0):
        raise UsageError(f"expected_optimism: deviation must be a finite number ≥ 0, not {deviation}.")
    if looks == 1:
        return 0.0
    x = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    below = torch.special.ndtr(x)
    density = looks * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi) * below ** (looks - 1)
    # rounded, so that it is the same number on every machine
    return round(float(torch.trapezoid(x * density, x)), 9) * deviation

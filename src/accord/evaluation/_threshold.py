"""A threshold for production: set for a wanted false-accept rate, with the interval of what it does."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, check_finite, check_range, describe
from accord.errors import BatchError, DataError
from accord.evaluation._statistics import class_bootstrap
from accord.evaluation._steps import most_allowed, most_needed

TAIL = 0.025


class Rate(NamedTuple):
    """It happened so many `times` of `total`: that `share`, with a 95 % interval."""

    times: int
    total: int
    share: float
    interval: tuple[float, float]


class Threshold(NamedTuple):
    """Where to say "same" and, if asked for, where to say "different"; what lies between is "unsure".

    `same_above`: scores of at least this are accepted. `different_below`: scores under this are rejected, the rest is
    unsure; equal to `same_above` where both rates hold without a gap, None if no false-reject rate was wanted.
    `false_accepts` and `false_rejects` (genuine scores below the lower threshold) are what calibration saw.
    `accepted` is the share of genuine scores that are accepted.
    """

    same_above: float
    different_below: float | None
    far: float
    frr: float | None
    false_accepts: Rate
    false_rejects: Rate
    accepted: Rate


def calibrate(
    genuine: Float[Tensor, " genuine"],
    impostors: Float[Tensor, " impostor"],
    *,
    far: float = 0.01,
    frr: float | None = None,
    genuine_groups: Int[Tensor, " genuine"] | None = None,
    impostor_groups: Int[Tensor, " impostor"] | None = None,
    generator: torch.Generator | None = None,
) -> Threshold:
    """Set a threshold so that a new impostor is accepted with a chance of at most `far`.

    The threshold is the next float32 above the k-th highest impostor score, k = ⌊far · (impostors + 1)⌋: for impostors
    that are exchangeable with the ones given, the chance is then at most `far` on average over calibrations, whatever
    the distribution (split conformal prediction: Vovk, Gammerman, Shafer 2005, section 2.2). With `frr`,
    `different_below` is set in the same way from the lowest genuine scores.

    Two questions need two calls. For pairs, `genuine` and `impostors` are scores of pairs of one class and of two. For
    a search they are the best scores of queries whose class the gallery knows and of queries whose class it does not:
    the best of N strangers rises with N, so they must come from a gallery about as large as the one to be searched.

    Scores of one class are alike, so with groups (a class number per score) the intervals draw classes again and reach
    at least as far as those of Clopper and Pearson (1934), which are given without groups.

    Raises DataError where the impostors are fewer than 1/far - 1 (or the genuine fewer than 1/frr - 1): then no
    threshold keeps the promise; NumericError for scores that are not finite, UsageError for rates outside (0, 1).
    """
    check_range("calibrate", "far", far, low=0, high=1, open_low=True, open_high=True)
    _check_scores("genuine", genuine, genuine_groups)
    _check_scores("impostors", impostors, impostor_groups)
    # searches hand out float32 scores: the next of these, so that none is rounded onto the threshold
    highest = torch.tensor(_extreme(impostors, far, "far", "impostor"))
    same_above = float(torch.nextafter(highest, torch.tensor(torch.inf)))
    different_below = None
    if frr is not None:
        check_range("calibrate", "frr", frr, low=0, high=1, open_low=True, open_high=True)
        # the same rule from the other side: what scores less than the k-th lowest is different
        different_below = min(-_extreme(-genuine, frr, "frr", "genuine"), same_above)
    lower = same_above if different_below is None else different_below
    accepted, missed = genuine >= same_above, genuine < lower
    return Threshold(
        same_above,
        different_below,
        far,
        frr,
        rate(impostors >= same_above, groups=impostor_groups, generator=generator),
        rate(missed, groups=genuine_groups, generator=generator),
        rate(accepted, groups=genuine_groups, generator=generator),
    )


def rate_in_gallery(far: float, *, calibrated: int, searched: int) -> float:
    """The rate to calibrate at, so that `far` holds when a gallery of another size is searched.

    A stranger is refused by a gallery if every item in it refuses him. Taken as independent, N items refuse him with
    the chance q^N; a threshold that lets pass 1 - (1 - far)^(n / N) of strangers with the n `calibrated` items then
    lets pass `far` of them with the N `searched` ones. Items of one class are alike, so this is an approximation;
    `benchmarks/threshold.py` measures how good it is.
    """
    check_range("rate_in_gallery", "far", far, low=0, high=1, open_low=True, open_high=True)
    check_count("rate_in_gallery", "calibrated", calibrated)
    check_count("rate_in_gallery", "searched", searched)
    return far if calibrated == searched else -math.expm1(calibrated / searched * math.log1p(-far))


def rate(hits: Tensor, *, groups: Int[Tensor, " item"] | None = None, generator: torch.Generator | None = None) -> Rate:
    """How often something happened, with a 95 % interval: Clopper and Pearson's, or with groups one at least as wide.

    Groups (classes) are drawn again with replacement; a single group tells nothing of others, and then the interval is
    that without groups. The generator is one seeded with 0 unless given.
    """
    count, total = int(hits.sum()), len(hits)
    low, high = clopper_pearson(count, total)
    if groups is not None and len(torch.unique(groups)) > 1:
        chance = torch.Generator().manual_seed(0) if generator is None else generator
        left, right = class_bootstrap(hits.double(), groups, draws=2000, generator=chance)
        # classes that never err say nothing about those that might: a bootstrap of zeros is zero wide
        low, high = max(0.0, min(low, left)), min(1.0, max(high, right))
    return Rate(count, total, count / total, (low, high))


def clopper_pearson(count: int, total: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, `count` of `total`, for independent events (Clopper and Pearson 1934).

    By bisection of the binomial's tails, which are incomplete beta functions.
    """
    check_count("clopper_pearson", "total", total, high=2**63)
    check_count("clopper_pearson", "count", count, low=0, high=total)
    low = _solve(count, total - count + 1, TAIL) if count else 0.0
    high = _solve(count + 1, total - count, 1 - TAIL) if count < total else 1.0
    return low, high


def _solve(a: int, b: int, wanted: float) -> float:
    """The x at which the incomplete beta function I_x(a, b), which rises with x, is `wanted`."""
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _beta(a, b, middle) < wanted else (low, middle)
    return round(middle, 12)


def _beta(a: int, b: int, x: float) -> float:
    """The regularised incomplete beta function by its continued fraction (Abramowitz and Stegun 1964, 26.5.8)."""
    if x > (a + 1) / (a + b + 2):  # beyond, the fraction converges slowly
        return 1 - _beta(b, a, 1 - x)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a + 1) - math.lgamma(b))
    # summed up from the front by Lentz's method; the k-th partial fraction is d_k of the formula
    above, below, value, k = 1.0, 0.0, 1.0, 0
    while True:
        k += 1
        m, odd = divmod(k, 2)
        step = (-(a + m) * (a + b + m) if odd else m * (b - m)) * x / ((a + k - 1) * (a + k))
        above, below = 1 + step / above, 1 / (1 + step * below)
        value *= above * below
        if abs(above * below - 1) < 1e-13:
            return front / value


def _extreme(scores: Tensor, wanted: float, name: str, kind: str) -> float:
    """The k-th highest score, k = ⌊wanted · (scores + 1)⌋; refused where that is none."""
    k = most_allowed(wanted, len(scores) + 1)
    if k < 1:
        raise DataError(
            f"calibrate: {name}={wanted:g} takes at least {most_needed(wanted) - 1:,} {kind} scores, and there are "
            f"{len(scores):,}.\nCalibrate on more images, or ask for {name}={1 / (len(scores) + 1):.2g} or more."
        )
    return float(scores.double().topk(k).values[-1])


def _check_scores(name: str, scores: Tensor, groups: Tensor | None) -> None:
    if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.ndim != 1 or not len(scores):
        raise BatchError(
            f"calibrate: {name} must be a floating-point tensor with one score per query or pair, and at least one.\n"
            f"  {name}: {describe(scores)}"
        )
    check_finite("calibrate", name, scores)
    if groups is not None and groups.shape != scores.shape:
        shapes = f"  {name}: {describe(scores)}\n  groups: {describe(groups)}"
        raise BatchError(f"calibrate: {name}_groups must have one class number per score.\n{shapes}")

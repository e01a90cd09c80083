"""Accepting what scores at least a threshold: every step of the ROC, exactly, with equal scores taken together."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_range
from accord.errors import UsageError


class Steps(NamedTuple):
    """The ROC by its distinct genuine scores, best first; nothing is lost where only impostors lie between two.

    At a threshold of `scores[i]` so many are accepted: `accepted[i]` genuine pairs, and `above[i] + tied[i]` impostors,
    of which `tied[i]` score exactly as much. `genuine` and `impostors` count all there are.
    """

    scores: Float[Tensor, " step"]
    accepted: Int[Tensor, " step"]
    above: Int[Tensor, " step"]
    tied: Int[Tensor, " step"]
    genuine: int
    impostors: int

    @property
    def false(self) -> Int[Tensor, " step"]:
        """Impostors accepted at each step's score."""
        return self.above + self.tied

    def roc(self) -> tuple[Float[Tensor, " point"], Float[Tensor, " point"]]:
        """The corners of the curve from (0, 0) to the end: false-accept rate and true-accept rate.

        A step without ties goes across, then up; one with ties goes up along a slope, as if their order were drawn.
        """
        false, true = self.corners()
        return false.double() / self.impostors, true.double() / self.genuine

    def corners(self) -> tuple[Int[Tensor, " point"], Int[Tensor, " point"]]:
        """The corners as counts: impostors and genuine pairs accepted."""
        nobody = self.accepted.new_zeros(1)
        before = torch.cat([nobody, self.accepted[:-1]])
        false = torch.stack([self.above, self.false], dim=1).flatten()
        true = torch.stack([before, self.accepted], dim=1).flatten()
        return torch.cat([nobody, false, nobody + self.impostors]), torch.cat([nobody, true, self.accepted[-1:]])


class OperatingPoint(NamedTuple):
    """What a threshold does that was set for a false-accept rate of at most `wanted`.

    `threshold` is the highest one that accepts as many genuine pairs (infinity where none can be accepted);
    `false_rate` and `true_rate` are what is accepted at it. With less than `needed` = 1/wanted impostors the rate is
    not `supported`: then no impostor at all is let through, and what they would do beyond is unknown.
    """

    wanted: float
    threshold: float
    false_rate: float
    true_rate: float
    supported: bool
    needed: int


def count_steps(
    genuine: Float[Tensor, " genuine"], impostors: Iterable[Float[Tensor, "..."]], *, total: int | None = None
) -> Steps:
    """Count impostors between the distinct genuine scores, block by block; none of them is kept.

    `total` counts all that is genuine where some of it has no score, since it can't be accepted at any threshold.
    """
    values, counts = torch.unique(genuine.double(), return_counts=True)
    slots = torch.zeros(2 * len(values) + 1, dtype=torch.int64)
    for block in impostors:
        scores = block.double().contiguous()
        below = torch.searchsorted(values, scores)
        tied = values[below.clamp_max(len(values) - 1)] == scores if len(values) else torch.zeros_like(below)
        slots += torch.bincount(2 * below + tied, minlength=len(slots))
    from_above = slots.flip(0)
    tied = from_above[1::2]
    above = from_above[0::2].cumsum(0)[:-1] + torch.cat([tied.new_zeros(1), tied.cumsum(0)])[: len(tied)]
    accepted = counts.flip(0).cumsum(0)
    found = len(genuine) if total is None else total
    return Steps(values.flip(0), accepted, above, tied, found, int(slots.sum()))


def area(steps: Steps) -> float:
    """How often a genuine score beats an impostor's, a tie counting half: the area under the ROC (Mann-Whitney)."""
    here = torch.diff(steps.accepted, prepend=steps.accepted.new_zeros(1)).double()
    twice_beaten = 2 * (steps.impostors - steps.above) - steps.tied
    # whole numbers: exact below 2^53 comparisons
    return float((here * twice_beaten.double()).sum()) / 2 / steps.genuine / steps.impostors


def equal_error(steps: Steps) -> tuple[float, float]:
    """The rate at which the ROC's corners cross false accepts = false rejects, on a straight line between two corners.

    Beside it the highest genuine score at which at least as many impostors are accepted as genuine pairs rejected.
    """
    false_counts, true_counts = steps.corners()
    # both from whole numbers: 1 - 0.7 is not 0.3
    false, missed = false_counts.double() / steps.impostors, (steps.genuine - true_counts).double() / steps.genuine
    after = int((false >= missed).nonzero()[0])
    gap_before = float(missed[after - 1] - false[after - 1])
    gap_after = float(false[after] - missed[after])
    share = gap_before / (gap_before + gap_after)
    rate = float(false[after - 1]) + share * float(false[after] - false[after - 1])
    return rate, float(steps.scores[min((after - 1) // 2, len(steps.scores) - 1)])


def operating_point(who: str, steps: Steps, wanted: float) -> OperatingPoint:
    """The most genuine pairs that can be accepted while the false-accept rate stays at or below `wanted`."""
    check_range(who, "a false-accept rate", wanted, low=0, high=1, open_low=True, open_high=True)
    allowed = most_allowed(wanted, steps.impostors)
    possible = int((steps.false <= allowed).sum())
    needed, supported = most_needed(wanted), allowed >= 1
    if not possible:
        return OperatingPoint(wanted, math.inf, 0.0, 0.0, supported, needed)
    last = possible - 1
    false, true = int(steps.false[last]) / steps.impostors, int(steps.accepted[last]) / steps.genuine
    return OperatingPoint(wanted, float(steps.scores[last]), false, true, supported, needed)


def most_allowed(wanted: float, total: int) -> int:
    """The most errors among `total` whose share, as a float, is at most `wanted`: 29 of 100 for 0.29."""
    errors = int(wanted * total) + 1
    while errors / total > wanted:
        errors -= 1
    return errors


def most_needed(wanted: float) -> int:
    """The fewest impostors of which one may be accepted."""
    least = max(1, math.floor(1 / wanted) - 1)
    while 1 / least > wanted:
        least += 1
    return least


def best_accuracy(steps: Steps) -> tuple[float, float]:
    """The highest share of right decisions that any threshold gives, and that threshold; infinity rejects all."""
    right = steps.accepted + steps.impostors - steps.false
    best = int(right.argmax())
    pairs = steps.genuine + steps.impostors
    if int(right[best]) < steps.impostors:
        return steps.impostors / pairs, math.inf
    return int(right[best]) / pairs, float(steps.scores[best])


def checked_rates(who: str, rates: Sequence[float]) -> tuple[float, ...]:
    """False-accept rates, largest first, each strictly between 0 and 1."""
    for rate in rates:
        check_range(who, "each false-accept rate", rate, low=0, high=1, open_low=True, open_high=True)
    if len(set(rates)) < len(rates):
        raise UsageError(f"{who}: a false-accept rate is given twice: {', '.join(map(str, rates))}.")
    return tuple(sorted(rates, reverse=True))


def notes_on(points: Iterable[OperatingPoint], what: str, impostors: int) -> tuple[str, ...]:
    """A sentence for each rate that the impostors can't support, or only with a few errors."""
    said = []
    for point in points:
        if not point.supported:
            said.append(
                f"A false-accept rate of {point.wanted:g} takes at least {point.needed:,} {what}, and there are "
                f"{impostors:,}: the figure is that of no false accept at all, and is not supported."
            )
        elif impostors * point.wanted < 30:
            said.append(
                f"A false-accept rate of {point.wanted:g} rests on {most_allowed(point.wanted, impostors)} of "
                f"{impostors:,} {what}; 30 false accepts ({30 * point.needed:,} {what}) would make it sure to a third."
            )
    return tuple(said)

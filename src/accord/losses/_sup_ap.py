"""SupAP and ROADMAP: average precision from below, with a step that keeps its slope, and calibrated similarities."""

from dataclasses import dataclass
from math import exp
from typing import Any

import torch
from torch import Tensor, nn

from accord.checks import check_range
from accord.losses._engine import sweep, sweep_all
from accord.losses._plan import Member
from accord.losses._ranks import Above, Ranking, above, ranking
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class SupStep:
    """SupAP's step by gaps in units of tau: sigmoid up to 0, ½ above it up to `delta`, a straight line from there."""

    rho: float
    delta: float
    offset: float

    def value(self, gaps: Tensor) -> Tensor:
        """The three pieces; -inf counts nothing."""
        line = self.rho * gaps.clamp_min(self.delta) + self.offset
        return torch.where(gaps > self.delta, line, gaps.sigmoid() + 0.5 * (gaps > 0))

    def both_(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """By hand."""
        far, sums = gaps > self.delta, self.value(gaps).sum(dim=-1)
        gaps.sigmoid_()
        return sums, gaps.addcmul_(gaps, gaps, value=-1).masked_fill_(far, self.rho)


@dataclass(frozen=True)
class SupAPRule:
    """What one row of cosines costs; see `sup_ap`."""

    tau: float = 0.01
    rho: float = 100.0
    delta: float = 0.05
    offset: float | None = 1.44
    calibration: float = 0.0
    positive_bound: float = 0.9
    negative_bound: float = 0.6
    name = "sup_ap"
    measure: Measure = "score"
    unit = True
    tables = 1

    def __post_init__(self) -> None:
        check_range(self.name, "tau", self.tau, low=0, open_low=True)
        check_range(self.name, "rho", self.rho, low=0, open_low=True)
        check_range(self.name, "delta", self.delta, low=0)
        if self.offset is not None:
            check_range(self.name, "offset", self.offset, low=1 - self.rho * self.delta)
        check_range(self.name, "calibration", self.calibration, low=0)
        check_range(self.name, "positive_bound", self.positive_bound, low=-1, high=1)
        check_range(self.name, "negative_bound", self.negative_bound, low=-1, high=1)

    @property
    def step(self) -> SupStep:
        """The step, in units of tau."""
        delta, offset = self.delta / self.tau, self.offset
        if offset is None:
            offset = 1 / (1 + exp(-delta)) + 0.5 - self.rho * self.delta
        return SupStep(self.rho * self.tau, delta, offset)

    def costs(self, block: Block) -> Tally:
        """The share of negatives in each positive's rank, averaged over the positives."""
        ranks = ranking(block)
        share = self._share(above(ranks.negatives, ranks.marks, self.tau, self.step), ranks)[0]
        return Tally((ranks.weights * share).sum(dim=1), ranks.present)

    def pull(self, block: Block) -> Pull:
        """By hand: ranks among positives pass nothing."""
        ranks = ranking(block)
        wrong = Above(ranks.negatives, ranks.marks, self.tau, self.step)
        share, rank = self._share(wrong.counts, ranks)
        by_negatives, by_positives = wrong.back(ranks.weights * (1 - share) / rank)
        return Pull(Tally((ranks.weights * share).sum(dim=1), ranks.present), by_positives, by_negatives)

    def _share(self, wrong: Tensor, ranks: Ranking) -> tuple[Tensor, Tensor]:
        """The share of negatives in each rank, and the rank."""
        own = above(ranks.positives.detach(), ranks.marks.detach(), self.tau, HARD)
        # without a positive there is no 1 either; any number does
        rank = wrong + own.clamp_min(1)
        return wrong / rank, rank


@dataclass(frozen=True)
class HardStep:
    """1 from 0 on; a tie counts."""

    def value(self, gaps: Tensor) -> Tensor:
        """Passes no gradient."""
        return (gaps >= 0).to(gaps.dtype)

    def both_(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """By hand."""
        return self.value(gaps).sum(dim=-1), gaps.zero_()


HARD = HardStep()


@dataclass(frozen=True)
class CalibrationRule:
    """A hinge on the cosine of positives (`side` 1) or negatives (-1), averaged over the pairs that cost something."""

    bound: float
    side: int
    name = "sup_ap"
    measure: Measure = "score"
    unit = True

    def costs(self, block: Block) -> Tally:
        """How far pairs are on the wrong side of the bound."""
        if self.side > 0:
            hinges = torch.where(block.kept, self.bound - block.positives, 0).relu()
        else:
            hinges = (block.negatives - self.bound).relu()
        return Tally(hinges.sum(dim=1), (hinges > 0).sum(dim=1))

    def pull(self, block: Block) -> Pull:
        """By hand: -1 or 1 for each such pair."""
        costs, counts = self.costs(block)
        assert counts is not None
        if self.side > 0:
            slopes = -(block.positives < self.bound).to(block.positives.dtype)
            return Pull(Tally(costs, counts), slopes, torch.zeros_like(block.negatives))
        slopes = (block.negatives > self.bound).to(block.negatives.dtype)
        return Pull(Tally(costs, counts), torch.zeros_like(block.positives), slopes)


def sup_ap(
    embeddings: Embeddings,
    labels: Labels,
    *,
    tau: float = 0.01,
    rho: float = 100.0,
    delta: float = 0.05,
    offset: float | None = 1.44,
    calibration: float = 0.0,
    positive_bound: float = 0.9,
    negative_bound: float = 0.6,
) -> Scalar:
    """Raise the average precision of each item's neighbours, pulling on when a negative is far ahead of a positive.

    With s the cosine to a query, positive p has R⁺ positives up to its rank (p itself, and the others with s_q ≥ s_p,
    counted exactly and without a gradient) and R⁻ = Σ_n H(s_n - s_p) negatives before it, where H(x) is σ(x / tau) for
    x ≤ 0, ½ + σ(x / tau) for 0 < x ≤ delta and rho · x + offset beyond, σ being the logistic function. The query costs
    the mean of R⁻ / (R⁺ + R⁻) over its positives; returned is the mean over queries with a positive, in [0, 1). As H is
    at least the true step, this is at least 1 - the average precision, so a low loss means well sorted items. Every
    item is a query once, never in its own list. Batches without positives or without negatives cost zero and carry a
    gradient.

    H jumps at 0, and at `delta` too with the default `offset`; `offset=None` joins the pieces there, with
    rho (x - delta) + ½ + σ(delta / tau).

    Average precision compares items of one query only. `calibration` weighs a second loss that makes similarities of
    all queries comparable, and with it sorted batches a sorted whole: the mean of max(0, positive_bound - s) over
    positive pairs plus that of max(0, s - negative_bound) over negative pairs, each over the pairs that cost something.
    With `calibration=1` the sum is ROADMAP.

    Ramzi et al., "Robust and decomposable average precision for image retrieval", NeurIPS 2021; pieces, averages and
    defaults are those of its published implementation, whose straight line is not shifted by delta. Costs
    O(batch · positive pairs) time; memory stays bounded.
    """
    return _sum(SupAPRule(tau, rho, delta, offset, calibration, positive_bound, negative_bound), embeddings, labels)


class SupAP(nn.Module):
    """SupAP, and with `calibration` ROADMAP, with its options remembered; see `sup_ap`."""

    def __init__(
        self,
        *,
        tau: float = 0.01,
        rho: float = 100.0,
        delta: float = 0.05,
        offset: float | None = 1.44,
        calibration: float = 0.0,
        positive_bound: float = 0.9,
        negative_bound: float = 0.6,
    ) -> None:
        super().__init__()
        self.rule = SupAPRule(tau, rho, delta, offset, calibration, positive_bound, negative_bound)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _sum(self.rule, embeddings, labels)


def _sum(rule: Any, embeddings: Tensor, labels: Tensor) -> Scalar:
    calibration: float = rule.calibration
    if not calibration:
        return sweep(rule, embeddings, labels)
    sides = CalibrationRule(rule.positive_bound, 1), CalibrationRule(rule.negative_bound, -1)
    ranks, near, far = sweep_all([Member(rule), *map(Member, sides)], embeddings, labels).unbind()
    return ranks + calibration * (near + far)

"""Tuplet margin loss: an anchor and its positive against all negatives, by an angular margin; pairs kept alike."""

from dataclasses import dataclass
from math import cos, radians, sin

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_range
from accord.losses._engine import sweep, sweep_all
from accord.losses._pair_means import PairMeanRule
from accord.losses._plan import Member
from accord.losses._rule import Pull, Rule, Tally
from accord.losses._sums import softmax_
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class TupletMarginRule:
    """What one row of cosines costs; see `tuplet_margin`."""

    scale: float = 64.0
    margin_degrees: float = 5.73
    minable: bool = True
    name = "tuplet_margin"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "scale", self.scale, low=0, open_low=True)
        check_range(self.name, "margin_degrees", self.margin_degrees, low=0, high=90)

    def costs(self, block: Block) -> Tally:
        """The soft sum over the row's negatives, once for each of its positives."""
        some = (block.negative_count > 0)[:, None]
        eased, _ = self._eased(block)
        rivals = torch.where(some, self.scale * block.negatives, 0).logsumexp(dim=1, keepdim=True)
        costs = torch.where(block.kept & some, F.softplus(rivals - self.scale * eased, threshold=40), 0)
        return Tally(costs.sum(dim=1), block.positive_count * some[:, 0])

    def pull(self, block: Block) -> Pull:
        """By hand: one softmax over the negatives, shared by the sigmoids of all positives."""
        some = block.negative_count > 0
        eased, slope = self._eased(block)
        rivals, by_negatives = softmax_(self.scale * block.negatives)
        gaps = rivals[:, None] - self.scale * eased
        kept = block.kept & some[:, None]
        costs = torch.where(kept, F.softplus(gaps, threshold=40), 0).sum(dim=1)
        shares = torch.where(kept, gaps.sigmoid(), 0).mul_(self.scale)
        by_negatives.mul_(shares.sum(dim=1, keepdim=True))
        return Pull(Tally(costs, block.positive_count * some), shares * slope.neg_(), by_negatives)

    def _eased(self, block: Block) -> tuple[Tensor, Tensor]:
        """cos(angle - margin) of positives and its derivative by the cosine, both without an arc cosine.

        Where the angle is 0 or 180 degrees up to rounding, its sine is 0 and passes no gradient.
        """
        c = torch.where(block.kept, block.positives, 0)
        turn = radians(self.margin_degrees)
        squares = 1 - c.square()
        open_ = squares > 16 * torch.finfo(c.dtype).eps
        # the input of the root is masked, not its output: 0 · inf in the backward pass would be NaN
        sines = torch.where(open_, squares, 1).sqrt()
        eased = cos(turn) * c + sin(turn) * (sines * open_)
        return eased, cos(turn) - sin(turn) * (c.detach() * open_ / sines.detach())


@dataclass(frozen=True)
class PairVarianceRule:
    """What one row's cosines cost, given the mean over all positive and over all negative pairs."""

    epsilon: float = 0.01
    name = "tuplet_margin"
    measure: Measure = "score"
    unit = True
    mutual = True

    def __post_init__(self) -> None:
        check_range(self.name, "epsilon", self.epsilon, low=0, high=1, open_high=True)

    def costs(self, block: Block, positive: Tensor, negative: Tensor) -> Tally:
        """Squares of what positives fall short of their mean and negatives exceed theirs."""
        short, over = self._gaps(block, positive, negative)
        by_pull, by_push = self._shares(block)
        return Tally(short.square().sum(dim=1) * by_pull + over.square().sum(dim=1) * by_push, None)

    def pull(self, block: Block, positive: Tensor, negative: Tensor) -> Pull:
        """By hand: twice each gap."""
        short, over = self._gaps(block, positive, negative)
        by_pull, by_push = self._shares(block)
        costs = short.square().sum(dim=1) * by_pull + over.square().sum(dim=1) * by_push
        by_positives, by_negatives = short * (-2 * by_pull), over * (2 * by_push)
        by_means = -(1 - self.epsilon) * by_positives.sum(), -(1 + self.epsilon) * by_negatives.sum()
        return Pull(Tally(costs, None), by_positives, by_negatives, by_means)

    def _gaps(self, block: Block, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        short = F.relu(torch.where(block.kept, (1 - self.epsilon) * positive - block.positives, 0))
        return short, F.relu(block.negatives - (1 + self.epsilon) * negative)

    def _shares(self, block: Block) -> tuple[Tensor, Tensor]:
        assert block.totals is not None  # nobody mines this rule
        positives, negatives = (1 / total.clamp_min(1).to(block.negatives.dtype) for total in block.totals)
        return positives, negatives


def tuplet_margin(
    embeddings: Embeddings,
    labels: Labels,
    *,
    scale: float = 64.0,
    margin_degrees: float = 5.73,
    variance: float = 0.0,
    epsilon: float = 0.01,
) -> Scalar:
    """Tell each positive pair from all negatives of its anchor, asking less of pairs that are close already.

    With θ the angle of two embeddings, an anchor a with its positive p costs log(1 + Σ_neg exp(scale (cos θ_an -
    cos(θ_ap - margin)))); the result is the mean over all such pairs, ≥ 0. Pairs without a negative are left out, and
    a batch of such costs zero. The slack pushes positives nearer than the margin apart. With `variance` > 0 the
    intra-pair variance loss is added that many times: the mean square of what positives' cosines fall short of
    (1 - epsilon) times their mean over the batch, plus that of what negatives exceed (1 + epsilon) times theirs.

    Yu & Tao, ICCV 2019. There tuplets hold one item of each class; here the negatives are all items of other classes.
    scale 64, margin 5.73° (0.1) and epsilon 0.01 are widely used defaults. No arc cosine is taken: equal and opposite
    embeddings have a finite gradient. Costs O(batch²) time, O(batch) memory; `variance` triples the time.
    """
    rule = TupletMarginRule(scale, margin_degrees, minable=not variance)
    return _both(rule, PairVarianceRule(epsilon), variance, embeddings, labels)


def _both(rule: Rule, spread: PairVarianceRule, variance: float, embeddings: Embeddings, labels: Labels) -> Scalar:
    """The tuplet margin, and where wanted the intra-pair variance."""
    check_range("tuplet_margin", "variance", variance, low=0)
    value = sweep(rule, embeddings, labels)
    if not variance:
        return value
    means = Member(PairMeanRule(rule.name, "positive")), Member(PairMeanRule(rule.name, "negative"))
    return value + variance * sweep(spread, embeddings, labels, learned=sweep_all(means, embeddings, labels).unbind())


class TupletMargin(nn.Module):
    """Tuplet margin loss with its options remembered; see `tuplet_margin`."""

    def __init__(
        self, *, scale: float = 64.0, margin_degrees: float = 5.73, variance: float = 0.0, epsilon: float = 0.01
    ) -> None:
        super().__init__()
        check_range("tuplet_margin", "variance", variance, low=0)
        # the variance is that of all pairs, mined or not
        self.rule = TupletMarginRule(scale, margin_degrees, minable=not variance)
        self.spread, self.variance = PairVarianceRule(epsilon), variance

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _both(self.rule, self.spread, self.variance, embeddings, labels)

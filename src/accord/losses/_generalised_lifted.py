"""Generalised lifted structure loss: all positives of an anchor softly inside, all its negatives softly outside."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from accord.checks import check_flag, check_range
from accord.errors import UnknownNameError
from accord.losses._engine import sweep
from accord.losses._powers import near_weights
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.losses._sums import kept_or, softmax_
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

LiftedHinge = Literal["hard", "soft"]


@dataclass(frozen=True)
class GeneralisedLiftedRule:
    """What one row of distances costs; see `generalised_lifted`."""

    margin: float = 1.0
    hinge: LiftedHinge = "hard"
    unit: bool = True
    name = "generalised_lifted"
    measure: Measure = "euclidean"

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0)
        check_flag(self.name, "normalised", self.unit)
        if self.hinge not in get_args(LiftedHinge):
            raise UnknownNameError("hinge of generalised_lifted", self.hinge, get_args(LiftedHinge))

    def costs(self, block: Block) -> Tally:
        """The soft maximum of the positives' distances less the soft minimum of the negatives'."""
        # rows that lack one side get a harmless number for it, so that no infinity meets another
        whole = block.whole[:, None]
        pulls = torch.where(whole, kept_or(block.positives, block.kept, -torch.inf), 0).logsumexp(dim=1)
        pushes = torch.where(whole, -block.negatives, 0).logsumexp(dim=1)
        gaps = pulls + pushes + self.margin
        costs = F.relu(gaps) if self.hinge == "hard" else F.softplus(gaps)
        return Tally(torch.where(block.whole, costs, 0), block.whole.to(costs.dtype))

    def pull(self, block: Block) -> Pull:
        """By hand: two softmaxes where the hinge is open."""
        whole = block.whole
        pulls, by_positives = softmax_(kept_or(block.positives, block.kept, -torch.inf))
        pushes, by_negatives = near_weights(block.negatives, short=self.unit)
        gaps = torch.where(whole, pulls + pushes + self.margin, -torch.inf)
        costs, slope = (F.relu(gaps), gaps > 0) if self.hinge == "hard" else (F.softplus(gaps), gaps.sigmoid())
        slope = slope.to(gaps.dtype)[:, None]
        tally = Tally(costs, whole.to(costs.dtype))
        return Pull(tally, by_positives.mul_(slope), by_negatives.mul_(-slope))


def generalised_lifted(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: float = 1.0,
    hinge: LiftedHinge = "hard",
    normalised: bool = True,
) -> Scalar:
    """Keep an anchor's farthest positives nearer than its closest negatives, each side taken softly over all of it.

    With D the Euclidean distance, an anchor costs max(0, log Σ_pos exp(D) + log Σ_neg exp(margin - D));
    `hinge="soft"` replaces max(0, x) by log(1 + exp(x)). The result is the mean, ≥ 0, over the anchors that have both
    a positive and a negative; without any it is zero and still carries a gradient. The sums grow with the numbers of
    positives and negatives, so with a hard hinge and many items hardly an anchor ever costs nothing.

    Hermans, Beyer & Leibe, "In defense of the triplet loss for person re-identification", 2017, the generalised form
    of the lifted loss. We differ: a mean for its sum, and embeddings are normalised (`normalised=False` for the
    paper's). Costs O(batch²) time, O(batch) memory.
    """
    return sweep(GeneralisedLiftedRule(margin, hinge, normalised), embeddings, labels)


class GeneralisedLifted(RowLoss):
    """Generalised lifted structure loss with its options remembered; see `generalised_lifted`."""

    def __init__(self, *, margin: float = 1.0, hinge: LiftedHinge = "hard", normalised: bool = True) -> None:
        super().__init__()
        self.rule = GeneralisedLiftedRule(margin, hinge, normalised)

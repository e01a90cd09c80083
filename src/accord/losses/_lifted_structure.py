"""Lifted structure loss: each positive pair against all negatives of both its ends."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_flag, check_range
from accord.losses._powers import near_weights
from accord.losses._survey import survey
from accord.mining import Block, Measure, Own
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class LiftedStructureRule:
    """What a row tells of itself, its soft nearest negative and its positives, and what all rows cost together."""

    margin: float = 1.0
    unit: bool = True
    name = "lifted_structure"
    pairs = True
    measure: Measure = "euclidean"

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0)
        check_flag(self.name, "normalised", self.unit)

    def read(self, block: Block) -> Tensor:
        """log Σ_neg exp(margin - D), -inf without negatives, then the distance in each slot."""
        if torch.is_grad_enabled():
            some = (block.negative_count > 0)[:, None]
            # a row without negatives must not meet -inf - -inf, neither here nor on the way back
            rivals = torch.where(some[:, 0], torch.where(some, -block.negatives, 0).logsumexp(dim=1), -torch.inf)
        else:
            rivals = near_weights(block.negatives, short=self.unit)[0]
        return torch.cat([rivals[:, None] + self.margin, torch.where(block.kept, block.positives, 0)], dim=1)

    def unread(self, block: Block, by_statistics: Tensor) -> tuple[Tensor, Tensor]:
        """By hand: a softmax over the negatives."""
        weights = near_weights(block.negatives, short=self.unit)[1]
        return by_statistics[:, 1:], weights.mul_(-by_statistics[:, :1])

    def finish(self, statistics: Tensor, own: Own) -> Tensor:
        """The mean of half the squared hinge over positive pairs; each comes twice, which changes no mean."""
        rivals, distances = statistics[:, 0], statistics[:, 1:]
        alive = own.kept & rivals.isfinite()[:, None]
        rivals = torch.where(rivals.isfinite(), rivals, 0)
        others = rivals[None] if own.chosen is None else rivals[own.chosen]
        costs = F.relu(torch.logaddexp(rivals[:, None], others) + distances).square()
        return torch.where(alive, costs, 0).sum() / (2 * alive.sum().clamp_min(1))


def lifted_structure(embeddings: Embeddings, labels: Labels, *, margin: float = 1.0, normalised: bool = True) -> Scalar:
    """Make each pair of one class closer than all pairs that join either of its ends to another class.

    With D the Euclidean distance, a positive pair (i, j) costs ½ max(0, J)², where
    J = log(Σ_k exp(margin - D_ik) + Σ_l exp(margin - D_jl)) + D_ij over all negatives k of i and l of j. The result is
    the mean over all positive pairs, ≥ 0. A batch without positives or without negatives costs zero and still carries
    a gradient. The sums grow with the batch, so with many items hardly a pair ever costs nothing.

    Oh Song et al., "Deep metric learning via lifted structured feature embedding", CVPR 2016, the smooth form. The sum
    runs over unordered pairs and is divided by twice their number; with ordered pairs in both places it is the same.
    We differ: embeddings are normalised (`normalised=False` for the paper's). Costs O(batch²) time, O(batch) memory
    with small classes on processors; otherwise positive distances are kept, batch × batch.
    """
    return survey(LiftedStructureRule(margin, normalised), embeddings, labels)


class LiftedStructure(nn.Module):
    """Lifted structure loss with its options remembered; see `lifted_structure`."""

    def __init__(self, *, margin: float = 1.0, normalised: bool = True) -> None:
        super().__init__()
        self.rule = LiftedStructureRule(margin, normalised)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return survey(self.rule, embeddings, labels)

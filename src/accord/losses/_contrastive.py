"""Contrastive loss: pairs of one class together, other pairs a margin apart."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError, UsageError
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Hinge = Literal["squared", "linear"]
Average = Literal["pairs", "kinds"]


@dataclass(frozen=True)
class ContrastiveRule:
    """What one row of distances costs; see `contrastive`."""

    margin: float = 0.5
    hinge: Hinge = "squared"
    average: Average = "pairs"
    name = "contrastive"
    measure: Measure = "euclidean"
    unit = True
    mutual = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=2, open_low=True)
        if self.hinge not in get_args(Hinge):
            raise UnknownNameError("hinge of contrastive", self.hinge, get_args(Hinge))
        if self.average not in get_args(Average):
            raise UnknownNameError("average of contrastive", self.average, get_args(Average))

    def costs(self, block: Block) -> Tally:
        """Pulls of the row's positives and pushes of its negatives."""
        pulls = torch.where(block.kept, block.positives, 0)
        pushes = F.relu(self.margin - block.negatives)
        if self.hinge == "squared":
            pulls, pushes = pulls.square(), pushes.square()
        by_pull, by_push, counts = self._shares(block)
        return Tally(pulls.sum(dim=1) * by_pull + pushes.sum(dim=1) * by_push, counts)

    def pull(self, block: Block) -> Pull:
        """By hand: 2d or 1 for a pull, -2 (margin - d) or -1 for a push."""
        by_pull, by_push, counts = self._shares(block)
        pulls = torch.where(block.kept, block.positives, 0)
        pushes = torch.rsub(block.negatives, self.margin).relu_()
        if self.hinge == "squared":
            costs = pulls.square().sum(dim=1) * by_pull
            costs += torch.linalg.vector_norm(pushes, dim=1).square() * by_push
            return Pull(Tally(costs, counts), 2 * by_pull * pulls, pushes.mul_(-2 * by_push))
        costs = pulls.sum(dim=1) * by_pull + pushes.sum(dim=1) * by_push
        return Pull(Tally(costs, counts), torch.ones_like(pulls) * by_pull, pushes.sign_().mul_(-by_push))

    def _shares(self, block: Block) -> tuple[Tensor | float, Tensor | float, Tensor | None]:
        """What a pull and a push are multiplied by, and what their sum is divided by."""
        if self.average == "pairs":
            return 1.0, 1.0, block.positive_count + block.negative_count
        totals = block.totals
        if totals is None:
            raise UsageError("contrastive: average='kinds' can't be mined, for it counts all pairs; use 'pairs'.")
        positives, negatives = (1 / total.clamp_min(1).to(block.negatives.dtype) for total in totals)
        return positives, negatives, None


def contrastive(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: float = 0.5,
    hinge: Hinge = "squared",
    average: Average = "pairs",
) -> Scalar:
    """Pull pairs of one class together; push other pairs until they are `margin` apart.

    With d the Euclidean distance of unit-length embeddings (in [0, 2]), a pair of one class costs d² and any other
    max(0, margin - d)²; `hinge="linear"` drops the squares. The result is the mean over all pairs of the batch;
    `average="kinds"` adds the mean over positive pairs to the mean over negative ones, which keeps the few positives
    of a large batch from being drowned. Value ≥ 0. A batch without pairs costs zero and still carries a gradient.

    Hadsell, Chopra & LeCun, CVPR 2006, eq. 4, and Sohn, NIPS 2016, section 2. We differ from both: embeddings are
    normalised and the sum over pairs is a mean; from Hadsell's: no factor ½. Costs O(batch²) time, O(batch) memory.
    """
    return sweep(ContrastiveRule(margin, hinge, average), embeddings, labels)


class Contrastive(RowLoss):
    """Contrastive loss with its options remembered; see `contrastive`."""

    def __init__(self, *, margin: float = 0.5, hinge: Hinge = "squared", average: Average = "pairs") -> None:
        super().__init__()
        self.rule = ContrastiveRule(margin, hinge, average)

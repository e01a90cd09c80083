"""Neighbourhood components analysis: an item that picks a neighbour at random should pick one of its class."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_flag, check_range
from accord.errors import UnknownNameError
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._row_softmax import Odds, log_odds
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Goal = Literal["log", "expected"]


@dataclass(frozen=True)
class NCARule:
    """What one row of squared distances costs; see `nca`."""

    scale: float = 1.0
    goal: Goal = "log"
    unit: bool = False
    name = "nca"
    measure: Measure = "squared"

    def __post_init__(self) -> None:
        check_range(self.name, "scale", self.scale, low=0, open_low=True)
        check_flag(self.name, "normalised", self.unit)
        if self.goal not in get_args(Goal):
            raise UnknownNameError("goal of nca", self.goal, get_args(Goal))

    def costs(self, block: Block) -> Tally:
        """How likely the negatives are to be picked, or the logarithm that goes with it."""
        pulls, pushes = -self.scale * block.positives, -self.scale * block.negatives
        gaps = log_odds(pulls, pushes, block.kept, block.negative_count > 0)[0]
        return Tally(F.softplus(gaps) if self.goal == "log" else gaps.sigmoid(), block.kept.any(dim=1))

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax over each side, weighted by how likely the wrong one is."""
        whole = block.kept.any(dim=1)
        odds = Odds(-self.scale * block.positives, -self.scale * block.negatives, block.kept, whole)
        costs, weight = self._weighed(odds)
        weight = (self.scale * weight)[:, None]
        return Pull(Tally(costs, whole), odds.positives * weight, odds.negatives.mul_(-weight))

    def _weighed(self, odds: Odds) -> tuple[Tensor, Tensor]:
        if self.goal == "log":
            return F.softplus(odds.gaps), odds.share
        return odds.share, odds.share * (-odds.gaps).sigmoid()


def nca(
    embeddings: Embeddings, labels: Labels, *, scale: float = 1.0, goal: Goal = "log", normalised: bool = False
) -> Scalar:
    """Let each item pick a neighbour at random, near ones likelier, and ask that it be one of its class.

    With d the squared Euclidean distance, item i picks j ≠ i with probability exp(-scale · d_ij) / Σ_k exp(-scale ·
    d_ik), and is right with probability p_i, the sum over its class. It costs -log p_i, or with `goal="expected"` the
    chance of an error, 1 - p_i, in [0, 1], which gives up on items that are far from their class. The mean over items
    with a positive is returned, ≥ 0; others cost zero and are not counted. `normalised=True` brings embeddings to
    length one first, and then wants a scale well above 1. A batch without pairs costs zero and carries a gradient.

    Goldberger et al., NIPS 2004, which states both goals, as sums to be maximised; embeddings are the transformed
    inputs, as they come. `scale` is 1 there. Costs O(batch²) time, O(batch) memory.
    """
    return sweep(NCARule(scale, goal, normalised), embeddings, labels)


class NCA(RowLoss):
    """Neighbourhood components analysis with its options remembered; see `nca`."""

    def __init__(self, *, scale: float = 1.0, goal: Goal = "log", normalised: bool = False) -> None:
        super().__init__()
        self.rule = NCARule(scale, goal, normalised)

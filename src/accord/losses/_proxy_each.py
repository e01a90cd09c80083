"""The proxy losses where every positive of an item counts by itself: what dynamic assignment and the bounds need."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.losses._row_softmax import log_sum
from accord.losses._rule import Tally
from accord.mining import Block, Measure


@dataclass(frozen=True)
class EachNCARule:
    """-log(exp(-d(x, y)) / Σ_z exp(-d(x, z))) for each positive y of an item x; pairs without a negative are left out.

    `heat` is 2 · N_x · N_p, what cosines are multiplied by: -d = heat · cos - const, and the constant cancels. With
    `included` y itself stands in the sum, too.
    """

    name: str
    heat: float
    included: bool
    measure: Measure = "score"
    unit: bool = True

    def costs(self, block: Block) -> Tally:
        """One cost per positive, summed."""
        present = block.negative_count > 0
        rivals = log_sum(self.heat * block.negatives, present)
        valid = block.kept & present[:, None]
        lead = torch.where(valid, rivals[:, None] - self.heat * block.positives, 0)
        # torch's own threshold of 20 cuts digits of double precision off
        costs = F.softplus(lead, threshold=40.0) if self.included else lead
        return Tally(torch.where(valid, costs, 0).sum(dim=1), valid.sum(dim=1))

    @property
    def alpha(self) -> float:
        """1 / (N_x · N_p)."""
        return 2 / self.heat

    def unscaled(self) -> "EachNCARule":
        """The same loss on vectors of length one."""
        return replace(self, heat=2.0)


@dataclass(frozen=True)
class EachTripletRule:
    """max(0, d(x, y) + margin - d(x, z)) for each positive y and negative z of an item x, on unit vectors."""

    name: str
    margin: float
    measure: Measure = "score"
    unit: bool = True
    tables = 1
    alpha = 1.0

    def costs(self, block: Block) -> Tally:
        """A hinge for each positive and negative, summed."""
        needed = torch.where(block.kept, self.margin - 2 * block.positives, -torch.inf)
        hinges = F.relu(needed[:, :, None] + 2 * block.negatives[:, None, :])
        return Tally(hinges.sum(dim=(1, 2)), block.positive_count * block.negative_count)

    def unscaled(self) -> "EachTripletRule":
        """The loss itself: its vectors have length one."""
        return self


EachRule = EachNCARule | EachTripletRule


def to_nearest(block: Block, by_own: Tensor) -> Tensor:
    """By hand: the derivative by a row's own score, (row,), goes to the nearest own proxy; equally near ones share."""
    if block.positives.shape[1] == 1:
        return by_own[:, None]
    own = torch.where(block.kept, block.positives, -torch.inf)
    chosen = (own == own.amax(dim=1, keepdim=True)).to(by_own.dtype)
    return chosen * (by_own / chosen.sum(dim=1))[:, None]

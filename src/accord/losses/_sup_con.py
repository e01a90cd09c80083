"""Supervised contrastive loss: all positives of an anchor at once against everything else in the batch."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._row_softmax import Odds, log_odds
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Variant = Literal["out", "in"]


@dataclass(frozen=True)
class SupConRule:
    """What one row of cosines costs; see `sup_con`."""

    temperature: float = 0.07
    variant: Variant = "out"
    name = "sup_con"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "temperature", self.temperature, low=0, open_low=True)
        if self.variant not in get_args(Variant):
            raise UnknownNameError("variant of sup_con", self.variant, get_args(Variant))

    def costs(self, block: Block) -> Tally:
        """The mean of the positives' logarithms, or the logarithm of their mean."""
        heat, size = 1 / self.temperature, block.positive_count
        pulls = block.positives * heat
        gaps, own = log_odds(pulls, block.negatives * heat, block.kept, block.negative_count > 0)
        return Tally(self._together(gaps, own, pulls, block, size.clamp_min(1)), size > 0)

    def pull(self, block: Block) -> Pull:
        """By hand: the softmax over all others, less the share each positive should have."""
        heat, size = 1 / self.temperature, block.positive_count
        whole, pulls = size > 0, block.positives * heat
        odds = Odds(pulls, block.negatives * heat, block.kept, whole)
        size.clamp_min_(1)
        tally = Tally(self._together(odds.gaps, odds.own, pulls, block, size), whole)
        missing = (odds.share * heat)[:, None]
        by_pushes = odds.negatives.mul_(missing)
        if self.variant == "in":
            return Pull(tally, odds.positives * -missing, by_pushes)
        return Pull(tally, odds.positives * (heat - missing) - (heat / size)[:, None], by_pushes)

    def _together(self, gaps: Tensor, own: Tensor, pulls: Tensor, block: Block, size: Tensor) -> Tensor:
        if self.variant == "in":
            return F.softplus(gaps) + size.log()
        return F.softplus(gaps) + own - torch.where(block.kept, pulls, 0).sum(dim=1) / size


def sup_con(embeddings: Embeddings, labels: Labels, *, temperature: float = 0.07, variant: Variant = "out") -> Scalar:
    """Ask that an anchor's positives be likelier than all the rest under a softmax over cosines.

    With s the cosine and P the anchor's positives, all others A share a softmax q_j = exp(s_j/τ) / Σ_A exp(s/τ). An
    anchor costs the mean over P of -log q (`variant="out"`), or minus the log of the mean over P of q (`"in"`), ≥ 0.
    Both are at least log|P|, not 0: positives are each other's rivals. The mean over anchors with a positive is
    returned; those without one cost zero and are not counted. An anchor without negatives still spreads its positives.

    Khosla et al., NeurIPS 2020, eq. 2 (`out`, which they recommend) and eq. 3 (`in`), with a mean for the sum over
    anchors and without the factor τ / base temperature of their code. The default temperature 0.07 is widely used; the
    best one depends on the batch. Costs O(batch²) time, O(batch) memory.
    """
    return sweep(SupConRule(temperature, variant), embeddings, labels)


class SupCon(RowLoss):
    """Supervised contrastive loss with its options remembered; see `sup_con`."""

    def __init__(self, *, temperature: float = 0.07, variant: Variant = "out") -> None:
        super().__init__()
        self.rule = SupConRule(temperature, variant)

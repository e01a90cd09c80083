"""Decoupled contrastive loss: NT-Xent whose positive is no rival of itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.checks import check_range
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._row_softmax import log_sum
from accord.losses._rule import Pull, Tally
from accord.losses._sums import softmax_
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class DecoupledContrastiveRule:
    """What one row of cosines costs; see `decoupled_contrastive`."""

    temperature: float = 0.1
    name = "decoupled_contrastive"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "temperature", self.temperature, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """The log-sum over the negatives, less each positive."""
        heat, kept, counts = self._counted(block)
        rivals = log_sum(block.negatives * heat, block.negative_count > 0)
        return Tally(self._together(rivals, block, kept, counts), counts)

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax over the negatives for each positive."""
        heat, kept, counts = self._counted(block)
        rivals, shares = softmax_(block.negatives * heat)
        costs = self._together(rivals, block, kept, counts)
        by_positives = torch.full_like(block.positives, -heat).masked_fill_(~kept, 0)
        return Pull(Tally(costs, counts), by_positives, shares.mul_((counts * heat)[:, None]))

    def _counted(self, block: Block) -> tuple[float, Tensor, Tensor]:
        kept = block.kept & block.whole[:, None]
        return 1 / self.temperature, kept, kept.sum(dim=1).to(block.positives.dtype)

    def _together(self, rivals: Tensor, block: Block, kept: Tensor, counts: Tensor) -> Tensor:
        pulls = torch.where(kept, block.positives, 0).sum(dim=1) / self.temperature
        return counts * torch.where(counts > 0, rivals, 0) - pulls


def decoupled_contrastive(embeddings: Embeddings, labels: Labels, *, temperature: float = 0.1) -> Scalar:
    """Pull each positive, push all negatives, and let neither slow the other down.

    With s the cosine, each ordered positive pair costs log Σ_n exp(s_n/τ) - s_p/τ over the items n of other classes:
    `nt_xent` without the positive in its denominator, whose gradient fades once the positive is recognised. Returned is
    the mean over those pairs; it can be negative. Anchors without a positive or without a negative cost zero and are
    not counted. A batch without pairs costs zero and still carries a gradient.

    Yeh et al., ECCV 2022, without the weights of their second form; for labels each positive of an anchor makes
    a pair. The default temperature 0.1 is widely used with it. Costs O(batch²) time, O(batch) memory.
    """
    return sweep(DecoupledContrastiveRule(temperature), embeddings, labels)


class DecoupledContrastive(RowLoss):
    """Decoupled contrastive loss with its option remembered; see `decoupled_contrastive`."""

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        self.rule = DecoupledContrastiveRule(temperature)

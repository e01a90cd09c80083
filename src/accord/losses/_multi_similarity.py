"""Multi-similarity loss: informative pairs are mined by comparison, then weighted softly by all the others."""

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.checks import check_range
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.losses._sums import log_one_plus_sum, softmax_one_plus_
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class MultiSimilarityRule:
    """What one row of cosines costs; see `multi_similarity`."""

    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5
    epsilon: float | None = 0.1
    name = "multi_similarity"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "alpha", self.alpha, low=0, open_low=True)
        check_range(self.name, "beta", self.beta, low=0, open_low=True)
        check_range(self.name, "base", self.base, low=-1, high=1)
        if self.epsilon is not None:
            check_range(self.name, "epsilon", self.epsilon, low=0)

    def costs(self, block: Block) -> Tally:
        """Soft sums over the mined positives and the mined negatives."""
        pulls, pushes, shift = self._mined(block)
        costs = log_one_plus_sum(pulls) / self.alpha + log_one_plus_sum(self.beta * (pushes + shift)) / self.beta
        return Tally(costs, torch.ones_like(costs))

    def pull(self, block: Block) -> Pull:
        """By hand: the softmax of the exponents, with a one beside them."""
        pulls, pushes, shift = self._mined(block)
        pull, by_positives = softmax_one_plus_(pulls)
        push, by_negatives = softmax_one_plus_(pushes, self.beta, shift)
        costs = pull / self.alpha + push / self.beta
        return Pull(Tally(costs, torch.ones_like(costs)), by_positives.neg_(), by_negatives)

    def _mined(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """-alpha (s - base) of mined positives, s - base of mined negatives but for a shift; -inf elsewhere."""
        kept, positives, negatives = block.kept, block.positives, block.negatives
        if self.epsilon is None:
            pushes, shift = negatives - self.base, torch.zeros_like(block.negative_count)[:, None]
        else:
            # without a positive the lowest is inf, and no negative is mined
            lowest = torch.where(kept, positives, torch.inf).detach().amin(dim=1, keepdim=True)
            reach = (lowest - self.epsilon).clamp_max(4)
            pushes, shift = torch.threshold(negatives - reach, 0, -torch.inf), reach - self.base
            # without a negative the highest is -inf, and no positive is mined
            highest = negatives.detach().amax(dim=1, keepdim=True)
            kept = kept & (positives - self.epsilon < highest)
        return torch.where(kept, -self.alpha * (positives - self.base), -torch.inf), pushes, shift


def multi_similarity(
    embeddings: Embeddings,
    labels: Labels,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = 0.1,
) -> Scalar:
    """Weigh each pair by itself and by its rivals around the same anchor.

    With s the cosine, an anchor costs log(1 + Σ_pos exp(-alpha (s - base))) / alpha over its mined positives plus
    log(1 + Σ_neg exp(beta (s - base))) / beta over its mined negatives. Mined are negatives with s + epsilon > the
    lowest positive and positives with s - epsilon < the highest negative; `epsilon=None` keeps all. The mean over all
    anchors is returned, ≥ 0. With mining, anchors without a positive or without a negative cost zero, and so does a
    batch of such; without, each pays for what it has.

    Wang et al., CVPR 2019, with the paper's beta 50; the authors' repository uses 40. Only the anchor
    itself is left out of its positives, not every pair that looks like a copy (s ≥ 1 - 1e-5), as that repository does.
    """
    return sweep(MultiSimilarityRule(alpha, beta, base, epsilon), embeddings, labels)


class MultiSimilarity(RowLoss):
    """Multi-similarity loss with its options remembered; see `multi_similarity`."""

    def __init__(
        self, *, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, epsilon: float | None = 0.1
    ) -> None:
        super().__init__()
        self.rule = MultiSimilarityRule(alpha, beta, base, epsilon)

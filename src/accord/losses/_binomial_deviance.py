"""Binomial deviance: the logistic cost of every pair's cosine, positives and negatives averaged apart."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_range
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class BinomialDevianceRule:
    """What one row of cosines costs; see `binomial_deviance`."""

    alpha: float = 25.0
    beta: float = 2.0
    margin: float = 0.5
    negative_cost: float = 1.0
    name = "binomial_deviance"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "alpha", self.alpha, low=0, open_low=True)
        check_range(self.name, "beta", self.beta, low=0, open_low=True)
        check_range(self.name, "margin", self.margin, low=-1, high=1)
        check_range(self.name, "negative_cost", self.negative_cost, low=0)

    def costs(self, block: Block) -> Tally:
        """Mean over the row's positives plus mean over its negatives."""
        pulls, pushes = self._exponents(block)
        by_pull, by_push, counts = self._shares(block)
        costs = F.softplus(pulls, threshold=40).sum(dim=1) * by_pull
        return Tally(costs + F.softplus(pushes, threshold=40).sum(dim=1) * by_push, counts)

    def pull(self, block: Block) -> Pull:
        """By hand: the sigmoid of each exponent."""
        pulls, pushes = self._exponents(block)
        by_pull, by_push, counts = self._shares(block)
        costs = F.softplus(pulls, threshold=40).sum(dim=1) * by_pull
        costs += F.softplus(pushes, threshold=40).sum(dim=1) * by_push
        by_positives = pulls.sigmoid_().mul_(-self.beta * by_pull[:, None])
        return Pull(Tally(costs, counts), by_positives, pushes.sigmoid_().mul_(self.alpha * by_push[:, None]))

    def _exponents(self, block: Block) -> tuple[Tensor, Tensor]:
        """-beta (s - margin) of positives and alpha (s - margin) of negatives, -inf elsewhere."""
        pulls = torch.where(block.kept, -self.beta * (block.positives - self.margin), -torch.inf)
        return pulls, torch.rsub(block.negatives, -self.alpha * self.margin, alpha=-self.alpha)

    def _shares(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """What a pull and a push of each row are multiplied by; which rows are anchors."""
        whole = block.whole.to(block.negatives.dtype)
        by_push = self.negative_cost * whole / block.negative_count.clamp_min(1)
        return whole / block.positive_count.clamp_min(1), by_push, whole


def binomial_deviance(
    embeddings: Embeddings,
    labels: Labels,
    *,
    alpha: float = 25.0,
    beta: float = 2.0,
    margin: float = 0.5,
    negative_cost: float = 1.0,
) -> Scalar:
    """Make every pair's cosine a good guess of whether it is of one class, by logistic regression.

    With s the cosine, an anchor costs mean_pos log(1 + exp(-beta (s - margin))) + `negative_cost` · mean_neg
    log(1 + exp(alpha (s - margin))). The result is the mean over the anchors that have both a positive and a negative,
    ≥ 0; a batch without any costs zero.

    Yi, Lei & Li, 2014 (arXiv 1407.4979), with means over each anchor's positives and negatives. A cost of
    25 on top of a slope of 2 inside the exponential, as the original is usually quoted, is alpha=50 here; our default
    25 is that of later ensembles. `negative_cost` stands outside. An item is no positive of itself; equal items are.
    Zabihzadeh et al. (arXiv 2107.01130) take inner products, divide by the batch and drop positives of 1 or more.
    """
    return sweep(BinomialDevianceRule(alpha, beta, margin, negative_cost), embeddings, labels)


class BinomialDeviance(RowLoss):
    """Binomial deviance with its options remembered; see `binomial_deviance`."""

    def __init__(
        self, *, alpha: float = 25.0, beta: float = 2.0, margin: float = 0.5, negative_cost: float = 1.0
    ) -> None:
        super().__init__()
        self.rule = BinomialDevianceRule(alpha, beta, margin, negative_cost)

"""Sigmoid loss: every pair is a yes-or-no question of its own, with a learned scale and bias."""

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_range
from accord.geometry import full
from accord.losses._engine import sweep
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class SigmoidRule:
    """What one row of cosines costs, given the logarithm of the scale and the bias; see `sigmoid`."""

    name = "sigmoid"
    measure: Measure = "score"
    unit = True

    def costs(self, block: Block, log_scale: Tensor, bias: Tensor) -> Tally:
        """Logistic costs of all pairs of the row."""
        apart = block.negatives > block.far
        p, n = torch.where(block.kept, block.positives, 0), torch.where(apart, block.negatives, 0)
        pulls = torch.where(block.kept, -(log_scale.exp() * p + bias), -torch.inf)
        pushes = torch.where(apart, log_scale.exp() * n + bias, -torch.inf)
        costs = F.softplus(pulls, threshold=40).sum(dim=1) + F.softplus(pushes, threshold=40).sum(dim=1)
        return Tally(costs, torch.ones_like(costs))

    def pull(self, block: Block, log_scale: Tensor, bias: Tensor) -> Pull:
        """By hand: the sigmoid of each logit, and for scale and bias their sums."""
        scale, p, n = log_scale.exp(), block.positives, block.negatives
        pulls = torch.where(block.kept, -(scale * p + bias), -torch.inf)
        pushes = torch.mul(n, scale).add_(bias)
        costs = F.softplus(pulls, threshold=40).sum(dim=1) + F.softplus(pushes, threshold=40).sum(dim=1)
        by_positives, by_negatives = pulls.sigmoid_().neg_(), pushes.sigmoid_()
        by_bias = by_positives.sum() + by_negatives.sum()
        # a finite number instead of -inf, whose share is zero
        by_scale = (by_positives * torch.where(block.kept, p, 0)).sum() + (n.clamp_min(-2).mul_(by_negatives)).sum()
        learned = by_scale * scale, by_bias
        return Pull(Tally(costs, torch.ones_like(costs)), by_positives.mul_(scale), by_negatives.mul_(scale), learned)


def sigmoid(embeddings: Embeddings, labels: Labels, log_scale: Scalar, bias: Scalar) -> Scalar:
    """Ask of every pair, on its own, whether it is of one class, and score the answer by logistic regression.

    With s the cosine and z = 1 for pairs of one class, else -1, a pair costs log(1 + exp(-z (t s + b))), where
    t = exp(`log_scale`) and b = `bias` are learned. The result is the sum over all pairs of two different items divided
    by the number of items (not of pairs: it grows with the batch), ≥ 0. A batch of one item or none costs zero.

    Zhai et al., ICCV 2023 (SigLIP). There an image meets the texts of the batch and has one positive; here
    items meet each other, and all others of the class are positives. t starts at 10 and b at -10, widely used
    defaults: negatives prevail, and a bias of 0 would start with a huge correction.
    """
    return sweep(SigmoidRule(), embeddings, labels, learned=(full(log_scale), full(bias)))


class Sigmoid(nn.Module):
    """Sigmoid loss with its two learned numbers, `log_scale` and `bias`; see `sigmoid`."""

    def __init__(self, *, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        self.rule = SigmoidRule()
        check_range("sigmoid", "scale", scale, low=0, open_low=True)
        check_range("sigmoid", "bias", bias)
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep(self.rule, embeddings, labels, learned=(full(self.log_scale), full(self.bias)))

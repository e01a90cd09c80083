"""Two regularisers against collapse: every axis of the embeddings keeps its variance, and no two axes say the same."""

import torch
import torch.nn.functional as F
from torch import nn

from accord.checks import check_batch, check_range
from accord.geometry import full, inner
from accord.types import Embeddings, Labels, Scalar


def variance_covariance(
    embeddings: Embeddings,
    labels: Labels,
    *,
    variance: float = 25.0,
    covariance: float = 1.0,
    target: float = 1.0,
    epsilon: float = 1e-4,
) -> Scalar:
    """Keep every axis of the embeddings alive and all axes different.

    With C the covariance matrix of the batch (divided by items - 1), the result is `variance` times the mean over axes
    of max(0, `target` - √(C_ii + epsilon)) plus `covariance` times Σ_{i≠j} C_ij² / dim, ≥ 0. Labels play no part. The
    embeddings are used as they are: brought to length one their axes can't reach a standard deviation of 1, so lower
    `target` to 1/√dim then. A batch of one item or none has no variance to speak of and costs zero.

    Bardes, Ponce & LeCun, ICLR 2022 (VICReg), without the invariance term; the weights are widely used defaults. Costs
    O(batch · dim²) time and O(dim²) memory.
    """
    _check(variance, covariance, target, epsilon)
    check_batch("variance_covariance", embeddings, labels)
    x = full(embeddings)
    if len(x) < 2:
        return 0 * x.sum()
    x = x - x.mean(dim=0)
    spread = x.square().sum(dim=0) / (len(x) - 1)
    shortfall = F.relu(target - (spread + epsilon).sqrt()).mean()
    other = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    shared = (inner(x.T, x.T) / (len(x) - 1) * other).square().sum() / x.shape[1]
    return variance * shortfall + covariance * shared


def _check(variance: float, covariance: float, target: float, epsilon: float) -> None:
    check_range("variance_covariance", "variance", variance, low=0)
    check_range("variance_covariance", "covariance", covariance, low=0)
    check_range("variance_covariance", "target", target, low=0, open_low=True)
    check_range("variance_covariance", "epsilon", epsilon, low=0, open_low=True)


class VarianceCovariance(nn.Module):
    """Variance and covariance regularisers with their options remembered; see `variance_covariance`."""

    def __init__(
        self, *, variance: float = 25.0, covariance: float = 1.0, target: float = 1.0, epsilon: float = 1e-4
    ) -> None:
        super().__init__()
        _check(variance, covariance, target, epsilon)
        self.variance, self.covariance, self.target, self.epsilon = variance, covariance, target, epsilon

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The penalty of one batch."""
        options = {"variance": self.variance, "covariance": self.covariance}
        return variance_covariance(embeddings, labels, target=self.target, epsilon=self.epsilon, **options)

"""Weights drawn anew in every step: what a clever rule must beat."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from accord.checks import check_count
from accord.ensembles._prior import check_unbound, checked_prior, prior_shares
from accord.ensembles._weighting import Members
from accord.types import Scalar

_STRIDE = 1_000_003  # seeds of neighbouring runs share no step below this one
SEEDS = 2**63 - 1


def drawn(seed: int, step: int) -> torch.Generator:
    """A generator for one step, on the CPU, so that a resumed run draws the same."""
    return torch.Generator().manual_seed((seed * _STRIDE + step) % SEEDS)


class RandomWeights(nn.Module):
    """Draw the weights anew in every step: w = softmax(z), z ~ N(0, I), whatever the losses are.

    The litmus test of a weighting: one that learns should do better than this. The total is Σ_i w_i · l_i. Weights
    depend on the seed and the step alone; in evaluation mode they are 1/m. `prior` multiplies each weight, made to
    have the mean 1; it is also the members' share at test time.

    Lin, Ye, Zhang & Tsang, TMLR 2022 (random loss weighting).
    """

    factors: torch.Tensor
    step: torch.Tensor

    def __init__(self, prior: Mapping[str, float] | None = None, *, seed: int = 0) -> None:
        super().__init__()
        check_count("RandomWeights", "seed", seed, low=0, high=SEEDS)
        self.prior, self.seed = checked_prior("RandomWeights", prior), seed
        self.last: Members | None = None

    def bind(self, names: Sequence[str]) -> None:
        """Count the members."""
        check_unbound("RandomWeights", "factors" in self._buffers)
        shares = torch.tensor(prior_shares("RandomWeights", self.prior, names))
        self.register_buffer("factors", shares * len(names), persistent=False)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Members) -> Scalar:
        """The sum of the losses under this step's weights."""
        self.last = self.factors / len(self.factors)
        if self.training:
            normal = torch.randn(len(losses), generator=drawn(self.seed, int(self.step)))
            self.last = self.factors * torch.softmax(normal, dim=0).to(self.factors.device)
            self.step.add_(1)
        return (self.last.to(losses.dtype) * losses).sum()

    def multipliers(self) -> Members:
        """What each raw loss was last multiplied by."""
        return self.shares() if self.last is None else self.last

    def shares(self) -> Members:
        """The prior, made to sum to 1."""
        return self.factors / len(self.factors)

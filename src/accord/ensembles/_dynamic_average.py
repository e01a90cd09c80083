"""Weights that follow how fast each loss fell from one epoch to the next."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from accord.checks import check_count, check_range
from accord.ensembles._prior import check_unbound, checked_prior, prior_shares
from accord.ensembles._weighting import Members
from accord.types import Scalar


def dynamic_average(last: Members, before: Members, *, temperature: float = 2.0) -> Members:
    """The weights of an epoch, from the losses' means in the last epoch and in the one before; they sum to m.

    w_i = m · softmax_i(r_i / T), r_i = last_i / before_i: a loss that falls slowly counts more. Liu, Johns & Davison,
    CVPR 2019, eq. 7, T = 2. A member whose mean is not positive in both epochs counts as unchanged, r_i = 1: the ratio
    of negative numbers says the opposite.
    """
    ratios = torch.where((last > 0) & (before > 0), last / before, 1)
    return len(last) * torch.softmax(ratios / temperature, dim=0)


class DynamicAverage(nn.Module):
    """Dynamic weight averaging: a loss that fell little in the last epoch counts more in this one.

    The total is Σ_i w_i · l_i with the weights of `dynamic_average`, all 1 in the first two epochs. An epoch is
    `steps_per_epoch` calls in training mode. `prior` multiplies each weight, made to have the mean 1; it is also the
    members' share at test time. The losses are not brought to a common scale, as in the paper.

    Liu, Johns & Davison, CVPR 2019.
    """

    factors: torch.Tensor
    sums: torch.Tensor
    last_epoch: torch.Tensor
    epoch_before: torch.Tensor
    steps: torch.Tensor

    def __init__(
        self, prior: Mapping[str, float] | None = None, *, steps_per_epoch: int, temperature: float = 2.0
    ) -> None:
        super().__init__()
        check_count("DynamicAverage", "steps_per_epoch", steps_per_epoch)
        check_range("DynamicAverage", "temperature", temperature, low=0, open_low=True)
        self.prior = checked_prior("DynamicAverage", prior)
        self.steps_per_epoch, self.temperature = steps_per_epoch, temperature

    def bind(self, names: Sequence[str]) -> None:
        """Begin with weights of 1."""
        check_unbound("DynamicAverage", "factors" in self._buffers)
        shares = torch.tensor(prior_shares("DynamicAverage", self.prior, names))
        self.register_buffer("factors", shares * len(names), persistent=False)
        for name in ("sums", "last_epoch", "epoch_before"):
            self.register_buffer(name, torch.zeros(len(names)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Members) -> Scalar:
        """The weighted sum of the losses."""
        if self.training:
            self._begin()
            self.sums.add_(losses.detach().to(self.sums.dtype))
            self.steps.add_(1)
        return (self.multipliers().to(losses.dtype) * losses).sum()

    def multipliers(self) -> Members:
        """What each raw loss is multiplied by in this epoch."""
        # the step that was just taken counts: the third epoch begins with the first step after two whole ones
        known = self.steps > 2 * self.steps_per_epoch
        weights = dynamic_average(self.last_epoch, self.epoch_before, temperature=self.temperature)
        return self.factors * torch.where(known, weights, 1)

    def shares(self) -> Members:
        """The prior, made to sum to 1."""
        return self.factors / len(self.factors)

    def _begin(self) -> None:
        """Where an epoch has just ended, put its means away."""
        ended = (self.steps % self.steps_per_epoch == 0) & (self.steps > 0)
        self.epoch_before.copy_(torch.where(ended, self.last_epoch, self.epoch_before))
        self.last_epoch.copy_(torch.where(ended, self.sums / self.steps_per_epoch, self.last_epoch))
        self.sums.copy_(torch.where(ended, 0, self.sums))

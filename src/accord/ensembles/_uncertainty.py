"""Weights from learned uncertainties: a loss that stays large counts less."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from accord.checks import check_range
from accord.ensembles._prior import check_unbound, checked_prior, prior_shares
from accord.ensembles._weighting import Members
from accord.types import Scalar


def uncertainty_total(losses: Members, s: Members, *, factors: Members | None = None) -> Scalar:
    """The total of losses under learned log-variances s: Σ_i ½ · (exp(−s_i) · L_i + s_i), each times its factor.

    Kendall, Gal & Cipolla, CVPR 2018, eq. 7 in the form with s = log σ². At the best s_i = log L_i this is
    Σ_i ½ · log L_i up to a constant: what counts is by which share a loss shrinks. That needs L_i > 0. We differ
    where it is not: a negative loss keeps its direction while s_i follows log |L_i|, as exp(−s_i) · L_i has no lower
    bound then; and where L_i is 0, s_i rests. For positive losses value and gradients are the paper's.
    """
    inverse = torch.exp(-s)
    size = losses.detach().abs()
    known = inverse.detach()
    # the first term moves the network, the second, which is worth nothing, moves s
    terms = known * losses + (inverse - known) * size + torch.where(size > 0, s, s.detach())
    return (terms / 2 * (1 if factors is None else factors)).sum()


class UncertaintyWeights(nn.Module):
    """Learn how uncertain each loss is and divide by it: the total is `uncertainty_total` of the losses.

    The log-variances s are `loss_weights`, begin at `start` and are trained with the network, at a rate of their own.
    They are slow: a loss falls faster than s can follow unless that rate is high. `prior` multiplies each member's
    term, made to have the mean 1; it is also the members' share at test time, as ½ · exp(−s) says how large a loss is
    and nothing about its head.

    Kendall, Gal & Cipolla, CVPR 2018; a start of −0.5 as in LibMTL. On losses that are 0 or negative see
    `uncertainty_total`.
    """

    loss_weights: nn.Parameter
    factors: torch.Tensor

    def __init__(self, prior: Mapping[str, float] | None = None, *, start: float = -0.5) -> None:
        super().__init__()
        check_range("UncertaintyWeights", "start", start, low=-50, high=50)
        self.prior, self.start = checked_prior("UncertaintyWeights", prior), start
        self.last: Members | None = None

    def bind(self, names: Sequence[str]) -> None:
        """Make one log-variance for each member."""
        check_unbound("UncertaintyWeights", "factors" in self._buffers)
        shares = torch.tensor(prior_shares("UncertaintyWeights", self.prior, names))
        self.register_buffer("factors", shares * len(names), persistent=False)
        self.loss_weights = nn.Parameter(torch.full((len(names),), float(self.start)))

    def forward(self, losses: Members) -> Scalar:
        """The total of one batch."""
        self.last = self._weights()
        return uncertainty_total(losses, self.loss_weights.to(losses.dtype), factors=self.factors.to(losses.dtype))

    def multipliers(self) -> Members:
        """What each raw loss was last multiplied by: ½ · exp(−s), times the prior."""
        return self._weights() if self.last is None else self.last

    def shares(self) -> Members:
        """The prior, made to sum to 1."""
        return self.factors / len(self.factors)

    def _weights(self) -> Members:
        return self.factors * torch.exp(-self.loss_weights.detach()) / 2

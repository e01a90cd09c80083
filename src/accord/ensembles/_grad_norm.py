"""Weights under which every loss pulls at the trunk in proportion to how far it lags behind."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from accord.checks import check_range
from accord.ensembles._prior import check_unbound, checked_prior, prior_shares
from accord.ensembles._weighting import Members
from accord.types import Scalar


def grad_norm_pull(norms: Members, weights: Members, progress: Members, *, alpha: float = 1.5) -> Members:
    """The gradient of GradNorm's own loss, Σ_i |G_i − Ḡ · r_i^α|, with respect to the weights w.

    `norms` are G_i = w_i · ‖∇L_i‖ ≥ 0, `progress` is L_i / L_i(0) ≥ 0; r_i is progress over its mean, Ḡ the mean of
    G, and the target Ḡ · r_i^α is a constant. Chen et al., ICML 2018, eq. 2.
    """
    rates = progress / progress.mean().clamp_min(torch.finfo(progress.dtype).tiny)
    return (norms - norms.mean() * rates**alpha).sign() * norms / weights


class GradNorm(nn.Module):
    """Learn weights under which each loss's gradient is as long as it should be, longer for one that lags behind.

    The total is Σ_i w_i · l_i with w = m · softmax(v), so that Σw = m; v is `loss_weights` and starts at 0. It has
    the gradient of Σ_i |G_i − Ḡ · r_i^α| alone, and of nothing else; α = 1.5. It needs a `GradientBalance` in
    the ensemble, which measures the gradients: G_i is the length of the gradient of w_i · l_i with respect to the
    pooled feature that the heads share. `prior` multiplies each member's term after that, made to have the mean 1; it
    is also the members' share at test time.

    Chen, Badrinarayanan, Lee & Rabinovich, ICML 2018, eq. 2. We differ: the paper measures at the last shared layer's
    weights; it takes w itself as parameters and divides by their sum after every step; and L_i(0) is the first value
    that is not 0, with sizes in place of negative losses. A member that the ensemble leaves out counts in no mean, and
    its v rests.
    """

    loss_weights: nn.Parameter
    factors: torch.Tensor
    first: torch.Tensor
    resting: torch.Tensor

    def __init__(self, prior: Mapping[str, float] | None = None, *, alpha: float = 1.5) -> None:
        super().__init__()
        check_range("GradNorm", "alpha", alpha, low=0)
        self.prior, self.alpha = checked_prior("GradNorm", prior), alpha
        self.latest: Members | None = None
        self.last: Members | None = None
        self.names: tuple[str, ...] = ()

    def bind(self, names: Sequence[str]) -> None:
        """Begin with weights of 1."""
        check_unbound("GradNorm", "factors" in self._buffers)
        shares = torch.tensor(prior_shares("GradNorm", self.prior, names))
        self.register_buffer("factors", shares * len(names), persistent=False)
        self.register_buffer("first", torch.zeros(len(names)))
        self.register_buffer("resting", torch.zeros(len(names), dtype=torch.bool), persistent=False)
        self.names = tuple(names)
        self.loss_weights = nn.Parameter(torch.zeros(len(names)))

    def forward(self, losses: Members) -> Scalar:
        """The weighted sum of the losses; the weights are constants for its gradient."""
        if self.training:
            size = losses.detach().abs().to(self.first.dtype)
            unmet = (self.first == 0) & size.isfinite()
            self.first.copy_(torch.where(unmet, size, self.first))
            self.latest = size
        self.last = self.factors * self._weights()
        return (self.last.to(losses.dtype) * losses).sum()

    def pull(self, norms: Members) -> Members:
        """The gradient of `loss_weights`, from the length of each member's gradient, prior and weight included."""
        if self.latest is None:
            return torch.zeros_like(self.loss_weights)
        progress = torch.where(self.first > 0, self.latest / self.first, 1)
        weights = self._weights()
        length = norms.to(weights) / self.factors
        kept, outer = ~self.resting, torch.zeros_like(weights)
        outer[kept] = grad_norm_pull(length[kept], weights[kept], progress[kept], alpha=self.alpha)
        return kept * weights * (outer - (weights * outer).sum() / len(weights))  # through the softmax

    def leave_out(self, names: Sequence[str]) -> None:
        """Count these members no more."""
        self.resting.copy_(torch.tensor([name in names for name in self.names]))

    def multipliers(self) -> Members:
        """What each raw loss was last multiplied by."""
        return self.factors * self._weights() if self.last is None else self.last

    def shares(self) -> Members:
        """The prior, made to sum to 1."""
        return self.factors / len(self.factors)

    def _weights(self) -> Members:
        return len(self.factors) * torch.softmax(self.loss_weights.detach(), dim=0)

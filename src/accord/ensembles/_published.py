"""Weights that are trained with the network, held to a sum of 1 by a penalty, as the ensemble paper has them."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from accord.checks import check_flag, check_range
from accord.ensembles._prior import check_unbound, checked_prior, prior_shares
from accord.ensembles._weighting import Members
from accord.errors import UsageError
from accord.types import Scalar

_ROUNDING = 1e-6  # a share may miss the floor by so much of it and still counts as equal


def published_total(losses: Members, c: Members, *, eta: float = 10_000.0) -> Scalar:
    """The ensemble paper's total of normalised losses: Σ_j w_j · l̂_j + η · (Σ_j w_j − 1)², w_j = c_j² + 1/(4m).

    Zabihzadeh, Alitbi & Mousavirad, arXiv 2107.01130; as in the code of its first author. Whatever the sizes of the
    losses, a long training moves all free weight to the smallest of them: the others keep the floor 1/(4m), and the
    sum ends at 1 − l̂_min / (2η).
    """
    weights = c.square() + 1 / (4 * len(c))
    return (weights * losses).sum() + eta * (weights.sum() - 1).square()


class PublishedWeights(nn.Module):
    """Learn the weights with the network: the rule of the ensemble paper.

    Each loss is first brought to the common scale, l̂_j = (l̄ / l̄_j) · l_j, with l̄_j the mean of l_j over all steps
    so far, this one included, and l̄ the mean of the l̄_j; both are constants for the gradient. Then `published_total`
    weighs them. The weights begin at `prior`, made to sum to 1, and are `loss_weights`, c in the formula: train them
    at a low rate of their own (the paper's is Adam's 1e-4, eps 0.01, with a weight decay of 1e-4).

    A member whose share of the prior is below 1/(4m) is refused, as no c gives that weight. At exactly 1/(4m) its c is
    0 and has no gradient: the weight stays there for ever. No prior and equal ones are fine, as 1/m is above.

    Zabihzadeh, Alitbi & Mousavirad, arXiv 2107.01130, eq. 8 and 11. We differ in what a loss does that is 0 or
    negative, which the formula divides by: `guard=True` takes the mean of |l_j| over the steps in which l_j was not 0,
    and a member that was always 0 counts as it is. For positive losses both are the same. `guard=False` is the formula
    as published, infinite or NaN where l̄_j is 0. With the guard a negative loss keeps its direction, and as the
    smallest one it draws the weight. The weight of a member that the ensemble leaves out stays where it is, as its loss
    of 0 would draw all of it.
    """

    loss_weights: nn.Parameter
    means: torch.Tensor
    counts: torch.Tensor
    resting: torch.Tensor

    def __init__(self, prior: Mapping[str, float] | None = None, *, eta: float = 10_000.0, guard: bool = True) -> None:
        super().__init__()
        check_range("PublishedWeights", "eta", eta, low=0, open_low=True)
        check_flag("PublishedWeights", "guard", guard)
        self.prior, self.eta, self.guard = checked_prior("PublishedWeights", prior), eta, guard
        self.last: Members | None = None
        self.names: tuple[str, ...] = ()

    def bind(self, names: Sequence[str]) -> None:
        """Start every weight at its share of the prior; refuse shares below the floor."""
        check_unbound("PublishedWeights", "means" in self._buffers)
        floor = 1 / (4 * len(names))
        shares = prior_shares("PublishedWeights", self.prior, names)
        given = dict(zip(names, shares, strict=True))
        low = [f"{name} ({share:.3g})" for name, share in given.items() if share < floor * (1 - _ROUNDING)]
        if low:
            raise UsageError(
                f"PublishedWeights: no weight is below 1/(4m) = {floor:.3g} of the sum, but the prior of "
                f"{', '.join(low)} is.\n  Give a higher prior, or equal ones."
            )
        self.loss_weights = nn.Parameter(torch.tensor([max(0.0, share - floor) ** 0.5 for share in shares]))
        self.register_buffer("means", torch.zeros(len(names)))
        self.register_buffer("counts", torch.zeros(len(names)))
        self.register_buffer("resting", torch.zeros(len(names), dtype=torch.bool), persistent=False)
        self.names = tuple(names)

    def forward(self, losses: Members) -> Scalar:
        """The weighted sum of the normalised losses, with the penalty."""
        if self.training:
            self._observe(losses.detach())
        factors = self._factors()
        self.last = factors * self._weights()
        c = self.loss_weights.to(losses.dtype)
        c = torch.where(self.resting, c.detach(), c)
        return published_total(factors.to(losses.dtype) * losses, c, eta=self.eta)

    def leave_out(self, names: Sequence[str]) -> None:
        """Let the weights of these members rest."""
        self.resting.copy_(torch.tensor([name in names for name in self.names]))

    def multipliers(self) -> Members:
        """What each raw loss was last multiplied by: w_j · l̄ / l̄_j."""
        return self._weights() if self.last is None else self.last

    def shares(self) -> Members:
        """The weights w, made to sum to exactly 1."""
        weights = self._weights()
        return weights / weights.sum()

    def scales(self) -> Members:
        """The means l̄_j."""
        return self.means

    def _weights(self) -> Members:
        return self.loss_weights.detach().square() + 1 / (4 * len(self.loss_weights))

    def _factors(self) -> Members:
        met = self.counts > 0
        common = self.means.sum() / (met.sum() if self.guard else len(self.means))
        return torch.where(met, common / self.means, 1)

    def _observe(self, losses: Members) -> None:
        size = (losses.abs() if self.guard else losses).to(self.means.dtype)
        taken = size.isfinite() & (size > 0) if self.guard else torch.ones_like(size, dtype=torch.bool)
        self.counts.add_(taken)
        moved = self.means + (size - self.means) / self.counts.clamp_min(1)
        self.means.copy_(torch.where(taken, moved, self.means))

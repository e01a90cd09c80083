"""Fixed weights between losses that have first been brought to a common scale."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from accord.checks import check_range
from accord.ensembles._weighting import Members
from accord.errors import UnknownNameError, UsageError
from accord.types import Scalar


class FixedWeights(nn.Module):
    """Give each member a fixed share of the total, whatever the scale of its loss.

    With shares w (equal by default, made to sum to 1) the total is

        L = Σ_j w_j · (s̄ / s_j) · l_j,        s̄ = Σ_j w_j · s_j,

    where the scale s_j is the running mean of |l_j| over the batches before (for the first: over itself). So each
    member contributes about w_j · s̄, and L stays on the scale of the losses: it shrinks as they do. `normalise=False`
    gives Σ_j w_j · l_j with the weights as they are.

    After Zabihzadeh, Alitbi & Mousavirad, arXiv 2107.01130, where weights are learned and s_j is the mean over all
    iterations, this one included. We differ: weights are fixed; the scales are known before the losses, so that their
    gradients can be summed in one pass; the running mean is exponential with `momentum`, bias-corrected, so early
    values are forgotten; it is of |l_j|, as a loss may be negative (Proxy-NCA); s̄ is weighted by w, so a member of
    weight 0 changes nothing; a loss of exactly 0 (no triplets left) does not move its scale; and s_j counts as at least
    `floor` · s̄, so a vanishing loss is amplified at most 1 / floor times. Scales are constants for the gradient; they
    move in training mode only and live in buffers, so a resumed run continues with them.
    """

    shares_given: torch.Tensor
    running: torch.Tensor
    mass: torch.Tensor
    last: torch.Tensor | None

    def __init__(
        self,
        weights: Mapping[str, float] | None = None,
        normalise: bool = True,
        *,
        momentum: float = 0.99,
        floor: float = 0.05,
    ) -> None:
        super().__init__()
        check_range("FixedWeights", "momentum", momentum, low=0, high=1, open_high=True)
        check_range("FixedWeights", "floor", floor, low=0, high=1, open_low=True)
        for name, weight in (weights or {}).items():
            check_range("FixedWeights", f"the weight of '{name}'", weight, low=0)
        self.weights = None if weights is None else dict(weights)
        self.normalise, self.momentum, self.floor = normalise, momentum, floor

    def bind(self, names: Sequence[str]) -> None:
        """Match the weights to the members; every member needs one, and at least one must be positive."""
        if "running" in self._buffers:
            raise UsageError("FixedWeights: already serves an ensemble; make one for each, as it keeps their scales.")
        given = self.weights if self.weights is not None else dict.fromkeys(names, 1 / len(names))
        for name in given:
            if name not in names:
                raise UnknownNameError("member of the ensemble", name, names)
        missing = [name for name in names if name not in given]
        if missing or not any(given.values()):
            wish = f"has no weight for {', '.join(missing)}" if missing else "needs a weight above 0"
            raise UsageError(f"FixedWeights: {wish}; give each of {', '.join(names)} a weight.")
        self.register_buffer("shares_given", torch.tensor([float(given[name]) for name in names]), persistent=False)
        self.register_buffer("running", torch.zeros(len(names)))
        self.register_buffer("mass", torch.zeros(len(names)))
        self.register_buffer("last", None, persistent=False)

    def forward(self, losses: Members) -> Scalar:
        """The weighted sum of the members' losses."""
        known = (self.mass > 0).all()
        before = self._balanced()
        self.observe(losses.detach())
        # a member met for the first time has no scale but this batch's
        self.last = torch.where(known, before, self._balanced()) if self.training else before
        return (self.last.to(losses.dtype) * losses).sum()

    def ahead(self) -> Members | None:
        """The multipliers of the coming losses; None before each member was met, and where asking would wait."""
        if self.normalise and self.training:
            if self.mass.device.type != "cpu" or torch.compiler.is_compiling():
                return None
            known: list[bool] = (self.mass > 0).all().reshape(1).tolist()
            if not known[0]:
                return None
        self.last = self._balanced()
        return self.last

    def observe(self, losses: Members) -> None:
        """Let the scales follow, in training mode."""
        if self.training:
            self._observe(losses.detach())

    def multipliers(self) -> Members:
        """What each raw loss was last multiplied by; the bare shares before anything has been seen."""
        return self._balanced() if self.last is None else self.last

    def _balanced(self) -> Members:
        if not self.normalise:
            return self.shares_given
        shares = self.shares()
        seen, scales = self.mass > 0, self.scales()
        # over the members seen so far: an unseen one must not pull the common scale to zero
        common = (shares * scales).sum() / (shares * seen).sum().clamp_min(torch.finfo(shares.dtype).tiny)
        level = torch.where(seen, torch.maximum(scales, self.floor * common), common)
        return shares * torch.where(level > 0, common / level, 1)

    def scales(self) -> Members:
        """The running mean of each |l_j|, where it is used; 1 without normalisation, 0 for a loss not yet met."""
        if not self.normalise:
            return torch.ones_like(self.running)
        return self.running / torch.where(self.mass > 0, self.mass, 1)

    def shares(self) -> Members:
        """The weights, made to sum to 1."""
        return self.shares_given / self.shares_given.sum()

    def _observe(self, losses: Members) -> None:
        size = losses.abs().to(self.running.dtype)
        counts = size.isfinite() & (size > 0)
        kept = 1 - (1 - self.momentum) * counts
        self.running.copy_(torch.where(counts, self.momentum * self.running + (1 - self.momentum) * size, self.running))
        self.mass.copy_(kept * self.mass + (1 - self.momentum) * counts)

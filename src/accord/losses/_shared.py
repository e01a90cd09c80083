"""What several losses need: means that are zero over nothing, and the first values of learned classes."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from accord.checks import check_count
from accord.types import Scalar


def mean_where(values: Float[Tensor, "*axes"], kept: Bool[Tensor, "*axes"]) -> Scalar:
    """Mean of the values that are kept; where none is, a zero that still carries a (zero) gradient."""
    return torch.where(kept, values, 0).sum() / kept.sum().clamp_min(1)


def mean(values: Float[Tensor, "*axes"]) -> Scalar:
    """Mean of all values; of none, a zero that still carries a gradient."""
    return values.sum() / max(1, values.numel())


def class_table(who: str, *, dim: int, classes: int, spread: float, generator: torch.Generator | None) -> nn.Parameter:
    """A learned vector per class, drawn from N(0, spread²).

    Without a generator a fresh one with seed 0 is used, so that the global random state is neither read nor moved.
    """
    check_count(who, "dim", dim)
    check_count(who, "classes", classes, low=2)
    source = generator or torch.Generator().manual_seed(0)
    return nn.Parameter(torch.randn(classes, dim, generator=source, device=source.device) * spread)

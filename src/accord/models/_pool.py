"""Pooling: one number per channel of a feature map. Features that are already pooled pass through."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.errors import UnknownNameError

Features = Float[Tensor, "batch feature *grid"]
Pooled = Float[Tensor, "batch feature"]


class AveragePool(nn.Module):
    """The mean of each channel."""

    def forward(self, features: Features) -> Pooled:
        """(batch, width, rows, columns) → (batch, width)."""
        return features if features.ndim == 2 else features.mean((2, 3))


class MaxPool(nn.Module):
    """The largest value of each channel; among equal ones the gradient is shared."""

    def forward(self, features: Features) -> Pooled:
        """(batch, width, rows, columns) → (batch, width)."""
        return features if features.ndim == 2 else features.amax((2, 3))


class GemPool(nn.Module):
    """The generalised mean (Σ xᵖ / n)^(1/p) of each channel, with one learned p ≥ 1: from average (1) to max (∞).

    Radenović et al., TPAMI 2019, eq. 3, with one p for all channels. Values are raised to at least `floor` first, so
    that the root and its gradient stay finite; p is held at 1 or more. The powers are taken of values relative to the
    channel's largest, so that none overflows.
    """

    def __init__(self, p: float = 3.0, floor: float = 1e-6) -> None:
        super().__init__()
        self.p, self.floor = nn.Parameter(torch.tensor(float(p))), floor

    def forward(self, features: Features) -> Pooled:
        """(batch, width, rows, columns) → (batch, width)."""
        if features.ndim == 2:
            return features
        values = features.clamp_min(self.floor).flatten(2)
        largest = values.detach().amax(2, keepdim=True)
        p = self.p.clamp_min(1.0)
        return largest[..., 0] * (values / largest).pow(p).mean(2).pow(1 / p)


class AverageMaxPool(nn.Module):
    """Half the mean plus half the largest value of each channel; the width stays."""

    def forward(self, features: Features) -> Pooled:
        """(batch, width, rows, columns) → (batch, width)."""
        return features if features.ndim == 2 else (features.mean((2, 3)) + features.amax((2, 3))) / 2


POOLS: dict[str, type[nn.Module]] = {
    "average": AveragePool,
    "average_max": AverageMaxPool,
    "gem": GemPool,
    "max": MaxPool,
}


def build_pool(name: str) -> nn.Module:
    """A pooling by name: `average`, `average_max`, `gem` or `max`."""
    if name not in POOLS:
        raise UnknownNameError("pooling", name, POOLS)
    return POOLS[name]()


def pool_name(pool: nn.Module) -> str | None:
    """The name `build_pool` knows a pooling by, or None for a foreign one."""
    return next((name for name, kind in POOLS.items() if type(pool) is kind), None)

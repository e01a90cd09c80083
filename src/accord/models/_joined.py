"""A head made of heads: several side by side, each with its factor, and one more map on top of them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_range
from accord.errors import UsageError
from accord.geometry import normalise
from accord.types import Json


class JoinedHead(nn.Module):
    """Heads of one feature side by side, and `outer` on top of them: an ensemble compressed to `outer.dim` numbers.

    With `unit` each head is brought to unit length first, as an `Embedder` does; then it is multiplied by its factor.
    `heads` and `outer` are heads of this room: `outer` takes as many numbers as the heads give together. At test time
    all of them are computed, so it costs more than one head.
    """

    def __init__(
        self, heads: Mapping[str, nn.Module], outer: nn.Module, *, factors: Mapping[str, float], unit: bool = True
    ) -> None:
        super().__init__()
        if not heads or set(heads) != set(factors):
            raise UsageError(f"JoinedHead: factors name {sorted(factors)}, but the heads are {sorted(heads)}.")
        for name, factor in factors.items():
            check_range("JoinedHead", f"the factor of '{name}'", factor, low=0)
        numbers, wide = sum(_size(head, "dim") for head in heads.values()), _size(outer, "width")
        if numbers != wide:
            raise UsageError(f"JoinedHead: the heads give {numbers} numbers, but what is on top of them takes {wide}.")
        self.heads, self.outer = nn.ModuleDict(dict(heads)), outer
        self.factors, self.unit = {name: float(factors[name]) for name in heads}, unit
        self.width, self.dim = _size(next(iter(heads.values())), "width"), _size(outer, "dim")

    def forward(self, features: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch dim"]:
        """(batch, width) → (batch, dim)."""
        parts = []
        for name, head in self.heads.items():
            output: Tensor = head(features)
            parts.append((normalise(output) if self.unit else output) * self.factors[name])
        joined: Tensor = self.outer(torch.cat(parts, dim=1))
        return joined

    def describe(self) -> Json:
        """What is needed to build it again."""
        heads = {name: _described(head) for name, head in self.heads.items()}
        return {
            "kind": "joined",
            "heads": heads,
            "outer": _described(self.outer),
            "factors": self.factors,
            "unit": self.unit,
        }


def _size(head: nn.Module, name: str) -> int:
    size = getattr(head, name, None)
    if not isinstance(size, int) or not hasattr(head, "describe"):
        raise UsageError(f"JoinedHead: wants LinearHead, MLPHead or TrunkHead, not {type(head).__name__}.")
    return size


def _described(head: Any) -> Json:
    described: Json = head.describe()
    return described

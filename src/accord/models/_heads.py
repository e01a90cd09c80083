"""Heads: from the pooled feature to an embedding. An ensemble usually gives each loss its own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_range
from accord.errors import ArtifactError, UsageError
from accord.geometry import normalise as to_unit_length
from accord.models._initial import draw_weights, linear
from accord.types import Json

Pooled = Float[Tensor, "batch feature"]
Output = Float[Tensor, "batch dim"]


class TrunkHead(nn.Module):
    """The pooled feature itself, without parameters: alone it makes the frozen backbone, the baseline, an Embedder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        check_range("TrunkHead", "width", width, low=1)
        self.width = self.dim = width

    def forward(self, features: Pooled) -> Output:
        """Hands the feature on."""
        return features

    def describe(self) -> Json:
        """What is needed to build it again."""
        return {"kind": "trunk", "width": self.width}


class LinearHead(nn.Module):
    """One affine map, then (by default) unit length; a zero row stays zero."""

    def __init__(
        self, width: int, dim: int, normalise: bool = True, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        check_range("LinearHead", "width", width, low=1)
        check_range("LinearHead", "dim", dim, low=1)
        self.width, self.dim, self.normalise = width, dim, normalise
        self.linear = linear(width, dim)
        draw_weights(self, generator)

    def forward(self, features: Pooled) -> Output:
        """(batch, width) → (batch, dim)."""
        output: Tensor = self.linear(features)
        return to_unit_length(output) if self.normalise else output

    def describe(self) -> Json:
        """What is needed to build it again."""
        return {"kind": "linear", "width": self.width, "dim": self.dim, "normalise": self.normalise}


class MLPHead(nn.Module):
    """Two affine maps with a ReLU between them, then (by default) unit length. `hidden` defaults to the width."""

    def __init__(
        self,
        width: int,
        dim: int,
        hidden: int | None = None,
        normalise: bool = True,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        hidden = width if hidden is None else hidden
        for name, value in (("width", width), ("dim", dim), ("hidden", hidden)):
            check_range("MLPHead", name, value, low=1)
        self.width, self.dim, self.hidden, self.normalise = width, dim, hidden, normalise
        self.inner, self.outer = linear(width, hidden), linear(hidden, dim)
        draw_weights(self, generator)

    def forward(self, features: Pooled) -> Output:
        """(batch, width) → (batch, dim)."""
        output: Tensor = self.outer(F.relu(self.inner(features)))
        return to_unit_length(output) if self.normalise else output

    def describe(self) -> Json:
        """What is needed to build it again."""
        sizes = {"width": self.width, "dim": self.dim, "hidden": self.hidden}
        return {"kind": "mlp", **sizes, "normalise": self.normalise}


HEADS: dict[str, Callable[..., nn.Module]] = {"linear": LinearHead, "mlp": MLPHead, "trunk": TrunkHead}


def describe_head(name: str, head: nn.Module, dim: int) -> Json:
    """A head's description; refuses foreign heads, which could not be built again."""
    if isinstance(head, nn.Identity):
        return {"kind": "trunk", "width": dim}
    if not isinstance(head, TrunkHead | LinearHead | MLPHead):
        raise UsageError(
            f"Embedder: head '{name}' is a {type(head).__name__}, which can't be described as JSON.\n"
            "  Use LinearHead, MLPHead or TrunkHead, or put the layers into a backbone named 'package.module:factory'."
        )
    return head.describe()


def build_head(description: Json) -> nn.Module:
    """The head a description speaks of; raises ArtifactError where it makes no sense."""
    options = dict(description)
    kind = options.pop("kind", None)
    if kind not in HEADS:
        raise ArtifactError(f"There is no head of kind {kind!r}. Known: {', '.join(HEADS)}.")
    try:
        return HEADS[kind](**options)
    except (TypeError, UsageError) as reason:
        raise ArtifactError(f"A {kind} head can't be built from {options}: {reason}") from reason

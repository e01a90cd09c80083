"""Heads: from the pooled feature to an embedding. An ensemble usually gives each loss its own."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_range
from accord.errors import ArtifactError, UnknownNameError, UsageError
from accord.geometry import normalise as to_unit_length
from accord.models._initial import draw_weights, linear
from accord.models._joined import JoinedHead
from accord.types import Json

Pooled = Float[Tensor, "batch feature"]
Output = Float[Tensor, "batch dim"]
_OPEN = 4.0  # where masks begin; sigmoid(4) = 0.98


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
    """One affine map, then (by default) unit length; a zero row stays zero.

    With `apart` what is learnt of its output stays in the head and teaches nothing below it. That is for training, and
    no part of its description.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        normalise: bool = True,
        *,
        generator: torch.Generator | None = None,
        apart: bool = False,
    ) -> None:
        super().__init__()
        check_range("LinearHead", "width", width, low=1)
        check_range("LinearHead", "dim", dim, low=1)
        self.width, self.dim, self.normalise, self.apart = width, dim, normalise, apart
        self.linear = linear(width, dim)
        draw_weights(self, generator)

    def forward(self, features: Pooled) -> Output:
        """(batch, width) → (batch, dim)."""
        output: Tensor = self.linear(features.detach() if self.apart else features)
        return to_unit_length(output) if self.normalise else output

    def describe(self) -> Json:
        """What is needed to build it again."""
        return {"kind": "linear", "width": self.width, "dim": self.dim, "normalise": self.normalise}


class MaskedLinearHead(nn.Module):
    """A linear head that looks at the feature through a mask of its own: A (sigmoid(mask) ∘ x) + b, then unit length.

    Each of several heads can learn which parts of the shared feature it goes by. Masks begin at 0.98, all numbers being
    seen, and are drawn from nothing, so the affine map begins as that of a `LinearHead` with the same generator.
    `folded` gives the linear head that computes the same.

    A mask is a diagonal factor of A, so it changes how a head learns and not what it can compute. After the attention
    masks of Kim et al., ECCV 2018 (ABE), which depend on the image and mask a feature map; ours are one vector per
    head, on the pooled feature.
    """

    def __init__(
        self, width: int, dim: int, normalise: bool = True, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        check_range("MaskedLinearHead", "width", width, low=1)
        check_range("MaskedLinearHead", "dim", dim, low=1)
        self.width, self.dim, self.normalise = width, dim, normalise
        self.linear = linear(width, dim)
        draw_weights(self, generator)
        self.mask = nn.Parameter(torch.full((width,), _OPEN))

    def forward(self, features: Pooled) -> Output:
        """(batch, width) → (batch, dim)."""
        output: Tensor = self.linear(features * self.mask.sigmoid())
        return to_unit_length(output) if self.normalise else output

    @torch.no_grad()
    def folded(self) -> LinearHead:
        """The linear head with the mask in its weights: the same outputs at the cost of one affine map."""
        weight = self.linear.weight
        head = LinearHead(self.width, self.dim, self.normalise, generator=torch.Generator().manual_seed(0))
        head = head.to(device=weight.device, dtype=weight.dtype)
        head.linear.weight.copy_(weight * self.mask.sigmoid())
        head.linear.bias.copy_(self.linear.bias)
        return head.train(self.training)

    def describe(self) -> Json:
        """What is needed to build it again."""
        return {"kind": "masked", "width": self.width, "dim": self.dim, "normalise": self.normalise}


class MLPHead(nn.Module):
    """Two affine maps with a ReLU between them, then (by default) unit length. `hidden` defaults to the width.

    `activation="tanh"` puts a tanh in the place of the ReLU.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        hidden: int | None = None,
        normalise: bool = True,
        *,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if activation not in ("relu", "tanh"):
            raise UnknownNameError("activation", activation, ("relu", "tanh"))
        hidden = width if hidden is None else hidden
        for name, value in (("width", width), ("dim", dim), ("hidden", hidden)):
            check_range("MLPHead", name, value, low=1)
        self.width, self.dim, self.hidden, self.normalise = width, dim, hidden, normalise
        self.activation = activation
        self.inner, self.outer = linear(width, hidden), linear(hidden, dim)
        draw_weights(self, generator)

    def forward(self, features: Pooled) -> Output:
        """(batch, width) → (batch, dim)."""
        inner: Tensor = self.inner(features)
        output: Tensor = self.outer(F.relu(inner) if self.activation == "relu" else inner.tanh())
        return to_unit_length(output) if self.normalise else output

    def describe(self) -> Json:
        """What is needed to build it again."""
        sizes = {"width": self.width, "dim": self.dim, "hidden": self.hidden}
        # named only where it is not the usual one: models of older versions keep their fingerprints
        other = {} if self.activation == "relu" else {"activation": self.activation}
        return {"kind": "mlp", **sizes, "normalise": self.normalise, **other}


def _joined(heads: dict[str, Json], outer: Json, **options: Any) -> JoinedHead:
    """A head of heads from the descriptions of its parts."""
    return JoinedHead({name: build_head(head) for name, head in heads.items()}, build_head(outer), **options)


HEADS: dict[str, Callable[..., nn.Module]] = {
    "linear": LinearHead,
    "masked": MaskedLinearHead,
    "mlp": MLPHead,
    "trunk": TrunkHead,
    "joined": _joined,
}


def describe_head(name: str, head: nn.Module, dim: int) -> Json:
    """A head's description; refuses foreign heads, which could not be built again."""
    if isinstance(head, nn.Identity):
        return {"kind": "trunk", "width": dim}
    if not isinstance(head, TrunkHead | LinearHead | MaskedLinearHead | MLPHead | JoinedHead):
        raise UsageError(
            f"Embedder: head '{name}' is a {type(head).__name__}, which can't be described as JSON.\n"
            "  Use LinearHead, MaskedLinearHead, MLPHead or TrunkHead, or put the layers into a backbone named "
            "'package.module:factory'."
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
    except (TypeError, AttributeError, UsageError) as reason:
        raise ArtifactError(f"A {kind} head can't be built from {options}: {reason}") from reason

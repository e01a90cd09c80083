"""What a compression is fitted to: a run's pooled features, its heads side by side, and the head it ends as."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from accord.ensembles import Affine, compose, head_distance_scales, side_by_side
from accord.errors import UsageError
from accord.geometry import normalise
from accord.models import Embedder, JoinedHead, LinearHead, MLPHead, TrunkHead

SCALES = ("unit", "length", "distance")


class Stored(NamedTuple):
    """The pooled trunk features of some images, in main memory, and the numbers of their classes."""

    features: Tensor
    labels: Tensor


class Cost(NamedTuple):
    """What the heads take for one image after the trunk: multiply-adds, and parameters to keep."""

    multiply_adds: int
    parameters: int


@dataclass(frozen=True)
class Space:
    """A run's heads side by side, each times its factor; with `unit` each image's output has unit length before.

    Without `unit` a lone linear head gives what it has before it is brought to unit length.
    """

    heads: Mapping[str, nn.Module]
    factors: Mapping[str, float]
    unit: bool

    @torch.no_grad()
    def joined(self, features: Tensor) -> Tensor:
        """(item, number), in double precision."""
        outputs = outputs_of(self.heads, features, raw=not self.unit)
        parts = [(normalise(output) if self.unit else output).double() for output in outputs.values()]
        return torch.cat([part * self.factors[name] for part, name in zip(parts, outputs, strict=True)], dim=1)

    def affine(self) -> Affine | None:
        """The joined numbers as one affine map of the feature; None where they are not."""
        if self.unit or why_not_affine(self.heads) is not None:
            return None
        return side_by_side([affine_of(head) for head in self.heads.values()], [self.factors[n] for n in self.heads])


def heads_of(embedder: Embedder, shares: Mapping[str, float]) -> dict[str, nn.Module]:
    """The heads that count, in main memory."""
    return {name: head.cpu().eval() for name, head in embedder.heads.items() if shares[name] > 0}


@torch.no_grad()
def space_of(heads: Mapping[str, nn.Module], shares: Mapping[str, float], scale: str, features: Tensor) -> Space:
    """The heads scaled by √share: each output at unit length (`unit`, as they are used), or each head as a whole
    divided by the mean length of its outputs (`length`) or by the mean distance between two of them (`distance`)."""
    roots = {name: shares[name] ** 0.5 for name in heads}
    if scale == "unit":
        return Space(heads, roots, unit=True)
    outputs = outputs_of(heads, features, raw=True)
    if scale == "length":
        sizes = {name: float(output.double().norm(dim=1).mean()) for name, output in outputs.items()}
    else:
        sizes = head_distance_scales(outputs)
    for name, size in sizes.items():
        if not size > 0:
            raise UsageError(f"compress: head '{name}' gives zero for every image; there is nothing to scale.")
    return Space(heads, {name: root / sizes[name] for name, root in roots.items()}, unit=False)


def outputs_of(heads: Mapping[str, nn.Module], features: Tensor, *, raw: bool = False) -> dict[str, Tensor]:
    """Each head's output; `raw` takes a lone linear head before unit length."""
    if raw and (alone := _alone(heads)) is not None:
        return {name: alone.linear(features) for name in heads}
    return {name: head(features) for name, head in heads.items()}


def why_not_affine(heads: Mapping[str, nn.Module]) -> str | None:
    """Why these heads are no affine map of the feature, naming the first that is none; None if they are."""
    for name, head in heads.items():
        if isinstance(head, MLPHead):
            return f"head '{name}' has a hidden layer (model.head=mlp)"
        if isinstance(head, JoinedHead):
            return f"head '{name}' was compressed before, and is made of several"
        if isinstance(head, LinearHead) and head.normalise and len(heads) > 1:
            return f"head '{name}' brings each image to unit length (its loss has unit: true)"
        if not isinstance(head, LinearHead | TrunkHead):
            return f"head '{name}' is a {type(head).__name__}"
    return None


def affine_of(head: nn.Module) -> Affine:
    """A linear head, or the trunk's own, as an affine map."""
    if isinstance(head, TrunkHead):
        return Affine(torch.eye(head.width, dtype=torch.float64), torch.zeros(head.width, dtype=torch.float64))
    assert isinstance(head, LinearHead), "whoever asks has asked why_not_affine"
    return Affine(head.linear.weight.detach().double(), head.linear.bias.detach().double())


def linear_head(affine: Affine) -> LinearHead:
    """The head that holds an affine map."""
    dim, width = affine.matrix.shape
    head = LinearHead(width, dim, normalise=False, generator=torch.Generator())
    with torch.no_grad():
        head.linear.weight.copy_(affine.matrix)
        head.linear.bias.copy_(affine.bias)
    return head.eval()


def head_of(space: Space, outer: Affine | nn.Module) -> nn.Module:
    """One head of the feature: folded where both are affine, otherwise `outer` on top of the heads."""
    inner = space.affine()
    if isinstance(outer, Affine) and inner is not None:
        return linear_head(compose(outer, inner))
    top = linear_head(outer) if isinstance(outer, Affine) else outer
    return JoinedHead(space.heads, top, factors=space.factors, unit=space.unit).eval()


def cost_of(head: nn.Module) -> Cost:
    """A product with a matrix takes a multiply-add for each of its numbers; what is left is not worth counting."""
    sizes = [(parameter.ndim, parameter.numel()) for parameter in head.parameters()]
    return Cost(sum(size for axes, size in sizes if axes > 1), sum(size for _, size in sizes))


def _alone(heads: Mapping[str, nn.Module]) -> LinearHead | None:
    head = next(iter(heads.values()))
    return head if len(heads) == 1 and isinstance(head, LinearHead) else None

"""The Embedder: preprocessing, backbone, pooling and heads, described, saved and loaded as one thing."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.errors import ArtifactError, UsageError
from accord.geometry import normalise
from accord.models._backbones import build_backbone
from accord.models._heads import build_head, describe_head
from accord.models._pool import build_pool, pool_name
from accord.models._preprocess import AnyImages, to_input
from accord.types import Json, Preprocessing

FORMAT = 1
Splitter = Callable[[Tensor, Sequence[str]], Mapping[str, Tensor]]


class Embedder(nn.Module):
    """Images in, embeddings out: unit vectors whose inner product is the score.

    `outputs` gives each head's own tensor, for training. The test-time embedding joins the heads: each is brought to
    unit length, scaled by √weight and put side by side, so that inner products are the weighted mean of the heads'
    cosines.
    Images are uint8, or float on the 0–255 scale; preprocessing is inside. `weights` are relative, equal by default.

    `splitter`, if set, hands the pooled feature to the heads while training: called with the feature and the heads'
    names, it gives each head its own (an ensemble's `GradientBalance.split`). It is no part of what is saved.
    """

    splitter: Splitter | None

    def __init__(
        self,
        backbone: nn.Module,
        pool: nn.Module,
        heads: Mapping[str, nn.Module],
        *,
        preprocessing: Preprocessing,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not heads:
            raise UsageError("Embedder: heads must name at least one head, e.g. {'trunk': TrunkHead(backbone.width)}.")
        self.backbone, self.pool, self.preprocessing = backbone, pool, preprocessing
        self.splitter = None
        self.heads = _module_dict(heads)
        self.width = _width(backbone)
        self.dims = {name: _dim(name, head, self.width) for name, head in self.heads.items()}
        self.weights: dict[str, float] = {}
        self.set_weights(weights)

    @property
    def dim(self) -> int:
        """Length of the test-time embedding: all heads side by side."""
        return sum(self.dims.values())

    def set_weights(self, weights: Mapping[str, float] | None) -> None:
        """How much each head counts at test time: one number ≥ 0 per head, not all zero; None makes them equal."""
        weights = dict.fromkeys(self.heads, 1.0) if weights is None else weights
        if set(weights) != set(self.heads):
            raise UsageError(f"Embedder: weights name {sorted(weights)}, but the heads are {sorted(self.heads)}.")
        numbers = {name: float(weights[name]) for name in self.heads}
        if not all(math.isfinite(value) and value >= 0 for value in numbers.values()) or not sum(numbers.values()):
            raise UsageError(f"Embedder: weights must be finite, ≥ 0 and not all zero, but are {numbers}.")
        self.weights = numbers

    def features(self, images: AnyImages) -> Float[Tensor, "batch feature"]:
        """The pooled feature of each image."""
        dtype = next((parameter.dtype for parameter in self.backbone.parameters()), torch.float32)
        pooled: Tensor = self.pool(self.backbone(to_input(images, self.preprocessing, dtype)))
        return pooled

    def outputs(self, images: AnyImages) -> dict[str, Tensor]:
        """Each head's output, (batch, dim) each: what losses are given."""
        features = self.features(images)
        if self.splitter is None or not (self.training and torch.is_grad_enabled()):
            return {name: head(features) for name, head in self.heads.items()}
        own = self.splitter(features, tuple(self.heads))
        return {name: head(own[name]) for name, head in self.heads.items()}

    def forward(self, images: AnyImages) -> Float[Tensor, "batch dim"]:
        """The test-time embedding. An image that a head maps to zero gets zeros from this head."""
        return self.join(self.outputs(images))

    def join(self, outputs: Mapping[str, Tensor]) -> Float[Tensor, "batch dim"]:
        """√weight-scaled unit vectors of the heads side by side, then unit length overall."""
        total = sum(self.weights.values())
        parts = [normalise(outputs[name]) * math.sqrt(weight / total) for name, weight in self.weights.items()]
        return normalise(torch.cat(parts, dim=1))

    def parts(self, joined: Float[Tensor, "batch dim"]) -> dict[str, Tensor]:
        """Each head's unit vectors, taken out of joined embeddings again; heads that count for nothing are left out.

        What is equal to zero stays so: an image that the head maps to zero.
        """
        if joined.shape[1] != self.dim:
            raise UsageError(f"Embedder: joined embeddings have {self.dim} numbers, not {joined.shape[1]}.")
        pieces = torch.split(joined, list(self.dims.values()), dim=1)
        named = zip(self.dims, pieces, strict=True)
        return {name: normalise(piece) for name, piece in named if self.weights[name] > 0}

    def trunk_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the backbone and the pooling: names start with `backbone.` or `pool.`."""
        yield from self.backbone.parameters()
        yield from self.pool.parameters()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the heads: names start with `heads.`."""
        return self.heads.parameters()

    def describe(self) -> Json:
        """Everything but the numbers, as JSON: `from_description` and `load_state_dict` bring it back."""
        pool, backbone = pool_name(self.pool), getattr(self.backbone, "name", None)
        if pool is None or not isinstance(backbone, str):
            kinds = f"{type(self.backbone).__name__} with {type(self.pool).__name__}"
            raise UsageError(
                f"Embedder: {kinds} can't be described as JSON.\n"
                "  Make them by build_backbone('package.module:factory') and build_pool(name)."
            )
        return {
            "format": FORMAT,
            "backbone": backbone,
            "pool": pool,
            "heads": {name: describe_head(name, head, self.dims[name]) for name, head in self.heads.items()},
            "preprocessing": {key: _plain(value) for key, value in self.preprocessing._asdict().items()},
            "weights": dict(self.weights),
        }

    @classmethod
    def from_description(cls, description: Json, *, allow_imports: bool = False) -> "Embedder":
        """The untrained Embedder a description speaks of.

        A backbone given by import path runs code of that package, so it is only imported with `allow_imports`: a
        description may come from a stranger.
        """
        try:
            name = str(description["backbone"])
            if description["format"] != FORMAT:
                raise ArtifactError(f"Embedder: description has format {description['format']}; known is {FORMAT}.")
            if ":" in name and not allow_imports:
                raise UsageError(
                    f"Embedder: this model runs code from '{name}'.\n"
                    "  If you trust it, say so: Embedder.from_description(…, allow_imports=True)."
                )
            heads = {head: build_head(options) for head, options in description["heads"].items()}
            parts = build_backbone(name), build_pool(description["pool"]), heads
            preprocessing = _preprocessing(description["preprocessing"])
            return cls(*parts, preprocessing=preprocessing, weights=description["weights"])
        except (KeyError, TypeError, AttributeError) as reason:
            raise ArtifactError(f"Embedder: the description is damaged ({reason!r}).") from reason


def _module_dict(heads: Mapping[str, nn.Module]) -> nn.ModuleDict:
    try:
        return nn.ModuleDict(dict(heads))
    except KeyError as reason:
        raise UsageError(f"Embedder: a head can't be called so: {reason.args[0]}. Choose another name.") from reason


def _width(backbone: nn.Module) -> int:
    width = getattr(backbone, "width", None)
    if not isinstance(width, int):
        raise UsageError(
            f"Embedder: the backbone {type(backbone).__name__} has no integer attribute `width`.\n"
            "  Set it, or build it by build_backbone('package.module:factory'), which finds the width itself."
        )
    return width


def _dim(name: str, head: nn.Module, width: int) -> int:
    """A head's output length, by a dry run: foreign heads need not say it."""
    parameter = next(head.parameters(), torch.zeros(()))
    modes = {module: module.training for module in head.modules()}
    head.eval()
    try:
        with torch.no_grad():
            output = head(torch.zeros(2, width, dtype=parameter.dtype, device=parameter.device))
    except RuntimeError as reason:
        raise UsageError(f"Embedder: head '{name}' does not take features of width {width}: {reason}") from reason
    for module, mode in modes.items():
        module.training = mode
    return int(output.shape[1])


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _preprocessing(fields: Json) -> Preprocessing:
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Preprocessing(**values)

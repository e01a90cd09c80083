"""EfficientNet-Lite 0, 1 and 2: small convolutional backbones that are quick on processors and take any input size.

Tan & Le, "EfficientNet", ICML 2019, table 1, in the Lite form published with TensorFlow in 2020: no
squeeze-and-excitation, ReLU6 for swish, stem and head not widened, first and last stage not deepened. Padding is
TensorFlow's "SAME", computed for each input size. Parameter names are those of the published
PyTorch weights. No drop-connect.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.errors import UnknownNameError
from accord.models._classifier import skip_classifier
from accord.models._conv import Convolved, Maps, conv_norm, same_pads
from accord.models._initial import conv, draw_weights, linear

STEM, HEAD = 32, 1280


class Stage(NamedTuple):
    """A run of blocks that share kernel, expansion and width; only the first one strides."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
MULTIPLIERS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.01)


def _step(x: Maps, layer: nn.Conv2d, norm: nn.BatchNorm2d, high: float | None) -> Convolved:
    pads = same_pads(x.shape[2], x.shape[3], layer.kernel_size[0], layer.stride[0])
    return conv_norm(x, layer, norm, pads=pads, high=high)


class _Block(nn.Module):
    """Inverted residual: widen by 1×1, filter each channel, narrow by 1×1; added to its input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expands = expansion > 1
        self.adds_input = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = conv(inputs, inner, 1), _norm(inner)
        self._depthwise_conv, self._bn1 = conv(inner, inner, kernel, stride=stride, groups=inner), _norm(inner)
        self._project_conv, self._bn2 = conv(inner, outputs, 1), _norm(outputs)

    def forward(self, x: Maps) -> Float[Tensor, "batch out rows columns"]:
        y = _step(x, self._expand_conv, self._bn0, 6.0) if self.expands else x
        y = _step(y, self._depthwise_conv, self._bn1, 6.0)
        y = _step(y, self._project_conv, self._bn2, None)
        return y.add_(x) if self.adds_input else y


def _widen(width: int, factor: float) -> int:
    """The nearest multiple of 8, but never more than a tenth below what was asked for."""
    wanted = width * factor
    nearest = max(8, int(wanted + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * wanted else nearest


def _blocks(wide: float, deep: float) -> list[_Block]:
    blocks: list[_Block] = []
    inputs = STEM
    for number, stage in enumerate(STAGES):
        outputs = _widen(stage.width, wide)
        ends = number in (0, len(STAGES) - 1)
        for repeat in range(stage.repeats if ends else math.ceil(stage.repeats * deep)):
            blocks.append(_Block(inputs, outputs, stage.kernel, 1 if repeat else stage.stride, stage.expansion))
            inputs = outputs
    return blocks


class EfficientNetLite(nn.Module):
    """Image → feature map of 1280 channels at 1/32 of the size. With `classes`, `logits` classifies.

    Images are float, normalised by (x − 127) / 128, at least 32 pixels a side. Loading published weights into a
    network without `classes` is strict but for their classifier, which is left out.
    """

    def __init__(self, name: str, *, classes: int | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if name not in MULTIPLIERS:
            raise UnknownNameError("EfficientNet-Lite", name, MULTIPLIERS)
        self.name, self.width = name, HEAD
        self._conv_stem, self._bn0 = conv(3, STEM, 3, stride=2), _norm(STEM)
        self._blocks = nn.ModuleList(_blocks(*MULTIPLIERS[name]))
        last = self._blocks[-1].get_submodule("_project_conv").get_parameter("weight").shape[0]
        self._conv_head, self._bn1 = conv(last, HEAD, 1), _norm(HEAD)
        self._fc = None if classes is None else linear(HEAD, classes)
        if classes is None:
            skip_classifier(self, "_fc")
        draw_weights(self, generator)

    def forward(self, images: Maps) -> Float[Tensor, "batch feature rows columns"]:
        """The last feature map, after its activation."""
        x = _step(images, self._conv_stem, self._bn0, 6.0)
        for block in self._blocks:
            x = block(x)
        return _step(x, self._conv_head, self._bn1, 6.0)

    def logits(self, images: Maps) -> Float[Tensor, "batch class"]:
        """Class scores of the classifier; needs `classes`."""
        assert self._fc is not None, "build the network with classes=…"
        scores: Tensor = self._fc(self(images).mean((2, 3)))
        return scores

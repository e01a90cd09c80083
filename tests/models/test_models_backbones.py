"""Backbones by name, by import path, and weights that do or do not fit."""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from accord.errors import ArtifactError, UnknownNameError, UsageError
from accord.models import BACKBONES, ImportedBackbone, build_backbone, load_weights


class Tiny(nn.Module):
    def __init__(self, smallest: int = 1) -> None:
        super().__init__()
        self.conv, self.norm, self.smallest = nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6), smallest

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] < self.smallest:
            raise RuntimeError("too small")
        return self.norm(self.conv(images))


class Returns(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> object:
        return self.value


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> str:
    module = ModuleType("someones_package")
    module.Tiny = Tiny
    module.big = lambda: Tiny(200)
    module.never = lambda: Tiny(9999)
    module.tokens = lambda: Returns(torch.zeros(2, 50, 768))
    module.pooled = lambda: Returns(torch.zeros(2, 9))
    module.pair = lambda: Returns((1, 2))
    module.number = lambda: 3
    module.needy = lambda size: size
    monkeypatch.setitem(sys.modules, "someones_package", module)
    return "someones_package"


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_what_is_written_about_a_backbone_is_true(name: str) -> None:
    info, backbone = BACKBONES[name], build_backbone(name).eval()
    assert (backbone.name, backbone.width) == (name, info.width)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == info.parameters
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 32, 32)).shape == (1, info.width, 1, 1)


def test_a_wrong_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        build_backbone("resnet181")


@pytest.mark.parametrize(("factory", "width"), [("Tiny", 6), ("big", 6), ("pooled", 9)])
def test_an_import_path_finds_its_width(package: str, factory: str, width: int) -> None:
    backbone = build_backbone(f"{package}:{factory}")
    assert (backbone.width, backbone.name) == (width, f"{package}:{factory}")
    assert backbone(torch.zeros(2, 3, 224, 224)).shape[1] == width


def test_the_dry_run_leaves_no_trace(package: str) -> None:
    backbone = build_backbone(f"{package}:Tiny")
    assert isinstance(backbone, ImportedBackbone)
    assert all(module.training for module in backbone.modules())
    assert int(backbone.network.get_buffer("norm.num_batches_tracked")) == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_package:thing", "ModuleNotFoundError.*\n.*package.module:factory"),
        ("someones_package:nothing", "AttributeError"),
        ("someones_package:needy", "TypeError.*\n.*need no arguments"),
        ("someones_package:number", r"must return a torch.nn.Module, not int"),
        ("someones_package:never", "at 64 × 64: RuntimeError: too small\n.*at 224 × 224"),
        ("someones_package:tokens", r"came \(2, 50, 768\)"),
        ("someones_package:pair", "came tuple"),
    ],
)
def test_a_bad_path_says_what_to_do(package: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_backbone(name)


def test_weights_with_a_classifier_load() -> None:
    one, two = build_backbone("resnet10"), build_backbone("resnet10")
    load_weights(one, {**two.state_dict(), "fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)})
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_weights_load_into_an_imported_network(package: str) -> None:
    backbone, other = build_backbone(f"{package}:Tiny"), Tiny()
    load_weights(backbone, other.state_dict())
    assert torch.equal(backbone.get_parameter("network.conv.weight"), other.conv.weight)


def test_weights_of_another_network_are_refused_by_name() -> None:
    state = build_backbone("resnet18").state_dict()
    with pytest.raises(ArtifactError, match=r"do not fit resnet10: 48 of .*\n  not known here: layer1\.1"):
        load_weights(build_backbone("resnet10"), state)
    wrong = {**build_backbone("resnet10").state_dict(), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    del wrong["bn1.bias"]
    with pytest.raises(ArtifactError, match=r"missing bn1.bias\n.*conv1.weight is \(64, 3, 3, 3\), wanted .*7\)"):
        load_weights(build_backbone("resnet10"), wrong)

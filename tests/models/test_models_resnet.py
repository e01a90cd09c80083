"""ResNets with torchvision's key names."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from accord.errors import UnknownNameError
from accord.models import ResNet


def _norm(name: str) -> set[str]:
    return {f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}


def _torchvision_keys(blocks: int) -> set[str]:
    keys = {"conv1.weight", "fc.weight", "fc.bias", *_norm("bn1")}
    for stage in (1, 2, 3, 4):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            for number in (1, 2):
                keys |= {f"{prefix}.conv{number}.weight"} | _norm(f"{prefix}.bn{number}")
        if stage > 1:
            keys |= {f"layer{stage}.0.downsample.0.weight"} | _norm(f"layer{stage}.0.downsample.1")
    return keys


def test_resnet18_has_torchvisions_122_keys() -> None:
    state = ResNet("resnet18", classes=1000).state_dict()
    assert set(state) == _torchvision_keys(2)
    assert len(state) == 122
    shapes = {"conv1.weight": (64, 3, 7, 7), "layer4.0.downsample.0.weight": (512, 256, 1, 1), "fc.weight": (1000, 512)}
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def test_resnet10_has_one_block_per_stage() -> None:
    assert set(ResNet("resnet10", classes=5).state_dict()) == _torchvision_keys(1)


def test_loads_a_state_dict_with_classifier_strictly() -> None:
    whole, trunk = ResNet("resnet10", classes=7), ResNet("resnet10")
    trunk.load_state_dict(whole.state_dict())
    assert torch.equal(trunk.conv1.weight, whole.conv1.weight)
    with pytest.raises(RuntimeError, match="Missing key"):
        trunk.load_state_dict({key: value for key, value in whole.state_dict().items() if key != "conv1.weight"})


def _by_hand(state: dict[str, Tensor], images: Tensor, depth: int) -> Tensor:
    """The network written out with functions, from the keys alone."""

    def step(x: Tensor, conv: str, norm: str, stride: int) -> Tensor:
        kernel = state[f"{conv}.weight"]
        y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2)
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *parts)

    x = F.max_pool2d(step(images, "conv1", "bn1", 2).relu(), 3, stride=2, padding=1)
    for stage in (1, 2, 3, 4):
        for block in range(depth):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = step(step(x, f"{name}.conv1", f"{name}.bn1", stride).relu(), f"{name}.conv2", f"{name}.bn2", 1)
            if f"{name}.downsample.0.weight" in state:
                x = step(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = (x + y).relu()
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(("name", "depth"), [("resnet10", 1), ("resnet18", 2)])
def test_logits_equal_the_network_written_out(name: str, depth: int) -> None:
    generator = torch.Generator().manual_seed(1)
    network = ResNet(name, classes=4, generator=generator).double().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    images = torch.randn(2, 3, 47, 64, generator=generator, dtype=torch.float64)
    wanted = _by_hand(network.state_dict(), images, depth)
    torch.testing.assert_close(network.logits(images), wanted, rtol=1e-9, atol=1e-9)


def test_training_mode_moves_the_statistics() -> None:
    network = ResNet("resnet10").train()
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert int(network.bn1.num_batches_tracked) == 1


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="resnet18"):
        ResNet("resnet19")

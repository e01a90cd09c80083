"""EfficientNet-Lite against the packaged model, on real photographs, and at any size."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from accord.errors import UnknownNameError
from accord.models import EfficientNetLite, _conv, to_input
from accord.types import Preprocessing

NAMES = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
OWN_SIZE = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
Weights = Callable[[str], dict[str, Tensor]]


def _classifier(name: str, pretrained: Weights) -> EfficientNetLite:
    network = EfficientNetLite(name, classes=1000).eval()
    network.load_state_dict(pretrained(name))
    return network


def _oracle(name: str, size: int, pretrained: Weights) -> torch.nn.Module:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    # its padding is fixed when it is built, for one size
    model = package.EfficientNet.from_name(name.replace("_", "-"), image_size=size).eval()
    model.load_state_dict(pretrained(name))
    return model


@pytest.mark.pretrained
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [224, None])
def test_logits_equal_the_packaged_models_to_the_bit(
    name: str, size: int | None, pretrained: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = size or OWN_SIZE[name]
    network, oracle = _classifier(name, pretrained), _oracle(name, size, pretrained)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, folded = oracle(images), network.logits(images)
        monkeypatch.setattr(_conv, "_may_fold", lambda *_: False)
        assert torch.equal(network.logits(images), wanted)
    # folding batch norm into the weights rounds elsewhere
    assert float((folded - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.pretrained
@pytest.mark.parametrize("size", [65, 96, 127])
def test_logits_equal_a_packaged_model_built_for_another_size(size: int, pretrained: Weights) -> None:
    network, oracle = (make for make in (_classifier(NAMES[0], pretrained), _oracle(NAMES[0], size, pretrained)))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network.logits(images), oracle(images), rtol=1e-5, atol=2e-5)


def _photograph(name: str) -> Tensor:
    if name == "china":
        image = pytest.importorskip("sklearn.datasets").load_sample_image("china.jpg")
    else:
        image = getattr(pytest.importorskip("skimage.data"), name)()
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


@pytest.mark.pretrained
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("photograph", "right", "among"),
    [
        ("chelsea", range(281, 286), 1),  # tabby … Egyptian cat
        ("coffee", (967, 968), 1),  # espresso, cup
        ("china", (698,), 1),  # palace
        ("rocket", (657, 744), 2),  # missile, projectile
    ],
)
def test_names_real_photographs(
    name: str, photograph: str, right: range | tuple[int, ...], among: int, pretrained: Weights
) -> None:
    with torch.no_grad():
        scores = _classifier(name, pretrained).logits(to_input(_photograph(photograph), Preprocessing(224)))
    assert set(scores[0].topk(among).indices.tolist()) & set(right)


@pytest.mark.pretrained
def test_published_weights_load_into_a_backbone_without_classifier(pretrained: Weights) -> None:
    backbone, network = EfficientNetLite(NAMES[0]).eval(), _classifier(NAMES[0], pretrained)
    weights = pretrained(NAMES[0])
    backbone.load_state_dict(weights)
    assert "_fc.weight" in weights
    assert not any(key.startswith("_fc") for key in backbone.state_dict())
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.equal(backbone(images), network(images))


@pytest.mark.pretrained
def test_one_training_step_agrees_with_the_unfolded_network(
    pretrained: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = EfficientNetLite(NAMES[0]).eval().double()
    network.load_state_dict(pretrained(NAMES[0]))
    images = torch.randn(2, 3, 64, 75, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    images = images.contiguous(memory_format=torch.channels_last)

    def gradients() -> list[Tensor]:
        loss = network(images).mean((2, 3)).square().mean()
        return list(torch.autograd.grad(loss, list(network.parameters())))

    folded = gradients()
    monkeypatch.setattr(_conv, "_may_fold", lambda *_: False)
    for mine, plain in zip(folded, gradients(), strict=True):
        assert float((mine - plain).abs().max()) <= 1e-10 * float(plain.abs().max()) + 1e-18


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (40, 96)])
def test_takes_any_size_from_32_pixels(size: tuple[int, int]) -> None:
    network = EfficientNetLite(NAMES[0], generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        features = network(torch.zeros(1, 3, *size))
    assert features.shape == (1, 1280, -(-size[0] // 32), -(-size[1] // 32))


def test_two_networks_from_equal_generators_are_equal_and_leave_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = (EfficientNetLite(NAMES[0], generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'efficientnet_lite"):
        EfficientNetLite("efficientnet_lite9")

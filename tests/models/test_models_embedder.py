"""The Embedder: joining heads, describing itself, and what belongs to the trunk."""

import copy
import json
import math
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from accord.errors import ArtifactError, UsageError
from accord.models import Embedder, GemPool, LinearHead, MLPHead, TrunkHead, build_backbone, build_pool
from accord.types import Preprocessing
from patches import IMAGES, Patches


def _embedder(weights: dict[str, float] | None = None) -> Embedder:
    torch.manual_seed(0)
    heads = {"one": LinearHead(6, 3, normalise=False), "two": MLPHead(6, 2), "trunk": TrunkHead(6)}
    return Embedder(Patches(), build_pool("gem"), heads, preprocessing=Preprocessing(8), weights=weights).eval()


def test_the_embedding_is_the_root_weighted_join_of_unit_heads() -> None:
    embedder = _embedder({"one": 2.0, "two": 1.0, "trunk": 5.0})
    outputs = embedder.outputs(IMAGES)
    parts = [
        math.sqrt(weight / 8) * outputs[name] / outputs[name].norm(dim=1, keepdim=True)
        for name, weight in (("one", 2.0), ("two", 1.0), ("trunk", 5.0))
    ]
    torch.testing.assert_close(embedder(IMAGES), torch.cat(parts, dim=1))
    assert embedder(IMAGES).shape == (5, embedder.dim) == (5, 11)
    torch.testing.assert_close(embedder(IMAGES).norm(dim=1), torch.ones(5))


def test_scores_are_the_weighted_mean_of_the_heads_cosines() -> None:
    embedder = _embedder({"one": 3.0, "two": 1.0, "trunk": 0.0})
    cosines = {name: torch.nn.functional.normalize(out) for name, out in embedder.outputs(IMAGES).items()}
    wanted = (3 * cosines["one"] @ cosines["one"].T + cosines["two"] @ cosines["two"].T) / 4
    got = embedder(IMAGES)
    torch.testing.assert_close(got @ got.T, wanted)


def test_an_image_without_any_feature_gives_zeros_and_finite_gradients() -> None:
    embedder = _embedder()
    outputs = {name: torch.zeros(2, dim, requires_grad=True) for name, dim in embedder.dims.items()}
    joined = embedder.join(outputs)
    joined.sum().backward()
    assert torch.equal(joined, torch.zeros(2, 11))
    assert all(bool(leaf.grad.isfinite().all()) for leaf in outputs.values())


def test_the_trunk_output_is_the_pooled_feature() -> None:
    embedder = _embedder()
    assert torch.equal(embedder.outputs(IMAGES)["trunk"], embedder.features(IMAGES))


def test_images_of_another_size_are_resized_inside() -> None:
    embedder = _embedder()
    flat = torch.full((1, 3, 1, 1), 90.0)
    torch.testing.assert_close(embedder(flat.expand(1, 3, 8, 8)), embedder(flat.expand(1, 3, 31, 20)))


def test_trunk_and_head_parameters_are_told_apart_by_name() -> None:
    embedder = _embedder()
    by_name = dict(embedder.named_parameters())
    trunk = {id(parameter) for parameter in embedder.trunk_parameters()}
    heads = {id(parameter) for parameter in embedder.head_parameters()}
    assert {id(p) for name, p in by_name.items() if name.startswith(("backbone.", "pool."))} == trunk
    assert {id(p) for name, p in by_name.items() if name.startswith("heads.")} == heads
    assert len(trunk) + len(heads) == len(by_name)


def test_a_description_and_a_state_dict_bring_it_back() -> None:
    heads = {"one": LinearHead(512, 3), "trunk": nn.Identity()}
    preprocessing = Preprocessing(32, "pad", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    weights = {"one": 0.1, "trunk": 1 / 3}
    first = Embedder(build_backbone("resnet10"), GemPool(), heads, preprocessing=preprocessing, weights=weights).eval()
    second = Embedder.from_description(json.loads(json.dumps(first.describe()))).eval()
    second.load_state_dict(first.state_dict())
    assert second.preprocessing == preprocessing
    assert second.weights == weights
    assert second.describe() == first.describe()
    assert torch.equal(first(IMAGES), second(IMAGES))


def test_a_copy_embeds_alike() -> None:
    embedder = _embedder()
    assert torch.equal(copy.deepcopy(embedder)(IMAGES), embedder(IMAGES))


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 99},
        {"heads": None},
        {"heads": {"one": {"kind": "linear"}}},
        {"preprocessing": {"sise": 8}},
        {"backbone": None},
    ],
)
def test_a_damaged_description_is_refused(damage: dict[str, object]) -> None:
    good = Embedder(
        build_backbone("resnet10"), build_pool("max"), {"t": TrunkHead(512)}, preprocessing=Preprocessing(32)
    ).describe()
    description = {**good, **damage}
    if damage == {"backbone": None}:
        del description["backbone"]
    with pytest.raises(ArtifactError):
        Embedder.from_description(description)


def test_a_description_imports_code_only_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("someones_networks")
    module.Patches = Patches
    monkeypatch.setitem(sys.modules, "someones_networks", module)
    backbone = build_backbone("someones_networks:Patches")
    description = Embedder(
        backbone, build_pool("average"), {"t": TrunkHead(6)}, preprocessing=Preprocessing(8)
    ).describe()
    with pytest.raises(UsageError, match="runs code from 'someones_networks:Patches'"):
        Embedder.from_description(description)
    assert Embedder.from_description(description, allow_imports=True).dim == 6


def test_what_has_no_description_says_so() -> None:
    embedder = Embedder(Patches(), nn.Flatten(), {"t": TrunkHead(6)}, preprocessing=Preprocessing(8))
    with pytest.raises(UsageError, match="Patches with Flatten can't be described"):
        embedder.describe()


def test_a_foreign_head_is_measured_by_a_dry_run() -> None:
    head = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    embedder = Embedder(Patches(), build_pool("average"), {"mine": head}, preprocessing=Preprocessing(8))
    assert embedder.dim == 4
    assert int(head.get_buffer("1.num_batches_tracked")) == 0
    assert head.training


def _build(heads: dict[str, nn.Module], backbone: nn.Module, weights: dict[str, float] | None = None) -> Embedder:
    return Embedder(backbone, build_pool("average"), heads, preprocessing=Preprocessing(8), weights=weights)


@pytest.mark.parametrize(
    ("heads", "weights", "message"),
    [
        ({}, None, "at least one head"),
        ({"a.b": TrunkHead(6)}, None, "Choose another name"),
        ({"a": LinearHead(7, 2)}, None, "head 'a' does not take features of width 6"),
        ({"a": TrunkHead(6)}, {"b": 1.0}, r"weights name \['b'\], but the heads are \['a'\]"),
        ({"a": TrunkHead(6)}, {"a": 0.0}, "not all zero"),
        ({"a": TrunkHead(6)}, {"a": -1.0}, "≥ 0"),
        ({"a": TrunkHead(6)}, {"a": math.nan}, "finite"),
    ],
)
def test_wrong_heads_and_weights_are_refused(
    heads: dict[str, nn.Module], weights: dict[str, float] | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _build(heads, Patches(), weights)


def test_a_backbone_without_width_is_refused() -> None:
    with pytest.raises(UsageError, match="no integer attribute `width`"):
        _build({"a": TrunkHead(6)}, nn.Conv2d(3, 6, 4))


def test_heads_are_taken_out_of_joined_embeddings_again() -> None:
    embedder = _embedder({"one": 3.0, "two": 0.0, "trunk": 0.5})
    outputs = {name: output.detach() for name, output in embedder.outputs(IMAGES).items()}
    outputs["one"][2] = 0
    found = embedder.parts(embedder.join(outputs))
    assert list(found) == ["one", "trunk"], "what counts for nothing can't be seen"
    for name, head in found.items():
        torch.testing.assert_close(head, torch.nn.functional.normalize(outputs[name], dim=1))
    assert not found["one"][2].any()
    with pytest.raises(UsageError, match="joined embeddings have 11 numbers, not 4"):
        embedder.parts(torch.ones(2, 4))

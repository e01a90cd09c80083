"""The Embedder's splitter: every head gets its own feature while training, and nobody else notices."""

import copy

import torch
from torch import Tensor, nn

from accord.models import Embedder, LinearHead, build_pool
from accord.types import Preprocessing
from patches import IMAGES, Patches


def made() -> Embedder:
    torch.manual_seed(0)
    heads = {"one": LinearHead(6, 3, normalise=False), "two": LinearHead(6, 2, normalise=False)}
    return Embedder(Patches(), build_pool("average"), heads, preprocessing=Preprocessing(8))


def doubled(features: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    return {name: features * (place + 2) for place, name in enumerate(names)}


def test_each_head_gets_the_feature_that_the_splitter_gives_it() -> None:
    embedder = made().train()
    features = embedder.features(IMAGES)
    embedder.splitter = doubled
    found = embedder.outputs(IMAGES)
    torch.testing.assert_close(found["one"], embedder.heads["one"](features * 2))
    torch.testing.assert_close(found["two"], embedder.heads["two"](features * 3))


def test_the_splitter_rests_outside_of_training() -> None:
    plain, split = made(), made()
    split.splitter = doubled
    for mode in (True, False):
        with torch.no_grad():
            assert torch.equal(plain.train(mode)(IMAGES), split.train(mode)(IMAGES))
    assert torch.equal(plain.eval()(IMAGES), split.eval()(IMAGES))


def test_the_splitter_is_no_part_of_what_is_saved() -> None:
    embedder = made()
    before = set(embedder.state_dict())
    embedder.splitter = nn.Linear(2, 2).forward
    assert set(embedder.state_dict()) == before
    assert made().splitter is None
    assert copy.deepcopy(made()).splitter is None

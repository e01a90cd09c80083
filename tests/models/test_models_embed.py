"""Embedding a data set, and batch norm that stays frozen."""

import copy

import pytest
import torch
from torch import nn

from accord.errors import DataError
from accord.models import Embedder, TrunkHead, build_backbone, build_pool, embed, evaluating, freeze_batch_norm
from accord.types import Batch, Preprocessing


def _embedder() -> Embedder:
    backbone = build_backbone("resnet10", generator=torch.Generator().manual_seed(0))
    return Embedder(backbone, build_pool("average"), {"t": TrunkHead(512)}, preprocessing=Preprocessing(32)).train()


def _batches() -> list[Batch]:
    images = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels, ids = torch.tensor([3, 3, 1, 1, 0]), torch.arange(10, 15)
    return [Batch(images[part], labels[part], ids[part]) for part in (slice(0, 2), slice(2, 5))]


def test_embeds_every_item_in_order_without_gradients() -> None:
    embedder, seen = _embedder(), []
    labelled = embed(embedder, _batches(), device="cpu", progress=seen.append)
    assert labelled.ids.tolist() == [10, 11, 12, 13, 14]
    assert labelled.labels.tolist() == [3, 3, 1, 1, 0]
    assert labelled.embeddings.shape == (5, 512)
    assert not labelled.embeddings.requires_grad
    assert seen == [2, 5]


def test_embedding_twice_gives_equal_bits_and_moves_nothing() -> None:
    embedder = _embedder()
    before = copy.deepcopy(embedder.state_dict())
    first, second = (embed(embedder, _batches(), device="cpu") for _ in range(2))
    assert torch.equal(first.embeddings, second.embeddings)
    assert all(torch.equal(value, before[key]) for key, value in embedder.state_dict().items())


def test_modes_are_put_back_module_by_module() -> None:
    embedder = _embedder()
    embedder.pool.eval()
    freeze_batch_norm(embedder)
    before = [module.training for module in embedder.modules()]
    embed(embedder, _batches(), device="cpu")
    assert [module.training for module in embedder.modules()] == before
    assert True in before
    assert False in before


def test_modes_are_put_back_after_an_error() -> None:
    module = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="shapes"), evaluating(module):
        module(torch.zeros(1, 2))
    assert module.training


def test_is_not_touched_by_autocast() -> None:
    embedder = _embedder()
    plain = embed(embedder, _batches(), device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = embed(embedder, _batches(), device="cpu")
    assert torch.equal(plain.embeddings, mixed.embeddings)


def test_no_batches_are_an_error() -> None:
    with pytest.raises(DataError, match="no batches"):
        embed(_embedder(), [], device="cpu")


def test_frozen_batch_norm_stays_frozen_after_train() -> None:
    embedder = _embedder()
    assert freeze_batch_norm(embedder) == 12
    embedder.train()
    before = copy.deepcopy(embedder.state_dict())
    embedder(_batches()[1].inputs)
    assert embedder.training
    assert all(torch.equal(value, before[key]) for key, value in embedder.state_dict().items())


def test_a_frozen_copy_is_frozen_by_itself() -> None:
    norm = nn.BatchNorm2d(3)
    freeze_batch_norm(norm)
    twin = copy.deepcopy(norm)
    assert twin.train() is twin
    assert not twin.training


def test_frozen_batch_norm_still_learns_its_scale() -> None:
    embedder = _embedder()
    freeze_batch_norm(embedder)
    embedder.outputs(_batches()[1].inputs)["t"].sum().backward()
    gamma = embedder.backbone.get_parameter("bn1.weight")
    assert gamma.grad is not None
    assert float(gamma.grad.abs().sum()) > 0

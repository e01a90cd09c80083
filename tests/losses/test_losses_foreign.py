"""Losses and miners of other libraries as ours: what is handed over, what learns, and how their faults are told."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord.errors import BatchError, NumericError, UsageError
from accord.losses import Foreign, Mined
from accord.mining import AllPairs, HardPairs, MultiSimilarityPairs, PerRowCap
from conformance import without_shape_checks


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.requires_grad_(), torch.arange(12) % 4


class Scaled(nn.Module):
    """A foreign module with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, embeddings: Tensor, labels: Tensor, pairs: tuple[Tensor, ...] | None = None) -> Tensor:
        self.seen = pairs
        return (embeddings.square().mean(dim=1) * self.scale).mean()

    def twice(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return 2 * self(embeddings, labels)


def squares(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings.square().mean()


def test_a_function_is_a_loss() -> None:
    x, labels = batch()
    value = Foreign(squares)(x, labels)
    value.backward()
    torch.testing.assert_close(value, x.square().mean())
    assert x.grad is not None


def test_parameters_are_found_wherever_a_callable_keeps_them() -> None:
    module = Scaled()
    for loss in (module, module.twice, partial(module.twice), partial(module)):
        objective = Foreign(loss)
        assert [id(parameter) for parameter in objective.parameters()] == [id(module.scale)]
    kept = nn.Parameter(torch.ones(()))
    given = Foreign(lambda x, y: (x * kept).mean(), parameters=[kept])
    assert [*given.parameters()] == [kept]
    given(*batch()).backward()
    assert kept.grad is not None


def test_parameters_of_a_foreign_miner_are_found() -> None:
    class Learns(Scaled):
        def forward(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
            return ()

    assert len([*Foreign(Scaled(), Learns()).parameters()]) == 2


def test_our_miners_give_row_numbers_of_pairs() -> None:
    for miner in (AllPairs(), HardPairs(), PerRowCap(positives=1)):
        for objective in (Foreign(Scaled(), miner), Mined(Scaled(), miner), Mined(Foreign(Scaled()), miner)):
            x, labels = batch()
            objective(x, labels)
            loss = objective.loss if isinstance(objective, Foreign) else objective.loss.loss
            a, p, b, n = loss.seen
            assert bool((labels[a] == labels[p]).all())
            assert bool((a != p).all())
            assert bool((labels[b] != labels[n]).all())
            assert len(a) == {AllPairs: 24, HardPairs: 12, PerRowCap: 12}[type(miner)]


def test_draws_of_a_miner_go_on() -> None:
    objective, seen = Mined(Scaled(), PerRowCap(negatives=1, choice="draw")), []
    for _ in range(3):
        objective(*batch())
        seen.append(objective.loss.loss.seen[3].tolist())
    assert seen[0] != seen[1] != seen[2]


def test_computes_in_single_precision_even_under_autocast() -> None:
    seen = []

    def product(embeddings: Tensor, labels: Tensor) -> Tensor:
        scores = embeddings @ embeddings.T
        seen.append((embeddings.dtype, scores.dtype))
        return scores.mean()

    x, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = Foreign(product)(x.to(torch.bfloat16), labels)
    assert seen == [(torch.float32, torch.float32)]
    assert value.dtype == torch.float32


@pytest.mark.parametrize("nothing", [0, 0.0, torch.zeros(()), torch.zeros(1)])
def test_a_constant_zero_carries_a_gradient(nothing: Any) -> None:
    x, labels = batch()
    value = Foreign(lambda embeddings, labels: nothing)(x, labels)
    value.backward()
    assert value == 0
    assert value.shape == ()
    assert x.grad is not None
    assert not x.grad.any()


def no_mean(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings.square().mean(dim=1)


def detached(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings.detach().square().mean()


def pair_of_losses(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return embeddings.mean(), embeddings.mean()


def whole(embeddings: Tensor, labels: Tensor) -> Tensor:
    return labels.sum()


def crash(embeddings: Tensor, labels: Tensor) -> Tensor:
    return embeddings[:, 99].mean()


def lonely(embeddings: Tensor) -> Tensor:
    return embeddings.mean()


def torn(embeddings: Tensor, labels: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize(
    ("loss", "kind", "message"),
    [
        (no_mean, UsageError, r"no_mean \(foreign\) must return one floating-point number(.|\n)*\(12,\) float64"),
        (pair_of_losses, UsageError, "pair_of_losses .* tuple"),
        (whole, UsageError, "whole .* int64"),
        (detached, UsageError, "detached .* without a gradient"),
        (crash, BatchError, r"crash \(foreign\) failed: IndexError(.|\n)*embeddings: \(12, 6\) float64"),
        (lonely, UsageError, "lonely .* can't be called"),
        (torn, torch.OutOfMemoryError, "no room"),
    ],
)
def test_tells_faults_as_ours_with_the_foreign_name(
    loss: Callable[..., Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Foreign(loss)(*batch())


def test_keeps_the_cause_of_a_fault() -> None:
    with pytest.raises(BatchError) as caught:
        Foreign(crash)(*batch())
    assert isinstance(caught.value.__cause__, IndexError)


def test_refuses_what_can_not_work() -> None:
    with without_shape_checks(), pytest.raises(UsageError, match="int is not"):
        Foreign(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="squares takes no third argument"):
        Foreign(squares, HardPairs())
    with pytest.raises(UsageError, match="tuple of row numbers"):
        Foreign(Scaled(), lambda embeddings, labels: labels)(*batch())


def test_checks_the_batch_under_its_own_name() -> None:
    x, labels = batch()
    wrong = x.detach().clone()
    wrong[3] = torch.nan
    with pytest.raises(NumericError, match="squares: embeddings must be finite, but 1 of 12 rows"):
        Foreign(squares)(wrong, labels)
    with without_shape_checks(), pytest.raises(BatchError, match="squares: labels must be integers"):
        Foreign(squares)(x, labels.double())


def test_says_whose_it_is() -> None:
    assert "squares" in repr(Foreign(squares))
    assert "Scaled, miner=HardPairs" in repr(Foreign(Scaled(), HardPairs()))


PML: dict[str, dict[str, Any]] = {
    "ContrastiveLoss": {},
    "TripletMarginLoss": {},
    "MultiSimilarityLoss": {},
    "NTXentLoss": {},
    "MarginLoss": {},
    "CircleLoss": {},
    "ArcFaceLoss": {"num_classes": 4, "embedding_size": 6},
    "ProxyAnchorLoss": {"num_classes": 4, "embedding_size": 6},
    "SoftTripleLoss": {"num_classes": 4, "embedding_size": 6},
}


@pytest.mark.parametrize("name", PML)
def test_takes_losses_of_pytorch_metric_learning_in_every_precision(name: str) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    theirs = getattr(losses, name)(**PML[name])
    objective = Foreign(theirs)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x, labels = batch()
        x = x.detach().to(dtype).requires_grad_()
        value = objective(x, labels)
        value.backward()
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, theirs(x.detach().float(), labels))
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert {*map(id, objective.parameters())} == {*map(id, theirs.parameters())}


def test_takes_miners_of_pytorch_metric_learning() -> None:
    losses, miners = (pytest.importorskip(f"pytorch_metric_learning.{part}") for part in ("losses", "miners"))
    x, labels = batch()
    for miner in (miners.MultiSimilarityMiner(), miners.BatchHardMiner(), miners.TripletMarginMiner()):
        loss = losses.ContrastiveLoss(neg_margin=0.9)
        torch.testing.assert_close(Foreign(loss, miner)(x, labels), loss(x, labels, miner(x, labels)))


def test_our_miner_and_theirs_make_the_same_loss() -> None:
    losses, miners = (pytest.importorskip(f"pytorch_metric_learning.{part}") for part in ("losses", "miners"))
    x, labels = batch()
    loss = losses.ContrastiveLoss(neg_margin=0.9)
    theirs = loss(x, labels, miners.MultiSimilarityMiner()(x, labels))
    torch.testing.assert_close(Foreign(loss, MultiSimilarityPairs())(x, labels), theirs)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_foreign_code_is_handed_labels_of_one_kind(dtype: torch.dtype) -> None:
    seen = []

    def loss(
        embeddings: Tensor, labels: Tensor, numbers: Any = None, ref_emb: Any = None, ref_labels: Any = None
    ) -> Any:
        seen.extend([labels.dtype] if ref_labels is None else [labels.dtype, ref_labels.dtype])
        return embeddings.mean()

    def miner(embeddings: Tensor, labels: Tensor, ref_emb: Any = None, ref_labels: Any = None) -> tuple[Tensor, ...]:
        seen.append(labels.dtype)
        return (torch.zeros(1, dtype=torch.int64),) * 4

    x, labels = batch()
    for objective in (Foreign(loss), Foreign(loss, miner)):
        objective(x, labels.to(dtype))
        objective.against(x, labels.to(dtype), x, labels.to(dtype))
    assert len(seen) == 8
    assert set(seen) == {torch.int64}


def test_losses_of_pytorch_metric_learning_take_short_labels() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    x, labels = batch()
    for theirs in (losses.ContrastiveLoss(), losses.MultiSimilarityLoss(), losses.ProxyAnchorLoss(4, 6)):
        assert torch.equal(Foreign(theirs)(x, labels.to(torch.uint8)), Foreign(theirs)(x, labels))

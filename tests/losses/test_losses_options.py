"""Options of losses: refused when out of range or misspelt, and state that starts where it is documented to."""

from collections.abc import Callable

import pytest
import torch

from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.losses import (
    Contrastive,
    MultiSimilarity,
    NormalisedSoftmax,
    NPair,
    ProxyNCA,
    SmoothedCrossEntropy,
    TripletMargin,
    n_pair,
    normalised_softmax,
    proxy_nca,
    smoothed_cross_entropy,
)
from conformance import without_shape_checks

WRONG = (
    (lambda: Contrastive(margin=0.0), "margin must be more than 0 and at most 2, not 0.0"),
    (lambda: Contrastive(margin=float("nan")), "margin must be a finite number"),
    (lambda: TripletMargin(margin=-0.1), "margin must be at least 0"),
    (lambda: NPair(penalty=-1.0), "penalty must be at least 0"),
    (lambda: ProxyNCA(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: ProxyNCA(0, 5), "dim must be a whole number of at least 1"),
    (lambda: ProxyNCA(4, 1), "classes must be a whole number of at least 2"),
    (lambda: SmoothedCrossEntropy(4, 5, smoothing=1.0), "smoothing must be at least 0 and less than 1"),
    (lambda: SmoothedCrossEntropy(0, 5), "dim must be"),
    (lambda: NormalisedSoftmax(4, 5, temperature=0.0), "temperature must be more than 0"),
    (lambda: NormalisedSoftmax(0, 5), "dim must be"),
    (lambda: MultiSimilarity(alpha=0.0), "alpha must be"),
    (lambda: MultiSimilarity(beta=-1.0), "beta must be"),
    (lambda: MultiSimilarity(base=2.0), "base must be"),
    (lambda: MultiSimilarity(epsilon=-0.1), "epsilon must be"),
)
MISSPELT = (
    (lambda: Contrastive(hinge="square"), "squared"),
    (lambda: Contrastive(average="kind"), "kinds"),
    (lambda: TripletMargin(mining="semihard"), "semi_hard"),
    (lambda: ProxyNCA(4, 5, positive="include"), "included"),
    (lambda: SmoothedCrossEntropy(4, 5, spread="other"), "others"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(("make", "suggestion"), MISSPELT, ids=[suggestion for _, suggestion in MISSPELT])
def test_suggests_the_option_that_was_meant(make: Callable[[], object], suggestion: str) -> None:
    with without_shape_checks(), pytest.raises(UnknownNameError, match=f"Did you mean '{suggestion}'"):
        make()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y: proxy_nca(x, y, torch.ones(1, 4)),
        lambda x, y: smoothed_cross_entropy(x, y, torch.ones(1, 4), torch.zeros(1)),
        lambda x, y: normalised_softmax(x, y, torch.ones(1, 4)),
    ],
)
def test_refuses_a_single_class(call: Callable[..., object]) -> None:
    with pytest.raises(UsageError, match="at least 2 classes, not 1"):
        call(torch.ones(3, 4), torch.zeros(3, dtype=torch.int64))


def test_n_pair_refuses_sides_that_do_not_match() -> None:
    with without_shape_checks(), pytest.raises(BatchError, match=r"anchors: +\(3, 4\) float32 on cpu"):
        n_pair(torch.ones(3, 4), torch.ones(2, 4))


def test_n_pair_names_the_side_that_is_not_finite() -> None:
    with pytest.raises(NumericError, match="positives must be finite, but 1 of 3 rows"):
        n_pair(torch.ones(3, 4), torch.ones(3, 4).index_fill(0, torch.tensor([1]), torch.nan))


def test_learned_classes_start_at_the_documented_spread() -> None:
    assert ProxyNCA(64, 500).proxies.std().item() == pytest.approx(1 / 8, rel=0.02)
    assert SmoothedCrossEntropy(64, 500).weight.std().item() == pytest.approx(1 / 8, rel=0.02)
    assert NormalisedSoftmax(64, 500).weight.norm(dim=1).mean().item() == pytest.approx(1, rel=0.02)
    assert SmoothedCrossEntropy(64, 500).bias.eq(0).all()


@pytest.mark.parametrize("kind", [ProxyNCA, SmoothedCrossEntropy, NormalisedSoftmax])
def test_learned_classes_draw_from_the_generator_alone(kind: type) -> None:
    before = torch.get_rng_state()
    default, same, other = kind(4, 5), kind(4, 5), kind(4, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    first, second, third = (next(module.parameters()) for module in (default, same, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)

"""Dynamic soft margin equals a slow loop, value, weights and gradient, and its histogram follows the batches."""

import pytest
import torch
from torch import Tensor

from accord.errors import BatchError, UsageError
from accord.losses import DynamicSoftMargin, dynamic_soft_margin, next_dynamic_soft_margin_histogram
from accord.losses._settings import row_engine
from conformance import without_shape_checks
from slow import batch, mean, squared, two_hundred, units


def slow_gaps(embeddings: Tensor, labels: list[int]) -> list[float]:
    """Of each item with a positive and a negative: distance of the farthest one less that of the closest other."""
    x, gaps = units(embeddings), []
    for a in range(len(x)):
        same = [squared(x[a], x[j]) ** 0.5 for j in range(len(x)) if labels[j] == labels[a] and j != a]
        other = [squared(x[a], x[j]) ** 0.5 for j in range(len(x)) if labels[j] != labels[a]]
        if same and other:
            gaps.append(max(same) - min(other))
    return gaps


def slow_weight(gap: float, histogram: list[float]) -> float:
    """The share of the histogram below a gap: of each bin as much as lies below."""
    width, total = 4 / len(histogram), sum(histogram)
    if total == 0:
        return (gap + 2) / 4
    parts = [min(1.0, max(0.0, (gap + 2 - width * b) / width)) for b in range(len(histogram))]
    return sum(part * height for part, height in zip(parts, histogram, strict=True)) / total


def slow_shares(gaps: list[float], bins: int) -> list[float]:
    shares = [0.0] * bins
    for gap in gaps:
        shares[min(bins - 1, int((gap + 2) / 4 * bins))] += 1 / len(gaps)
    return shares


def slow_loss(embeddings: Tensor, labels: list[int], histogram: list[float]) -> float:
    return mean([slow_weight(gap, histogram) * gap for gap in slow_gaps(embeddings, labels)])


def heights(bins: int, seed: int) -> Tensor:
    """Some histogram whose sum is not 1, with an empty bin."""
    drawn = 3 * torch.rand(bins, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn[1] = 0
    return drawn


@pytest.mark.parametrize("bins", [2, 10, 37])
def test_equals_the_slow_loop_on_two_hundred_batches(bins: int) -> None:
    for seed in two_hundred():
        (embeddings, labels), histogram = batch(seed), heights(bins, seed)
        expected = slow_loss(embeddings, labels.tolist(), histogram.tolist())
        assert dynamic_soft_margin(embeddings, labels, histogram).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_gradient_is_that_of_the_slow_loop_with_constant_weights(seed: int) -> None:
    (embeddings, labels), histogram = batch(seed), heights(10, seed)
    weights = [slow_weight(gap, histogram.tolist()) for gap in slow_gaps(embeddings, labels.tolist())]

    def slow(x: Tensor) -> float:
        return mean([w * gap for w, gap in zip(weights, slow_gaps(x, labels.tolist()), strict=True)])

    x = embeddings.clone().requires_grad_()
    (found,) = torch.autograd.grad(dynamic_soft_margin(x, labels, histogram), x)
    expected = torch.zeros_like(embeddings)
    for place in range(embeddings.numel()):
        step = torch.zeros_like(embeddings)
        step.view(-1)[place] = 1e-6
        expected.view(-1)[place] = (slow(embeddings + step) - slow(embeddings - step)) / 2e-6
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


def lopsided() -> tuple[Tensor, Tensor]:
    """Two hundred items, three in five of one class, some of them alone, large enough for labels to be sorted."""
    labels = torch.cat([torch.zeros(120, dtype=torch.int64), torch.arange(70) % 20 + 1, torch.arange(10) + 21])
    source = torch.Generator().manual_seed(1)
    return torch.randn(200, 5, generator=source, dtype=torch.float64), labels[torch.randperm(200, generator=source)]


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_classes_of_any_size_and_blocks_of_any_size_agree(few: bool, dtype: torch.dtype) -> None:
    embeddings, labels = lopsided()
    if few:  # then own columns are listed by number
        labels = torch.arange(200) % 67
    histogram, x = heights(10, 0), embeddings.to(dtype).requires_grad_()
    expected = slow_loss(embeddings, labels.tolist(), histogram.tolist())
    found = []
    for settings in ({}, {"block_bytes": 1000}, {"plain": True}, {"dense_up_to": 0}):
        with row_engine(**settings):
            value = dynamic_soft_margin(x, labels, histogram)
        assert value.item() == pytest.approx(expected, rel=1e-9 if dtype == torch.float64 else 1e-4)
        found.append(torch.autograd.grad(value, x)[0])
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize(("bins", "momentum"), [(10, 0.01), (7, 0.3), (10, 0.0), (3, 1.0)])
def test_the_histogram_follows_the_batches_and_is_used_at_once(bins: int, momentum: float) -> None:
    objective, heights_ = DynamicSoftMargin(bins=bins, momentum=momentum).double(), [0.0] * bins
    for seed in range(6):
        embeddings, labels = batch(seed)
        shares = slow_shares(slow_gaps(embeddings, labels.tolist()), bins)
        share = momentum if seed else 1.0
        heights_ = [(1 - share) * old + share * new for old, new in zip(heights_, shares, strict=True)]
        told = next_dynamic_soft_margin_histogram(embeddings, labels, objective.histogram, momentum=momentum)
        value = objective(embeddings, labels)
        assert objective.histogram.tolist() == pytest.approx(heights_, rel=1e-9, abs=1e-12)
        assert torch.equal(told, objective.histogram)
        assert value.item() == pytest.approx(slow_loss(embeddings, labels.tolist(), heights_), rel=1e-9)
        assert torch.equal(value, dynamic_soft_margin(embeddings, labels, objective.histogram))


def test_the_first_batch_is_all_that_is_known_and_before_it_gaps_count_evenly() -> None:
    objective, (embeddings, labels) = DynamicSoftMargin().double(), batch(0)
    before = mean([(gap + 2) / 4 * gap for gap in slow_gaps(embeddings, labels.tolist())])
    assert objective.eval()(embeddings, labels).item() == pytest.approx(before, rel=1e-9)
    objective.train()(embeddings, labels)
    assert objective.histogram.sum().item() == pytest.approx(1)


def test_the_hardest_triplet_counts_fully_and_the_easiest_not_at_all() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    # only the first class has pairs: gaps 2 - 0 and 2 - 2
    middle = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert dynamic_soft_margin(x, torch.tensor([0, 0, 1]), middle).item() == pytest.approx((1.0 * 2 + 0.5 * 0) / 2)
    # gaps 0 - 2 of both
    assert dynamic_soft_margin(x, torch.tensor([0, 1, 0]), middle).item() == 0


def test_statistics_move_while_training_only_and_carry_no_gradient() -> None:
    objective, (embeddings, labels) = DynamicSoftMargin().double(), batch(0)
    assert list(objective.state_dict()) == ["histogram"]
    objective.eval()(embeddings, labels)
    assert not objective.histogram.any()
    objective.train()
    for _ in range(2):
        objective(embeddings.requires_grad_(), labels).backward()
    assert objective.histogram.any()
    assert not objective.histogram.requires_grad
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


def test_a_resumed_loss_goes_on_as_if_nothing_had_happened() -> None:
    one, other = DynamicSoftMargin().double(), DynamicSoftMargin().double()
    for seed in range(3):
        one(*batch(seed))
    other.load_state_dict({key: tensor.clone() for key, tensor in one.state_dict().items()})
    for seed in range(3, 6):
        values, gradients = [], []
        for objective in (one, other):
            embeddings, labels = batch(seed)
            values.append(objective(embeddings.requires_grad_(), labels))
            gradients.append(torch.autograd.grad(values[-1], embeddings)[0])
        assert torch.equal(*values)
        assert torch.equal(*gradients)
        assert torch.equal(one.histogram, other.histogram)


def test_a_batch_may_come_between_a_value_and_its_gradient() -> None:
    objective, alone = DynamicSoftMargin().double(), DynamicSoftMargin().double()
    embeddings, labels = batch(0)
    embeddings.requires_grad_()
    value = objective(embeddings, labels)
    objective(*batch(1))
    (found,) = torch.autograd.grad(value, embeddings)
    assert torch.equal(found, torch.autograd.grad(alone(embeddings, labels), embeddings)[0])


@pytest.mark.parametrize("labels", [[], [0], [0, 1, 2], [0, 0, 0]])
def test_a_batch_without_triplets_costs_zero_and_leaves_the_histogram_alone(labels: list[int]) -> None:
    objective = DynamicSoftMargin().double()
    objective(*batch(0))
    before = objective.histogram.clone()
    embeddings = batch(1)[0][: len(labels)].requires_grad_()
    value = objective(embeddings, torch.tensor(labels, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()
    assert torch.equal(objective.histogram, before)


def test_training_needs_no_value_and_keeps_the_order_of_a_batch_out() -> None:
    embeddings, labels = batch(0)
    away = DynamicSoftMargin().to("meta")
    assert away(embeddings.to("meta"), labels.to("meta")).shape == ()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    one, other = DynamicSoftMargin().double(), DynamicSoftMargin().double()
    torch.testing.assert_close(one(embeddings, labels), other(embeddings[order], labels[order]), rtol=1e-12, atol=0)
    assert torch.equal(one.histogram, other.histogram)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_trains_on_embeddings_narrower_than_its_histogram(dtype: torch.dtype) -> None:
    embeddings, labels = batch(0)
    objective, x = DynamicSoftMargin(), embeddings.to(dtype).requires_grad_()
    for _ in range(2):
        objective(x, labels).backward()
    assert objective.histogram.dtype == torch.float32
    assert objective.histogram.sum().item() == pytest.approx(1)
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "bins must be a whole number of at least 1, not 0"),
        ({"bins": 2.5}, "bins must be a whole number"),
        ({"momentum": -0.1}, "momentum must be at least 0 and at most 1, not -0.1"),
        ({"momentum": 1.1}, "momentum must be at least 0 and at most 1"),
    ],
)
def test_refuses_options_out_of_range(options: dict[str, int | float], message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        DynamicSoftMargin(**options)


def test_refuses_a_histogram_without_bins_and_a_batch_that_does_not_fit() -> None:
    embeddings, labels = batch(0)
    with without_shape_checks():
        for histogram in (torch.zeros(0), torch.zeros(2, 3)):
            with pytest.raises(UsageError, match="histogram must have one axis and a bin"):
                dynamic_soft_margin(embeddings, labels, histogram)
        with pytest.raises(UsageError, match="momentum must be"):
            next_dynamic_soft_margin_histogram(embeddings, labels, torch.zeros(3), momentum=2.0)
        with pytest.raises(BatchError, match="one entry per embedding"):
            DynamicSoftMargin()(embeddings, labels[:3])

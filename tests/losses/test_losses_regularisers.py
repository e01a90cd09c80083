"""Regularisers: each equals a slow loop written from its paper, value and gradient, and its peers."""

import inspect
from collections.abc import Callable
from itertools import combinations, permutations, product
from math import log, sqrt

import pytest
import pytorch_metric_learning.losses as peer
import torch
from pytorch_metric_learning.regularizers import LpRegularizer, RegularFaceRegularizer
from torch import Tensor

import accord.losses
from accord.errors import NumericError, UnknownNameError, UsageError
from accord.losses import (
    CentreDecorrelation,
    EmbeddingNorm,
    Koleo,
    SpreadOut,
    VarianceCovariance,
    centre_decorrelation,
    embedding_norm,
    koleo,
    spread_out,
    variance_covariance,
)
from accord.losses._settings import row_engine
from accord.recipes.catalog.regularisers import LOSSES
from conformance import without_shape_checks
from slow import Row, dot, equals, mean, random_batch, squared, unit, units


def test_embedding_norm_is_the_mean_squared_length() -> None:
    equals(EmbeddingNorm(), lambda embeddings, _: mean([dot(x, x) for x in embeddings.tolist()]))


def test_koleo_is_the_mean_log_distance_to_the_nearest() -> None:
    def slow(embeddings: Tensor, _: list[int]) -> float:
        x, items = units(embeddings), range(len(embeddings))
        return -mean([log(min(sqrt(squared(x[a], x[j])) for j in items if j != a)) for a in items])

    equals(Koleo(), slow)


def test_koleo_keeps_the_digits_of_small_distances() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 3e-5], [0.0, 1.0]])
    value = koleo(x, torch.arange(3)).item()
    assert value == pytest.approx(-(2 * log(3e-5) + log(sqrt(2))) / 3, rel=1e-4)


def test_koleo_counts_distances_below_epsilon_as_epsilon() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.001]], requires_grad=True)
    value = koleo(x, torch.arange(3), epsilon=0.01)
    value.backward()
    assert value.item() == pytest.approx(-log(0.01), rel=1e-6)
    assert x.grad is not None
    assert x.grad.eq(0).all()


def test_koleo_does_not_depend_on_the_size_of_blocks() -> None:
    embeddings, labels = random_batch(0, items=50)
    with row_engine(block_bytes=1000):
        small = koleo(embeddings, labels)
    torch.testing.assert_close(small, koleo(embeddings, labels), rtol=1e-12, atol=0)


def centres(x: list[Row], labels: list[int]) -> list[Row]:
    found = []
    for label in sorted(set(labels)):
        members = [row for row, other in zip(x, labels, strict=True) if other == label]
        found.append(unit([mean(list(column)) for column in zip(*members, strict=True)]))
    return found


@pytest.mark.parametrize("over", ["nearest", "all"])
def test_centre_decorrelation_looks_at_cosines_of_class_means(over: str) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        c = centres(units(embeddings), labels)
        if len(c) < 2:
            return 0.0
        if over == "all":
            return mean([dot(a, b) ** 2 for a, b in combinations(c, 2)])
        return mean([max(dot(a, b) for b in c if b is not a) for a in c])

    equals(CentreDecorrelation(over=over), slow)


@pytest.mark.parametrize("over", ["nearest", "all"])
def test_centre_decorrelation_takes_a_table(over: str) -> None:
    table = random_batch(1, items=7)[0].requires_grad_()
    value = centre_decorrelation(*random_batch(0), table, over=over)
    c = [unit(row) for row in table.tolist()]
    if over == "all":
        expected = mean([dot(a, b) ** 2 for a, b in combinations(c, 2)])
    else:
        expected = mean([max(dot(a, b) for b in c if b is not a) for a in c])
        assert RegularFaceRegularizer()(table).item() == pytest.approx(expected, rel=1e-9)
    assert value.item() == pytest.approx(expected, rel=1e-9)
    torch.autograd.gradcheck(lambda t: centre_decorrelation(*random_batch(0), t, over=over), table)


def test_centre_decorrelation_of_a_table_leaves_the_batch_alone() -> None:
    embeddings, labels = random_batch(0)
    embeddings.requires_grad_()
    centre_decorrelation(embeddings, labels, torch.eye(4, dtype=torch.float64)).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.eq(0).all()


def test_centre_decorrelation_names_the_centre_that_is_not_finite() -> None:
    table = torch.eye(4).index_fill(0, torch.tensor([2]), torch.nan)
    with pytest.raises(NumericError, match="centres must be finite, but 1 of 4 rows are not: 2"):
        centre_decorrelation(torch.ones(3, 4), torch.arange(3), table)


def test_a_single_class_has_no_centres_to_keep_apart() -> None:
    embeddings = random_batch(0)[0].requires_grad_()
    for over in ("nearest", "all"):
        value = centre_decorrelation(embeddings, torch.zeros(11, dtype=torch.int64), over=over)
        (gradient,) = torch.autograd.grad(value, embeddings)
        assert value == 0
        assert gradient.eq(0).all()


def test_variance_covariance_looks_at_the_axes() -> None:
    def slow(embeddings: Tensor, _: list[int]) -> float:
        n, axes = len(embeddings), [list(column) for column in zip(*embeddings.tolist(), strict=True)]
        axes = [[v - mean(axis) for v in axis] for axis in axes]
        shortfall = mean([max(0.0, 0.8 - sqrt(dot(axis, axis) / (n - 1) + 1e-3)) for axis in axes])
        shared = sum((dot(a, b) / (n - 1)) ** 2 for a, b in permutations(axes, 2)) / len(axes)
        return 3.0 * shortfall + 2.0 * shared

    equals(VarianceCovariance(variance=3.0, covariance=2.0, target=0.8, epsilon=1e-3), slow)


def test_spread_out_compares_moments_with_random_directions() -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, items = units(embeddings), range(len(labels))
        cosines = [dot(x[a], x[j]) for a, j in product(items, repeat=2) if labels[a] != labels[j]]
        if not cosines:
            return 0.0
        return mean(cosines) ** 2 + max(0.0, mean([s * s for s in cosines]) - 1 / 4)

    equals(SpreadOut(), slow)


def test_spread_out_is_the_same_in_blocks_and_by_autograd() -> None:
    embeddings, labels = random_batch(2, items=40, dim=6)
    embeddings.requires_grad_()
    outcomes = []
    for settings in ({}, {"block_bytes": 1000}, {"plain": True}):
        with row_engine(**settings):
            value = spread_out(embeddings, labels)
            outcomes.append((value.detach(), *torch.autograd.grad(value, embeddings)))
    for other in outcomes[1:]:
        torch.testing.assert_close(other, outcomes[0], rtol=1e-9, atol=1e-12)


def both_sides(x: Tensor, _: Tensor) -> Tensor:
    """The peer compares two views; of one view twice it averages the variance and doubles the covariance."""
    value: Tensor = peer.VICRegLoss(invariance_lambda=0)(x, ref_emb=x)
    return value


PEERS = {
    "embedding norm": (EmbeddingNorm(), lambda x, _: LpRegularizer(p=2, power=2)(x)),
    "variance and covariance": (VarianceCovariance(covariance=2.0), both_sides),
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_its_peer(name: str) -> None:
    for seed in range(5):
        embeddings, labels = random_batch(seed, items=24, dim=8)
        x = (embeddings / 2).requires_grad_()
        found, expected = (objective(x, labels) for objective in PEERS[name])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        left, right = (torch.autograd.grad(value, x)[0] for value in (found, expected))
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_the_module_hands_every_option_to_its_function() -> None:
    batch = random_batch(5)
    options = {"variance": 2.0, "covariance": 3.0, "target": 0.7, "epsilon": 0.01}
    assert torch.equal(VarianceCovariance(**options)(*batch), variance_covariance(*batch, **options))
    assert torch.equal(Koleo(epsilon=0.3)(*batch), koleo(*batch, epsilon=0.3))
    assert torch.equal(EmbeddingNorm()(*batch), embedding_norm(*batch))


WRONG = (
    (lambda: Koleo(epsilon=0.0), "koleo: epsilon must be at least 1e-15"),
    (lambda: koleo(*random_batch(0), epsilon=2.0), "koleo: epsilon must be at least 1e-15 and less than 2"),
    (lambda: VarianceCovariance(variance=-1.0), "variance_covariance: variance must be at least 0"),
    (lambda: VarianceCovariance(covariance=-1.0), "covariance must be at least 0"),
    (lambda: VarianceCovariance(target=0.0), "target must be more than 0"),
    (lambda: VarianceCovariance(epsilon=0.0), "epsilon must be more than 0"),
    (lambda: variance_covariance(*random_batch(0), epsilon=-1.0), "epsilon must be more than 0"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_suggests_the_option_that_was_meant() -> None:
    for make in (lambda: CentreDecorrelation(over="near"), lambda: centre_decorrelation(*random_batch(0), over="near")):
        with without_shape_checks(), pytest.raises(UnknownNameError, match="Did you mean 'nearest'"):
            make()


def test_the_catalogue_explains_every_option() -> None:
    for info in LOSSES.values():
        kind = getattr(accord.losses, info.path.rpartition(".")[2])
        options = [] if kind.__init__ is torch.nn.Module.__init__ else inspect.signature(kind).parameters
        assert set(info.options) == set(options)

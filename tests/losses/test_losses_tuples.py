"""Losses over tuples equal slow loops written from their papers, by hand and by autograd; peers' faults are absent."""

import warnings
from collections.abc import Callable
from itertools import combinations, permutations, product
from math import exp, log, log1p, radians, sqrt, tan

import pytest
import torch
from pytorch_metric_learning import losses as peers
from torch import Tensor

from accord.errors import UnknownNameError, UsageError
from accord.losses import (
    Angular,
    CoSENT,
    GeneralisedLifted,
    Histogram,
    LiftedStructure,
    NPair,
    NPairAngular,
    Quadruplet,
    angular,
    cosent,
    generalised_lifted,
    histogram,
    lifted_structure,
    n_pair_angular,
    quadruplet,
)
from accord.losses._settings import row_engine
from conformance import Case, without_shape_checks
from loss_cases_tuples import CASES
from slow import Row, agrees, batch, dot, mean, squared, two_hundred, units

Slow = Callable[[Tensor, list[int]], float]
Loss = Callable[[Tensor, Tensor], Tensor]


def rows_of(embeddings: Tensor, *, normalised: bool) -> list[Row]:
    return units(embeddings) if normalised else embeddings.tolist()


def apart(a: Row, b: Row) -> float:
    return sqrt(squared(a, b))


def others(labels: list[int], item: int) -> tuple[list[int], list[int]]:
    """Positives and negatives of an item."""
    same = [j for j, label in enumerate(labels) if label == labels[item] and j != item]
    return same, [j for j, label in enumerate(labels) if label != labels[item]]


def slow_generalised_lifted(margin: float, hinge: str, normalised: bool) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = rows_of(embeddings, normalised=normalised), []
        for a in range(len(x)):
            positives, negatives = others(labels, a)
            if positives and negatives:
                pull = log(sum(exp(apart(x[a], x[p])) for p in positives))
                gap = pull + log(sum(exp(margin - apart(x[a], x[n])) for n in negatives))
                costs.append(max(0.0, gap) if hinge == "hard" else log1p(exp(gap)))
        return mean(costs)

    return slow


def slow_lifted_structure(margin: float, normalised: bool) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = rows_of(embeddings, normalised=normalised)
        pairs = [(i, j) for i, j in combinations(range(len(x)), 2) if labels[i] == labels[j]]
        total = 0.0
        for i, j in pairs:
            both = sum(exp(margin - apart(x[i], x[k])) for k in others(labels, i)[1])
            both += sum(exp(margin - apart(x[j], x[k])) for k in others(labels, j)[1])
            total += max(0.0, log(both) + apart(x[i], x[j])) ** 2
        return total / (2 * len(pairs))

    return slow


def slow_angular(angle: float) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, t, costs = units(embeddings), tan(radians(angle)) ** 2, []
        for a, p in permutations(range(len(x)), 2):
            if labels[a] == labels[p]:
                middle = [u + v for u, v in zip(x[a], x[p], strict=True)]
                terms = [4 * t * dot(middle, x[n]) - 2 * (1 + t) * dot(x[a], x[p]) for n in others(labels, a)[1]]
                costs.append(log1p(sum(exp(term) for term in terms)))
        return mean(costs)

    return slow


def slow_histogram(bins: int) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, step = units(embeddings), 2 / bins
        nodes = [-1 + step * r for r in range(bins + 1)]
        sides: list[list[float]] = [[], []]
        for i, j in combinations(range(len(x)), 2):
            sides[labels[i] == labels[j]].append(dot(x[i], x[j]))
        negative, positive = (
            [mean([max(0.0, 1 - abs(value - node) / step) for value in side]) for node in nodes] for side in sides
        )
        return sum(negative[r] * sum(positive[: r + 1]) for r in range(bins + 1))

    return slow


def slow_quadruplet(margin: float, second_margin: float, power: int, normalised: bool) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = rows_of(embeddings, normalised=normalised), []

        def distance(i: int, j: int) -> float:
            return apart(x[i], x[j]) ** power

        for a, p in permutations(range(len(x)), 2):
            if labels[a] == labels[p]:
                near = min(distance(a, n) for n in others(labels, a)[1])
                foreign = others(labels, a)[1]
                rival = min(distance(k, m) for k, m in combinations(foreign, 2) if labels[k] != labels[m])
                first = max(0.0, distance(a, p) - near + margin)
                costs.append(first + max(0.0, distance(a, p) - rival + second_margin))
        return mean(costs)

    return slow


def slow_cosent(scale: float) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = units(embeddings)
        pairs = list(combinations(range(len(x)), 2))
        positives = [dot(x[i], x[j]) for i, j in pairs if labels[i] == labels[j]]
        negatives = [dot(x[i], x[j]) for i, j in pairs if labels[i] != labels[j]]
        return log1p(sum(exp(scale * (n - p)) for p, n in product(positives, negatives)))

    return slow


FORMULAS: tuple[tuple[str, Loss, Slow], ...] = (
    ("generalised lifted", GeneralisedLifted(margin=0.3), slow_generalised_lifted(0.3, "hard", True)),
    ("generalised lifted soft", GeneralisedLifted(hinge="soft"), slow_generalised_lifted(1.0, "soft", True)),
    ("generalised lifted raw", GeneralisedLifted(normalised=False), slow_generalised_lifted(1.0, "hard", False)),
    ("lifted structure", LiftedStructure(margin=0.2), slow_lifted_structure(0.2, True)),
    ("lifted structure raw", LiftedStructure(normalised=False), slow_lifted_structure(1.0, False)),
    ("angular", Angular(), slow_angular(45.0)),
    ("angular 30", Angular(angle=30.0), slow_angular(30.0)),
    ("angular 60", Angular(angle=60.0), slow_angular(60.0)),
    ("histogram", Histogram(), slow_histogram(100)),
    ("histogram 8", Histogram(bins=8), slow_histogram(8)),
    ("quadruplet", Quadruplet(margin=0.4), slow_quadruplet(0.4, 0.2, 2, True)),
    ("quadruplet rooted", Quadruplet(squared=False, second_margin=0.7), slow_quadruplet(0.2, 0.7, 1, True)),
    ("quadruplet raw", Quadruplet(normalised=False), slow_quadruplet(0.2, 0.2, 2, False)),
    ("cosent", CoSENT(), slow_cosent(20.0)),
    ("cosent 3", CoSENT(scale=3.0), slow_cosent(3.0)),
)
NAMES = [name for name, _, _ in FORMULAS]


@pytest.mark.parametrize(("name", "objective", "slow"), FORMULAS, ids=NAMES)
def test_equals_the_slow_loop_and_its_slope(name: str, objective: Loss, slow: Slow) -> None:
    agrees(objective, slow)


@pytest.mark.parametrize(("name", "objective", "slow"), FORMULAS, ids=NAMES)
def test_equals_the_slow_loop_on_two_hundred_batches(name: str, objective: Loss, slow: Slow) -> None:
    for seed in two_hundred():
        embeddings, labels = batch(seed)
        value, expected = objective(embeddings, labels).item(), slow(embeddings, labels.tolist())
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-9), seed


def test_n_pair_angular_is_the_sum_of_both() -> None:
    embeddings, labels = batch(3)
    expected = NPair(penalty=0.01)(embeddings, labels) + 0.7 * Angular(angle=40.0)(embeddings, labels)
    for value in (
        NPairAngular(angle=40.0, weight=0.7, penalty=0.01)(embeddings, labels),
        n_pair_angular(embeddings, labels, angle=40.0, weight=0.7, penalty=0.01),
    ):
        torch.testing.assert_close(value, expected)
    both = NPairAngular(symmetric=True)(embeddings, labels)
    torch.testing.assert_close(both, NPair(symmetric=True)(embeddings, labels) + 2 * Angular()(embeddings, labels))


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (GeneralisedLifted, generalised_lifted),
        (LiftedStructure, lifted_structure),
        (Angular, angular),
        (Histogram, histogram),
        (Quadruplet, quadruplet),
        (CoSENT, cosent),
        (NPairAngular, n_pair_angular),
    ],
)
def test_modules_have_the_defaults_of_their_functions(module: type, function: Loss) -> None:
    embeddings, labels = batch(0)
    assert torch.equal(module()(embeddings, labels), function(embeddings, labels))


def shapes() -> dict[str, Tensor]:
    """Labels of batches that take each of the engine's ways."""
    big = torch.cat([torch.zeros(36, dtype=torch.int64), torch.arange(24) // 3 + 1])
    mix = torch.randperm(len(big), generator=torch.Generator().manual_seed(1))
    return {
        "pairs": torch.arange(40) % 20,
        "fours among many": torch.arange(160) % 40,
        "one class of 60 %": big[mix],
        "lone classes": torch.cat([torch.arange(12), torch.arange(100, 128), torch.arange(8)]),
        "two classes": torch.arange(20) % 2,
    }


def value_and_gradient(objective: Loss, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = objective(leaf, labels)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_gradient_by_hand_is_that_of_autograd(case: Case, shape: str) -> None:
    labels, objective = shapes()[shape], case.make()
    for seed, (dtype, tolerance) in enumerate(((torch.float64, 1e-9), (torch.float64, 1e-9), (torch.float32, 3e-4))):
        embeddings = torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(seed), dtype=dtype) / 3
        with row_engine(plain=True):
            value, gradient = value_and_gradient(objective, embeddings, labels)
        for block_bytes in (1000, 2**21):
            with row_engine(block_bytes=block_bytes):
                ours, by_hand = value_and_gradient(objective, embeddings, labels)
                with torch.no_grad():
                    alone = objective(embeddings, labels)
            for found in (ours, alone):
                torch.testing.assert_close(found, value, rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(by_hand, gradient, rtol=tolerance, atol=tolerance * gradient.abs().max().item())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_may_be_pulled_twice_and_has_a_second_derivative(case: Case) -> None:
    embeddings, labels = batch(1)
    leaf = embeddings.requires_grad_()
    value = case.make()(leaf, labels)
    first, again = (torch.autograd.grad(value, leaf, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, again, rtol=1e-9, atol=1e-12)
    (smooth,) = torch.autograd.grad(value, leaf, create_graph=True)
    torch.testing.assert_close(smooth.detach(), first, rtol=1e-9, atol=1e-12)
    (second,) = torch.autograd.grad(smooth.square().sum(), leaf)
    assert second.isfinite().all()


def test_angular_takes_both_ways_through_the_pairs() -> None:
    # 160 items in classes of four are walked in three steps; with 24 one product holds all pairs
    for count in (24, 160):
        labels = torch.arange(count) % (count // 4)
        embeddings = torch.randn(count, 6, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
        expected = slow_angular(45.0)(embeddings, labels.tolist())
        assert angular(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("angle", [1.0, 65.0])
def test_angular_holds_at_the_ends_of_its_range(angle: float) -> None:
    labels = torch.arange(160) % 40
    for spread in (1e-3, 1.0):
        noise = torch.randn(160, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        embeddings = torch.ones(6, dtype=torch.float64) * torch.where(labels % 2 > 0, 1, -1)[:, None] + spread * noise
        exact, exact_gradient = value_and_gradient(Angular(angle=angle), embeddings, labels)
        value, gradient = value_and_gradient(Angular(angle=angle), embeddings.float(), labels)
        assert value.item() == pytest.approx(exact.item(), rel=1e-4)
        assert (gradient - exact_gradient).abs().max() <= 1e-3 * exact_gradient.abs().max()


def balanced(seed: int) -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(24, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return embeddings, torch.arange(24) % 6


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GeneralisedLifted(), lambda: peers.GeneralizedLiftedStructureLoss()),
        (LiftedStructure(), lambda: peers.LiftedStructureLoss()),
        (LiftedStructure(margin=0.4), lambda: peers.LiftedStructureLoss(neg_margin=0.4)),
        (Histogram(), lambda: peers.HistogramLoss(n_bins=100)),
        (Histogram(bins=20), lambda: peers.HistogramLoss(n_bins=20)),
    ],
)
def test_agrees_with_the_peer(ours: Loss, theirs: Callable[[], Loss]) -> None:
    for seed in range(3):
        embeddings, labels = balanced(seed)
        value, gradient = value_and_gradient(ours, embeddings, labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer_value, peer_gradient = value_and_gradient(theirs(), embeddings, labels)
        torch.testing.assert_close(value, peer_value, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, peer_gradient, rtol=1e-5, atol=1e-5)


def test_angular_agrees_with_the_peer_on_unit_vectors_and_unlike_it_everywhere() -> None:
    embeddings, labels = balanced(0)
    lengths = embeddings.norm(dim=1, keepdim=True)
    theirs = peers.AngularLoss(alpha=45)
    value = Angular()(embeddings, labels)
    torch.testing.assert_close(theirs(embeddings / lengths, labels), value, rtol=1e-5, atol=1e-5)
    assert theirs(embeddings * 3, labels) > 1.5 * value  # its negatives keep their length
    torch.testing.assert_close(Angular()(embeddings * 3, labels), value)


def test_one_pair_of_each_kind_is_enough() -> None:
    # a known fault elsewhere: with a single positive or negative pair a loss is silently zero
    embeddings, labels = batch(0)[0][:3], torch.tensor([0, 0, 1])
    for objective in (GeneralisedLifted(), LiftedStructure(), Angular(), Quadruplet(margin=9.0), CoSENT()):
        assert objective(embeddings, labels) > 0


def test_duplicates_leave_the_histogram_finite() -> None:
    embeddings = torch.ones(8, 4).requires_grad_()
    value = histogram(embeddings, torch.arange(8) // 2)
    value.backward()
    assert value.item() == pytest.approx(1, abs=1e-4)
    assert embeddings.grad.isfinite().all()


def test_the_foreign_pair_avoids_the_classes_of_the_closest_one() -> None:
    # on a line: the closest pair of two classes is 0.3 | 0.4, which serves class 2 alone
    embeddings = torch.tensor([[0.0], [0.3], [0.4], [1.0], [2.0], [2.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    rivals = {0: 1.0, 1: 1.7, 2: 0.1}
    near = [0.4, 0.1, 0.1, 0.7, 1.0, 1.5]
    gaps = [0.3, 0.3, 0.6, 0.6, 0.5, 0.5]
    costs = [gap - n + 5 + gap - rivals[c] + 7 for gap, n, c in zip(gaps, near, labels.tolist(), strict=True)]
    value = quadruplet(embeddings, labels, margin=5.0, second_margin=7.0, squared=False, normalised=False)
    assert value.item() == pytest.approx(mean(costs), rel=1e-9)


def test_quadruplet_without_a_third_class_is_a_triplet() -> None:
    embeddings, labels = batch(0)[0][:6], torch.tensor([0, 0, 0, 1, 1, 1])
    first, second = (quadruplet(embeddings, labels, second_margin=margin) for margin in (0.0, 5.0))
    assert torch.equal(first, second)


WRONG = (
    (lambda: GeneralisedLifted(margin=-1.0), "margin must be at least 0"),
    (lambda: LiftedStructure(margin=float("inf")), "margin must be a finite number"),
    (lambda: Angular(angle=0.0), "angle must be more than 0 and at most 65, not 0.0"),
    (lambda: Angular(angle=90.0), "angle must be more than 0 and at most 65"),
    (lambda: NPairAngular(angle=-3.0), "n_pair_angular: angle must be"),
    (lambda: NPairAngular(weight=-1.0), "weight must be at least 0"),
    (lambda: NPairAngular(penalty=-1.0), "penalty must be at least 0"),
    (lambda: Histogram(bins=0), "bins must be a whole number of at least 1"),
    (lambda: Histogram(bins=2.5), "bins must be a whole number"),
    (lambda: Quadruplet(margin=-0.1), "quadruplet: margin must be at least 0"),
    (lambda: Quadruplet(second_margin=-0.1), "second_margin must be at least 0"),
    (lambda: CoSENT(scale=0.0), "scale must be more than 0"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        make()


def test_suggests_the_hinge_that_was_meant() -> None:
    with without_shape_checks(), pytest.raises(UnknownNameError, match="Did you mean 'soft'"):
        GeneralisedLifted(hinge="softly")

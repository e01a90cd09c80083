"""Losses that weigh pairs: each equals a slow loop written from its paper, value and gradient, and its peers."""

import inspect
from collections.abc import Callable
from itertools import product
from math import acos, cos, exp, log, log1p, radians, sqrt

import pytest
import pytorch_metric_learning.losses as peer
import torch
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor, nn

import accord.losses
from accord.errors import BatchError, UnknownNameError, UsageError
from accord.losses import (
    BinomialDeviance,
    Circle,
    Margin,
    Mined,
    Sigmoid,
    SignalToNoise,
    TupletMargin,
    binomial_deviance,
    circle,
    margin,
    sigmoid,
    signal_to_noise,
    tuplet_margin,
)
from accord.losses._settings import row_engine
from accord.mining import AllPairs, HardPairs
from accord.recipes.catalog.weighted import LOSSES
from conformance import Case, without_shape_checks
from loss_cases_weighted import CASES
from slow import Row, dot, equals, mean, random_batch, squared, two_hundred, units


def rows(x: list[Row], labels: list[int]) -> list[tuple[list[float], list[float]]]:
    """Each row's cosines with its positives and with its negatives."""
    items = range(len(x))
    return [
        (
            [dot(x[a], x[j]) for j in items if labels[j] == labels[a] and j != a],
            [dot(x[a], x[j]) for j in items if labels[j] != labels[a]],
        )
        for a in items
    ]


def mean_or_zero(values: list[float]) -> float:
    return mean(values) if values else 0.0


@pytest.mark.parametrize(("m", "gamma"), [(0.4, 80.0), (0.25, 8.0), (0.0, 2.0)])
def test_circle_weighs_each_pair_by_its_distance_from_its_optimum(m: float, gamma: float) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        costs = []
        for positives, negatives in rows(units(embeddings), labels):
            if positives and negatives:
                pull = sum(exp(gamma * max(0.0, 1 + m - s) * (1 - m - s)) for s in positives)
                push = sum(exp(gamma * max(0.0, s + m) * (s - m)) for s in negatives)
                costs.append(log1p(pull * push))
        return mean_or_zero(costs)

    equals(Circle(margin=m, gamma=gamma, detach=False), slow)
    for seed in two_hundred():
        batch = random_batch(seed)
        assert (
            circle(*batch, margin=m, gamma=gamma).item() == circle(*batch, margin=m, gamma=gamma, detach=False).item()
        )


def test_the_gradient_of_circle_takes_its_weights_as_constants() -> None:
    embeddings, labels = random_batch(0)
    x = embeddings.requires_grad_()
    u = x / x.norm(dim=1, keepdim=True)
    costs = []
    for a in range(len(u)):
        positives = [u[a] @ u[j] for j in range(len(u)) if labels[j] == labels[a] and j != a]
        negatives = [u[a] @ u[j] for j in range(len(u)) if labels[j] != labels[a]]
        if positives and negatives:
            pull = sum((80 * (1.4 - s).relu().detach() * (0.6 - s)).exp() for s in positives)
            push = sum((80 * (s + 0.4).relu().detach() * (s - 0.4)).exp() for s in negatives)
            costs.append(torch.log1p(pull * push))
    (expected,) = torch.autograd.grad(sum(costs) / len(costs), x)
    (found,) = torch.autograd.grad(circle(x, labels), x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("average", ["pairs", "triplets"])
@pytest.mark.parametrize("nu", [0.0, 0.3])
def test_margin_is_a_hinge_on_both_sides_of_a_radius(average: str, nu: float) -> None:
    objective = Margin(classes=4, nu=nu, average=average).double()
    with torch.no_grad():
        objective.beta.copy_(torch.tensor([1.2, 0.9, 1.3, 1.0]))
    beta = objective.beta.tolist()

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, items, costs = units(embeddings), range(len(labels)), []
        for a in items:
            radius = beta[labels[a]]
            positives = [sqrt(squared(x[a], x[j])) for j in items if labels[j] == labels[a] and j != a]
            negatives = [sqrt(squared(x[a], x[j])) for j in items if labels[j] != labels[a]]
            pulls, pushes = [d - radius + 0.2 for d in positives], [radius + 0.2 - d for d in negatives]
            if average == "pairs":
                costs += pulls + pushes
            else:
                costs += [cost for pair in product(pulls, pushes) for cost in pair]
        return mean_or_zero([cost for cost in costs if cost > 0]) + nu * mean([beta[label] for label in labels])

    equals(objective, slow)


def test_margin_moves_its_radius_by_the_balance_of_pulls_and_pushes() -> None:
    for objective in (Margin().double(), Margin(classes=4, nu=0.1, average="triplets").double()):
        embeddings, labels = random_batch(3)
        (found,) = torch.autograd.grad(objective(embeddings, labels), objective.beta)
        with torch.no_grad():
            step = torch.zeros_like(objective.beta)
            step.view(-1)[0] = 1e-7
            up, down = (
                margin(
                    embeddings,
                    labels,
                    objective.beta + sign * step,
                    alpha=objective.rule.alpha,
                    nu=objective.nu,
                    average=objective.rule.average,
                )
                for sign in (1, -1)
            )
        assert found.view(-1)[0].item() == pytest.approx((up - down).item() / 2e-7, rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"alpha": 5.0, "beta": 3.0, "margin": 0.2, "negative_cost": 2.0}])
def test_binomial_deviance_is_logistic_on_cosines(options: dict[str, float]) -> None:
    given = {"alpha": 25.0, "beta": 2.0, "margin": 0.5, "negative_cost": 1.0, **options}
    alpha, beta, middle, cost = given.values()

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        costs = []
        for positives, negatives in rows(units(embeddings), labels):
            if positives and negatives:
                pull = mean([log1p(exp(-beta * (s - middle))) for s in positives])
                costs.append(pull + cost * mean([log1p(exp(alpha * (s - middle))) for s in negatives]))
        return mean_or_zero(costs)

    equals(BinomialDeviance(**options), slow)


@pytest.mark.parametrize("average", ["kinds", "pairs"])
@pytest.mark.parametrize(("near", "far"), [(0.0, 2.5), (0.7, 1.5)])
def test_signal_to_noise_is_contrastive_on_ratios_of_variances(average: str, near: float, far: float) -> None:
    def variance(a: Row) -> float:
        return mean([(v - mean(a)) ** 2 for v in a])

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, pulls, pushes = embeddings.tolist(), [], []
        for a, j in product(range(len(x)), repeat=2):
            ratio = variance([v - w for v, w in zip(x[a], x[j], strict=True)]) / variance(x[a])
            if labels[a] != labels[j]:
                pushes.append(max(0.0, far - ratio))
            elif a != j:
                pulls.append(max(0.0, ratio - near))
        value = mean(pulls + pushes) if average == "pairs" else mean_or_zero(pulls) + mean_or_zero(pushes)
        return value + 0.02 * mean([abs(sum(row)) for row in x])

    equals(SignalToNoise(positive_margin=near, negative_margin=far, average=average, penalty=0.02), slow)


def test_an_item_without_signal_is_no_anchor_of_signal_to_noise() -> None:
    embeddings, labels = random_batch(0)
    quiet = embeddings.clone()
    quiet[4] = 3.0  # constant over the axes
    faint = quiet.clone()
    faint[4, 0] += 1e-4
    kept = signal_to_noise(quiet, labels, penalty=0.0)
    assert signal_to_noise(faint, labels, penalty=0.0).item() == pytest.approx(kept.item(), rel=1e-3)


@pytest.mark.parametrize("scale", [64.0, 5.0])
@pytest.mark.parametrize("variance", [0.0, 0.7])
def test_tuplet_margin_eases_positives_by_an_angle(scale: float, variance: float) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        costs, near, far = [], [], []
        for positives, negatives in rows(units(embeddings), labels):
            near, far = near + positives, far + negatives
            for s in positives if negatives else []:
                eased = cos(acos(s) - radians(10))
                costs.append(log1p(sum(exp(scale * (n - eased)) for n in negatives)))
        value = mean_or_zero(costs)
        if variance and near:
            value += variance * mean([max(0.0, 0.95 * mean(near) - s) ** 2 for s in near])
        if variance and far:
            value += variance * mean([max(0.0, s - 1.05 * mean(far)) ** 2 for s in far])
        return value

    equals(TupletMargin(scale=scale, margin_degrees=10.0, variance=variance, epsilon=0.05), slow)


def test_sigmoid_asks_about_each_pair_alone() -> None:
    objective = Sigmoid(scale=4.0, bias=-1.5).double()

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, cost = units(embeddings), 0.0
        for a, j in product(range(len(x)), repeat=2):
            if a != j:
                z = 1 if labels[a] == labels[j] else -1
                cost -= log(1 / (1 + exp(-z * (4.0 * dot(x[a], x[j]) - 1.5))))
        return cost / len(x)

    objective.log_scale.data.fill_(log(4.0))
    equals(objective, slow)


def test_sigmoid_learns_its_scale_and_bias() -> None:
    embeddings, labels = random_batch(1)
    start = torch.tensor([log(10.0), -10.0], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(sigmoid(embeddings, labels, *start), start)
    for place in range(2):
        step = 1e-6 * torch.eye(2, dtype=torch.float64)[place]
        up, down = (sigmoid(embeddings, labels, *(start.detach() + sign * step)) for sign in (1, -1))
        assert found[place].item() == pytest.approx((up - down).item() / 2e-6, rel=1e-6)


def normalised(objective: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: objective(nn.functional.normalize(x), y)


def with_variance(x: Tensor, y: Tensor) -> Tensor:
    return peer.TupletMarginLoss()(x, y) + 0.5 * peer.IntraPairVarianceLoss()(x, y)


def learned_margin(nu: float) -> nn.Module:
    return peer.MarginLoss(nu=nu, learn_beta=True).double()


PEERS = {
    "circle": (Circle(), peer.CircleLoss()),
    "circle for faces": (Circle(margin=0.25, gamma=256.0), peer.CircleLoss(m=0.25, gamma=256)),
    "margin": (Margin(average="triplets").double(), learned_margin(0)),
    "margin with nu": (Margin(average="triplets", nu=0.1).double(), learned_margin(0.1)),
    "signal to noise": (
        normalised(SignalToNoise(penalty=0.0)),
        peer.SignalToNoiseRatioContrastiveLoss(reducer=MeanReducer()),
    ),
    "tuplet margin": (TupletMargin(), peer.TupletMarginLoss()),
    "tuplet margin with variance": (TupletMargin(variance=0.5), with_variance),
}


@pytest.mark.parametrize("name", PEERS)
def test_equals_its_peer(name: str) -> None:
    for seed in range(5):
        embeddings = random_batch(seed, items=24, dim=8)[0].requires_grad_()
        labels = torch.arange(24) % 6
        (value, gradient), (expected, expected_gradient) = (
            (found.detach(), torch.autograd.grad(found, embeddings)[0])
            for found in (objective(embeddings, labels) for objective in PEERS[name])
        )
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_tuplet_margin_stays_finite_with_duplicates() -> None:
    """The peer's arc cosine has no finite gradient there."""
    for seed in range(20):
        embeddings, labels = random_batch(seed)
        for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            twins = torch.cat([embeddings, embeddings, -embeddings, 3 * embeddings]).to(dtype).requires_grad_()
            tuplet_margin(twins, labels.repeat(4), variance=0.5).backward()
            assert twins.grad is not None
            assert twins.grad.isfinite().all()


def test_equal_positives_cost_what_the_slack_leaves() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    value = tuplet_margin(x, torch.tensor([0, 0, 1]), scale=10.0, margin_degrees=20.0).item()
    assert value == pytest.approx(log1p(exp(-10 * cos(radians(20)))), rel=1e-12)


def test_one_positive_pair_is_enough() -> None:
    """The peer takes a single pair of a kind for none."""
    x, labels = torch.eye(3, dtype=torch.float64)[:, :2] + 0.1, torch.tensor([0, 0, 1])
    for objective in (Circle(), Margin().double(), BinomialDeviance(), SignalToNoise(), TupletMargin(), Sigmoid()):
        assert objective(x, labels) > 0


def test_the_radius_returns_with_the_state() -> None:
    """The peer saves a learned radius only."""
    assert set(Margin().state_dict()) == set(Margin(classes=3).state_dict()) == {"beta"}
    assert Margin(classes=3).beta.shape == (3,)
    assert set(Sigmoid().state_dict()) == {"log_scale", "bias"}
    assert Sigmoid().log_scale.item() == pytest.approx(log(10))


def hard_batches(case: Case) -> list[tuple[Tensor, Tensor]]:
    """Even classes; one of 60 % among small and lone ones; lone ones only; one class."""
    source = torch.Generator().manual_seed(4)
    lopsided = torch.cat([torch.zeros(24), torch.arange(16) // 3 + 1]).long()
    kinds = [torch.arange(40) // 4, lopsided, torch.arange(40), torch.zeros(40).long()]
    order = torch.randperm(40, generator=source)
    embeddings = torch.randn(40, 6, generator=source, dtype=torch.float64)
    embeddings[7] = embeddings[8]
    return [(embeddings, (labels % 5 if case.learns_classes else labels)[order]) for labels in kinds]


def outcome(case: Case, embeddings: Tensor, labels: Tensor) -> list[Tensor]:
    objective, x = case.make().to(embeddings.dtype), embeddings.clone().requires_grad_()
    value = objective(x, labels)
    value.backward()
    gradients = [part.grad for part in objective.parameters() if part.grad is not None]
    assert x.grad is not None
    return [value.detach(), x.grad, *gradients]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_the_gradient_by_hand_is_autograds(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    for embeddings, labels in hard_batches(case):
        with row_engine(plain=True):
            slow = outcome(case, embeddings.to(dtype), labels)
        for settings in ({}, {"block_bytes": 1000}):
            with row_engine(**settings):
                fast = outcome(case, embeddings.to(dtype), labels)
            for left, right in zip(fast, slow, strict=True):
                size = right.abs().max().clamp_min(1)
                torch.testing.assert_close(left / size, right / size, rtol=tolerance, atol=tolerance)


FUNCTIONS = {
    "circle": (circle, {"margin": 0.2, "gamma": 9.0, "detach": False}),
    "binomial_deviance": (binomial_deviance, {"alpha": 3.0, "beta": 1.0, "margin": 0.1, "negative_cost": 0.5}),
    "signal_to_noise": (
        signal_to_noise,
        {"positive_margin": 0.1, "negative_margin": 2.0, "average": "pairs", "penalty": 0.5},
    ),
    "tuplet_margin": (tuplet_margin, {"scale": 7.0, "margin_degrees": 3.0, "variance": 2.0, "epsilon": 0.1}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_module_hands_every_option_to_its_function(name: str) -> None:
    function, options = FUNCTIONS[name]
    module = {"circle": Circle, "binomial_deviance": BinomialDeviance, "signal_to_noise": SignalToNoise}
    made = module.get(name, TupletMargin)(**options)
    assert torch.equal(made(*random_batch(5)), function(*random_batch(5), **options))


WRONG = (
    (lambda: Circle(margin=1.5), "circle: margin must be at least 0 and at most 1, not 1.5"),
    (lambda: Circle(gamma=0.0), "gamma must be more than 0"),
    (lambda: Margin(alpha=-0.1), "margin: alpha must be at least 0"),
    (lambda: Margin(beta=3.0), "beta must be at least 0 and at most 2"),
    (lambda: Margin(nu=-1.0), "nu must be at least 0"),
    (lambda: Margin(classes=1), "classes must be a whole number of at least 2"),
    (lambda: margin(*random_batch(0), torch.tensor(1.2), nu=-1.0), "nu must be at least 0"),
    (lambda: margin(*random_batch(0), torch.ones(4, 2)), r"one number or one per class, not \(4, 2\)"),
    (lambda: BinomialDeviance(alpha=0.0), "binomial_deviance: alpha must be more than 0"),
    (lambda: BinomialDeviance(beta=0.0), "beta must be more than 0"),
    (lambda: BinomialDeviance(margin=2.0), "margin must be at least -1 and at most 1"),
    (lambda: BinomialDeviance(negative_cost=-1.0), "negative_cost must be at least 0"),
    (lambda: SignalToNoise(positive_margin=-1.0), "signal_to_noise: positive_margin must be at least 0"),
    (lambda: SignalToNoise(negative_margin=0.0), "negative_margin must be more than 0"),
    (lambda: SignalToNoise(penalty=-1.0), "penalty must be at least 0"),
    (lambda: signal_to_noise(*random_batch(0), penalty=float("nan")), "penalty must be a finite number"),
    (lambda: TupletMargin(scale=0.0), "tuplet_margin: scale must be more than 0"),
    (lambda: TupletMargin(margin_degrees=91.0), "margin_degrees must be at least 0 and at most 90"),
    (lambda: TupletMargin(variance=-1.0), "variance must be at least 0"),
    (lambda: TupletMargin(epsilon=1.0), "epsilon must be at least 0 and less than 1"),
    (lambda: tuplet_margin(*random_batch(0), variance=-1.0), "variance must be at least 0"),
    (lambda: Sigmoid(scale=0.0), "sigmoid: scale must be more than 0"),
    (lambda: Sigmoid(bias=float("inf")), "bias must be a finite number"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_suggests_the_option_that_was_meant() -> None:
    with without_shape_checks():
        with pytest.raises(UnknownNameError, match="Did you mean 'triplets'"):
            Margin(average="triplet")
        with pytest.raises(UnknownNameError, match="Did you mean 'kinds'"):
            SignalToNoise(average="kind")


def test_margin_per_class_names_labels_out_of_range() -> None:
    with pytest.raises(BatchError, match="labels must lie in 0 … 2"):
        Margin(classes=3)(torch.eye(4), torch.tensor([0, 1, 2, 3]))


def test_the_catalogue_explains_every_option() -> None:
    for info in LOSSES.values():
        kind = getattr(accord.losses, info.path.rpartition(".")[2])
        known = set(inspect.signature(kind).parameters) - {"generator"}
        assert set(info.options) == known
        for preset in info.presets.values():
            kind(**preset)


MINABLE = (
    Circle(),
    Margin().double(),
    Margin(classes=4, average="triplets").double(),
    BinomialDeviance(),
    SignalToNoise(average="pairs", penalty=0.0),
    TupletMargin(),
    Sigmoid().double(),
)


@pytest.mark.parametrize("objective", MINABLE, ids=lambda objective: type(objective).__name__)
def test_mined_it_has_the_gradient_of_plain_autograd(objective: nn.Module) -> None:
    embeddings, labels = random_batch(1)
    value = Mined(objective, HardPairs())(embeddings.requires_grad_(), labels)
    (gradient,) = torch.autograd.grad(value, embeddings)
    with row_engine(plain=True):
        (expected,) = torch.autograd.grad(Mined(objective, HardPairs())(embeddings, labels), embeddings)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_refuses_to_be_mined_where_all_pairs_are_needed() -> None:
    with pytest.raises(UsageError, match="TupletMargin can't be wrapped"):
        Mined(TupletMargin(variance=0.5), AllPairs())
    with pytest.raises(UsageError, match="average='kinds' can't be mined"):
        Mined(SignalToNoise(), AllPairs())(*random_batch(0))


@pytest.mark.parametrize("items", [30, 700])
def test_pairs_shown_once_cost_what_pairs_shown_twice_do(items: int) -> None:
    for objective in (Margin().double(), TupletMargin(variance=1.0)):
        embeddings = random_batch(0, items=items, dim=8)[0].requires_grad_()
        labels, outcomes = torch.arange(items) % (items // 3), []
        for plain in (False, True):
            with row_engine(plain=plain, dense_up_to=0):
                value = objective(embeddings, labels)
                outcomes.append((value.detach(), *torch.autograd.grad(value, [embeddings, *objective.parameters()])))
        torch.testing.assert_close(outcomes[0], outcomes[1], rtol=1e-9, atol=1e-12)

"""Weightings that learn, follow or draw: each against a slow loop from its paper, and what they do in corners."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from accord.ensembles import (
    DynamicAverage,
    Ensemble,
    GradNorm,
    Guided,
    PublishedWeights,
    RandomWeights,
    Scaled,
    UncertaintyWeights,
    Weighting,
    dynamic_average,
    published_total,
    test_weights,
    uncertainty_total,
)
from accord.errors import UnknownNameError, UsageError
from accord.losses import NPair

MAKERS: dict[str, Callable[..., nn.Module]] = {
    "published": PublishedWeights,
    "uncertainty": UncertaintyWeights,
    "dynamic_average": lambda prior=None: DynamicAverage(prior, steps_per_epoch=2),
    "grad_norm": GradNorm,
    "random": RandomWeights,
}
each = pytest.mark.parametrize("name", MAKERS)


def bound(weighting: nn.Module, count: int = 3) -> nn.Module:
    weighting.bind([f"m{i}" for i in range(count)])
    return weighting.double()


def losses(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def history(steps: int = 7, members: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    scales = torch.tensor([0.1, 1.0, 20.0, 3.0], dtype=torch.float64)[:members]
    return [scales * (0.5 + torch.rand(members, generator=generator, dtype=torch.float64)) for _ in range(steps)]


# --- all of them


@each
def test_is_a_weighting_whose_shares_sum_to_one(name: str) -> None:
    weighting = bound(MAKERS[name]({"m0": 1.0, "m1": 2.0, "m2": 5.0}))
    assert isinstance(weighting, Weighting)
    assert weighting.shares().tolist() == pytest.approx([1 / 8, 1 / 4, 5 / 8])


@each
def test_the_gradient_of_each_loss_is_its_multiplier(name: str) -> None:
    weighting = bound(MAKERS[name]())
    for values in history():
        values.requires_grad_()
        (gradient,) = torch.autograd.grad(weighting(values), values)
        torch.testing.assert_close(gradient, weighting.multipliers())


@each
def test_a_resumed_weighting_goes_on_bit_equal(name: str) -> None:
    first, second = bound(MAKERS[name]()), bound(MAKERS[name]())
    for values in history():
        first(values)
    second.load_state_dict(first.state_dict())
    for values in history():
        assert torch.equal(first(values), second(values))
        assert torch.equal(first.multipliers(), second.multipliers())


@each
def test_state_rests_in_evaluation_mode(name: str) -> None:
    weighting = bound(MAKERS[name]())
    weighting(history()[0])
    before = {key: value.clone() for key, value in weighting.state_dict().items()}
    weighting.eval()(history()[1])
    assert all(torch.equal(before[key], value) for key, value in weighting.state_dict().items())


@each
def test_starts_before_any_loss_was_seen(name: str) -> None:
    weighting = bound(MAKERS[name]()).eval()
    assert weighting.multipliers().isfinite().all()
    assert weighting(losses(1.0, 2.0, 3.0)).isfinite()


@each
def test_zero_losses_leave_everything_finite(name: str) -> None:
    weighting = bound(MAKERS[name]())
    for values in [losses(0.0, 1.0, 2.0), losses(0.0, 0.0, 0.0), losses(0.0, 1.0, 0.0), *history(3)]:
        assert weighting(values).isfinite()
        assert weighting.multipliers().isfinite().all()


@each
def test_refuses_priors_that_do_not_fit(name: str) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'm0'"):
        bound(MAKERS[name]({"m00": 1.0}))
    with pytest.raises(UsageError, match="has no prior for m1, m2"):
        bound(MAKERS[name]({"m0": 1.0}))
    with pytest.raises(UsageError, match="the prior of 'm0' must be"):
        MAKERS[name]({"m0": 0.0})


@each
def test_serves_one_ensemble(name: str) -> None:
    weighting = bound(MAKERS[name]())
    with pytest.raises(UsageError, match="already serves an ensemble"):
        bound(weighting)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PublishedWeights(eta=0.0), "eta must be more than 0"),
        (lambda: UncertaintyWeights(start=math.nan), "start must be a finite number"),
        (lambda: DynamicAverage(steps_per_epoch=0), "steps_per_epoch must be a whole number"),
        (lambda: DynamicAverage(steps_per_epoch=1, temperature=0.0), "temperature must be more than 0"),
        (lambda: GradNorm(alpha=-1.0), "alpha must be at least 0"),
        (lambda: RandomWeights(seed=-1), "seed must be a whole number"),
    ],
)
def test_refuses_options_out_of_range(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_only_published_weights_know_scales_and_only_grad_norm_wants_lengths() -> None:
    weightings = {name: bound(make()) for name, make in MAKERS.items()}
    assert [name for name, made in weightings.items() if isinstance(made, Scaled)] == ["published"]
    assert [name for name, made in weightings.items() if isinstance(made, Guided)] == ["grad_norm"]


# --- published


def slow_published(steps: Sequence[Tensor], c: Sequence[float], eta: float) -> float:
    """The total of the last step, from the formulas: means over all steps, then eq. 11."""
    m = len(c)
    means = [sum(step[j].item() for step in steps) / len(steps) for j in range(m)]
    common = sum(means) / m
    weights = [c[j] ** 2 + 1 / (4 * m) for j in range(m)]
    normalised = [common / means[j] * steps[-1][j].item() for j in range(m)]
    return sum(w * value for w, value in zip(weights, normalised, strict=True)) + eta * (sum(weights) - 1) ** 2


@pytest.mark.parametrize("guard", [True, False])
def test_published_equals_a_slow_loop(guard: bool) -> None:
    weighting = bound(PublishedWeights({"m0": 2.0, "m1": 1.0, "m2": 3.0}, guard=guard))
    with torch.no_grad():
        weighting.loss_weights.add_(torch.tensor([0.01, -0.02, 0.03]))
    steps = history()
    for count in range(1, len(steps) + 1):
        total = weighting(steps[count - 1])
        slow = slow_published(steps[:count], weighting.loss_weights.tolist(), 10_000.0)
        assert total.item() == pytest.approx(slow, rel=1e-12)


def test_published_starts_at_the_prior_with_no_penalty() -> None:
    weighting = PublishedWeights({"a": 2.0, "b": 1.0, "c": 2.0, "d": 3.0})
    weighting.bind(["a", "b", "c", "d"])
    weighting = weighting.double()
    assert weighting.shares().tolist() == pytest.approx([0.25, 0.125, 0.25, 0.375])
    assert published_total(torch.zeros(4).double(), weighting.loss_weights).item() == pytest.approx(0, abs=1e-8)


def test_published_has_the_gradient_of_its_value() -> None:
    values, c = history(1, 4)[0].requires_grad_(), losses(0.4, 0.2, 0.5, 0.6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: published_total(x, y, eta=100.0), (values, c))


def test_published_refuses_a_prior_below_its_floor() -> None:
    with pytest.raises(UsageError, match=r"1/\(4m\) = 0.0833 of the sum, but the prior of m0 \(0.0476\) is"):
        bound(PublishedWeights({"m0": 0.1, "m1": 1.0, "m2": 1.0}))


def test_published_is_frozen_at_exactly_its_floor() -> None:
    weighting = bound(PublishedWeights({"m0": 1.0, "m1": 5.0, "m2": 6.0}))  # 1/12 = 1/(4m)
    weighting(losses(1.0, 2.0, 3.0))
    weighting(losses(0.5, 2.0, 3.0)).backward()
    assert weighting.loss_weights.grad[0] == 0
    assert weighting.loss_weights.grad[1:].ne(0).all()


def follow(weighting: nn.Module, values: Tensor, *, steps: int, rate: float) -> Tensor:
    """Plain gradient descent on the weights alone, the losses staying as they are."""
    optimizer = torch.optim.SGD(weighting.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        weighting(values).backward()
        optimizer.step()
    return weighting.loss_weights.detach().square() + 1 / (4 * len(values))


@pytest.mark.parametrize("eta", [100.0, 10_000.0])
def test_published_gives_all_free_weight_to_the_smallest_normalised_loss(eta: float) -> None:
    weighting = PublishedWeights({"a": 2.0, "b": 1.0, "c": 2.0, "d": 3.0}, eta=eta)
    weighting.bind(["a", "b", "c", "d"])
    weighting = weighting.double()
    weighting(torch.full((4,), eta / 50).double())  # so all scales are the same, and stay so
    values = losses(1.6, 1.0, 1.8, 2.0) * eta / 50
    weights = follow(weighting.eval(), values, steps=2200, rate=0.2 / eta)
    assert weights.sum().item() == pytest.approx(1 - values.min().item() / (2 * eta), abs=1e-6)
    slack = values.min().item() / (2 * eta)
    assert weights.tolist() == pytest.approx([1 / 16, 13 / 16 - slack, 1 / 16, 1 / 16], abs=1e-4)


def drift(*rates: float) -> float:
    """How far 300 steps move any share of the prior, while loss j falls by `rates[j]` in each."""
    weighting = bound(PublishedWeights({"m0": 2.0, "m1": 1.0, "m2": 3.0}))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=1e-6)
    for step in range(300):
        optimizer.zero_grad()
        weighting(losses(1.0, 10.0, 0.1) * losses(*rates) ** step).backward()
        optimizer.step()
    return float((weighting.shares() - losses(1 / 3, 1 / 6, 1 / 2)).abs().max())


def test_published_stays_at_the_prior_while_all_losses_fall_alike() -> None:
    # the same normalised loss for all: only their sum gives way, by the slack of the penalty
    assert drift(0.99, 0.99, 0.99) < 5e-6
    assert drift(0.99, 0.5, 0.99) > 1e-5


def test_published_weighs_the_embedding_by_what_was_learned() -> None:
    weighting = PublishedWeights()
    ensemble = Ensemble({"a": NPair(), "b": NPair(), "c": NPair()}, weighting=weighting)
    weighting.loss_weights.data = torch.tensor([0.1, 0.5, 0.8])
    weights = [c**2 + 1 / 12 for c in (0.1, 0.5, 0.8)]
    expected = {name: weight / sum(weights) for name, weight in zip("abc", weights, strict=True)}
    assert {name: share.item() for name, share in test_weights(ensemble).items()} == pytest.approx(expected)


def test_published_guard_takes_sizes_of_losses_that_are_not_zero() -> None:
    weighting = bound(PublishedWeights())
    for values in (losses(1.0, 0.0, -4.0), losses(3.0, 0.0, -2.0), losses(2.0, 5.0, -3.0)):
        weighting(values)
    assert weighting.scales().tolist() == pytest.approx([2.0, 5.0, 3.0])
    assert weighting.multipliers().tolist() == pytest.approx([10 / 3 / 3 / 2, 10 / 3 / 3 / 5, 10 / 3 / 3 / 3])


def test_published_without_the_guard_divides_by_zero_as_its_formula_does() -> None:
    weighting = bound(PublishedWeights(guard=False))
    assert not weighting(losses(1.0, 0.0, 2.0)).isfinite()


# --- uncertainty


def test_uncertainty_equals_a_slow_loop() -> None:
    s = [0.3, -0.5, 2.0]
    for values in history():
        slow = sum(0.5 * (math.exp(-a) * value + a) for a, value in zip(s, values.tolist(), strict=True))
        assert uncertainty_total(values, losses(*s)).item() == pytest.approx(slow, rel=1e-12)


def test_uncertainty_has_the_gradient_of_its_value() -> None:
    values, s = history(1)[0].requires_grad_(), losses(0.3, -0.5, 2.0).requires_grad_()
    gradients = torch.autograd.grad(uncertainty_total(values, s), (values, s))
    torch.testing.assert_close(gradients[0], torch.exp(-s.detach()) / 2)
    torch.testing.assert_close(gradients[1], (1 - torch.exp(-s.detach()) * values.detach()) / 2)
    assert torch.autograd.gradcheck(lambda x, y: uncertainty_total(x, y, factors=losses(1, 2, 3)), (values, s))


def test_uncertainty_ends_at_half_over_the_loss() -> None:
    weighting, values = bound(UncertaintyWeights()), losses(0.2, 3.0, 40.0)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=0.05)
    for _ in range(1500):
        optimizer.zero_grad()
        weighting(values).backward()
        optimizer.step()
    torch.testing.assert_close(weighting.multipliers(), 1 / (2 * values), rtol=1e-3, atol=0)


def test_uncertainty_of_a_negative_loss_follows_its_size() -> None:
    values, s = losses(-3.0, 2.0, 0.0).requires_grad_(), losses(0.5, 0.5, 0.5).requires_grad_()
    to_losses, to_s = torch.autograd.grad(uncertainty_total(values, s), (values, s))
    torch.testing.assert_close(to_losses, torch.exp(-s.detach()) / 2)
    inverse = math.exp(-0.5)
    assert to_s.tolist() == pytest.approx([(1 - inverse * 3) / 2, (1 - inverse * 2) / 2, 0.0])


# --- dynamic average


def test_dynamic_average_equals_a_slow_loop() -> None:
    weighting = bound(DynamicAverage(steps_per_epoch=2))
    steps, m = history(9), 3
    means = [[(steps[i][j] + steps[i + 1][j]).item() / 2 for j in range(m)] for i in range(0, 8, 2)]
    for number, values in enumerate(steps):
        total, epoch, weights = weighting(values), number // 2, [1.0] * m
        if epoch >= 2:
            powers = [math.exp(means[epoch - 1][j] / means[epoch - 2][j] / 2) for j in range(m)]
            weights = [m * power / sum(powers) for power in powers]
        assert weighting.multipliers().tolist() == pytest.approx(weights, rel=1e-12), number
        assert total.item() == pytest.approx(sum(w * v for w, v in zip(weights, values.tolist(), strict=True)))


def test_dynamic_average_gives_more_to_what_fell_less_and_nothing_to_signs() -> None:
    weights = dynamic_average(losses(0.9, 0.1, -1.0, 0.0), losses(1.0, 1.0, -2.0, 1.0))
    assert weights.sum().item() == pytest.approx(4)
    assert weights[0] > weights[1]
    assert weights[2].item() == weights[3].item() == pytest.approx(weights[0].item() * math.exp((1 - 0.9) / 2))


# --- random


def test_random_weights_are_a_fresh_softmax_of_normal_numbers() -> None:
    weighting, other = bound(RandomWeights(seed=1)), bound(RandomWeights(seed=2))
    drawn = []
    for _ in range(2000):
        weighting(losses(1.0, 2.0, 3.0))
        drawn.append(weighting.multipliers())
    other(losses(1.0, 2.0, 3.0))
    table = torch.stack(drawn)
    torch.testing.assert_close(table.sum(dim=1), torch.ones(2000).double())
    assert len({tuple(row) for row in table.tolist()}) == 2000
    assert not torch.equal(other.multipliers(), table[0])
    # differences of logs are differences of normal numbers: mean 0, variance 2
    gaps = (table[:, 0] / table[:, 1]).log()
    assert abs(gaps.mean().item()) < 4 * math.sqrt(2 / 2000)
    assert gaps.var().item() == pytest.approx(2, rel=0.15)


def test_random_weights_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    bound(RandomWeights())(losses(1.0, 2.0, 3.0))
    assert torch.equal(before, torch.get_rng_state())


def test_a_prior_multiplies_the_weights_and_keeps_their_mean() -> None:
    plain, tilted = bound(RandomWeights()), bound(RandomWeights({"m0": 1.0, "m1": 1.0, "m2": 4.0}))
    for weighting in (plain, tilted):
        weighting(losses(1.0, 2.0, 3.0))
    torch.testing.assert_close(tilted.multipliers(), plain.multipliers() * losses(0.5, 0.5, 2.0))

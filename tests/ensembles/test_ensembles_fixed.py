"""Fixed weights: shares hold whatever the losses' scales, and the running scales survive zero, sign and resume."""

import pytest
import torch
from torch import Tensor

from accord.ensembles import FixedWeights, Weighting


def bound(count: int = 2, **options: object) -> FixedWeights:
    weighting = FixedWeights(**options)
    weighting.bind([f"m{i}" for i in range(count)])
    return weighting


def losses(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_is_a_weighting() -> None:
    assert isinstance(FixedWeights(), Weighting)


def test_first_call_worked_by_hand() -> None:
    weighting = bound(weights={"m0": 3.0, "m1": 1.0})
    # shares 3/4 and 1/4; the common scale is 3/4 · 2 + 1/4 · 8 = 3.5; each gives its share of that
    assert weighting(losses(2.0, 8.0)).item() == pytest.approx(3.5)
    assert weighting.multipliers().tolist() == pytest.approx([0.75 * 3.5 / 2, 0.25 * 3.5 / 8])


def test_scales_equal_a_slow_running_mean() -> None:
    weighting = bound(momentum=0.9)
    history = [(1.0, 10.0), (2.0, 30.0), (0.5, 20.0)]
    for values in history:
        total = weighting(losses(*values))
    before = history[:-1]  # the scales are known before the losses
    ages = [0.9 ** (len(before) - 1 - i) for i in range(len(before))]
    scales = [sum(a * v[j] for a, v in zip(ages, before, strict=True)) / sum(ages) for j in range(2)]
    common = sum(scales) / 2
    expected = sum(0.5 * common / s * v for s, v in zip(scales, history[-1], strict=True))
    assert total.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ratio", [1e-8, 1e-3, 1.0, 1e6])
def test_members_contribute_their_shares_whatever_their_scales(ratio: float) -> None:
    weighting = bound(floor=1e-12)
    weighting(losses(1.0, ratio))
    first, second = (weighting.multipliers() * losses(1.0, ratio)).tolist()
    assert first == pytest.approx(second, rel=1e-6)


def test_total_follows_the_scale_of_all_losses() -> None:
    small, large = bound()(losses(1.0, 5.0)), bound()(losses(10.0, 50.0))
    assert large.item() == pytest.approx(10 * small.item(), rel=1e-6)


def test_a_vanishing_loss_is_amplified_within_bounds() -> None:
    weighting = bound(floor=0.05)
    weighting(losses(1.0, 1e-9))
    assert weighting.multipliers()[1].item() <= 0.5 / 0.05 * (1 + 1e-6)


def test_a_zero_loss_leaves_its_scale_alone() -> None:
    weighting = bound(momentum=0.5)
    weighting(losses(1.0, 4.0))
    before = weighting.multipliers().clone()
    for _ in range(50):
        weighting(losses(1.0, 0.0))
    torch.testing.assert_close(weighting.multipliers(), before)


def test_a_loss_that_was_always_zero_counts_at_the_common_scale() -> None:
    weighting = bound()
    weighting(losses(3.0, 0.0))
    assert weighting.multipliers().tolist() == pytest.approx([0.5, 0.5])


def test_all_zero_losses_cost_zero() -> None:
    weighting = bound()
    assert weighting(losses(0.0, 0.0)).item() == 0
    assert weighting.multipliers().tolist() == [0.5, 0.5]


def test_a_negative_loss_keeps_its_direction() -> None:
    weighting = bound()
    values = losses(1.0, -4.0).requires_grad_()
    (gradient,) = torch.autograd.grad(weighting(values), values)
    assert gradient.tolist() == pytest.approx([0.5 * 2.5, 0.5 * 2.5 / 4])


def test_a_loss_that_is_not_finite_leaves_the_scales_alone() -> None:
    weighting = bound()
    weighting(losses(1.0, 2.0))
    before = weighting.multipliers().clone()
    weighting(losses(float("nan"), float("inf")))
    torch.testing.assert_close(weighting.multipliers(), before)


def test_scales_are_constants_for_the_gradient() -> None:
    weighting, values = bound(), losses(1.0, 2.0).requires_grad_()
    (gradient,) = torch.autograd.grad(weighting(values), values)
    torch.testing.assert_close(gradient, weighting.multipliers().double())


def test_scales_rest_in_evaluation_mode() -> None:
    weighting = bound()
    weighting(losses(1.0, 2.0))
    before = weighting.multipliers().clone()
    weighting.eval()(losses(100.0, 1.0))
    assert torch.equal(weighting.multipliers(), before)


def test_without_normalisation_the_weights_are_plain_factors() -> None:
    weighting = bound(weights={"m0": 2.0, "m1": 10.0}, normalise=False)
    assert weighting(losses(1.0, 3.0)).item() == 32
    assert weighting.shares().tolist() == pytest.approx([1 / 6, 5 / 6])


def test_a_resumed_weighting_goes_on_bit_equal() -> None:
    first, second = bound(), bound()
    for step in range(5):
        first(losses(1.0 + step, 2.0))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(losses(3.0, 1.0)), second(losses(3.0, 1.0)))

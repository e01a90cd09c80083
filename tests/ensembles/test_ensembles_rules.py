"""Rules that make one gradient of many: slow references in float64, what each paper promises, and the corners."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor

from accord.ensembles import _cagrad, _nash_mtl, aligned_mtl, cagrad, nash_mtl, pcgrad
from accord.ensembles._aligned_mtl import alignment
from accord.ensembles._cagrad import dual_optimum
from accord.ensembles._nash_mtl import nash_weights
from accord.errors import UsageError

RULES: dict[str, Callable[..., Tensor]] = {
    "pcgrad": pcgrad,
    "cagrad": cagrad,
    "nash_mtl": nash_mtl,
    "aligned_mtl": aligned_mtl,
}
each = pytest.mark.parametrize("name", RULES)
sizes = pytest.mark.parametrize("members", [2, 3, 4, 5, 6])
SEEDS = range(8)


def gradients(members: int, seed: int, numbers: int = 40, spread: float = 1.0) -> Tensor:
    """Random ones; lengths differ by up to e^spread both ways."""
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(members, numbers, generator=generator, dtype=torch.float64)
    lengths = torch.randn(members, 1, generator=generator, dtype=torch.float64).mul(spread).exp()
    return table * lengths


# --- all of them


@each
@sizes
def test_is_the_same_whatever_space_the_gradients_lie_in(name: str, members: int) -> None:
    table = gradients(members, 0)
    turned = torch.linalg.qr(gradients(40, 1)).Q
    torch.testing.assert_close(RULES[name](table @ turned), RULES[name](table) @ turned)


@each
@sizes
def test_scales_with_all_gradients(name: str, members: int) -> None:
    table = gradients(members, 2)
    for factor in (1e-6, 1024.0):
        torch.testing.assert_close(RULES[name](table * factor), RULES[name](table) * factor, atol=0, rtol=1e-6)


@each
def test_a_member_without_a_gradient_changes_nothing(name: str) -> None:
    table = gradients(3, 3)
    more = torch.cat([table[:1], torch.zeros_like(table[:1]), table[1:]])
    torch.testing.assert_close(RULES[name](more), RULES[name](table), atol=1e-9, rtol=1e-7)


@each
def test_no_gradients_at_all_give_none(name: str) -> None:
    assert RULES[name](torch.zeros(4, 5)).eq(0).all()


@each
def test_one_gradient_is_handed_on(name: str) -> None:
    table = gradients(1, 4)
    torch.testing.assert_close(RULES[name](table), table[0])
    lone = torch.cat([torch.zeros_like(table), table, torch.zeros_like(table)])
    torch.testing.assert_close(RULES[name](lone), table[0])


@each
@sizes
def test_identical_gradients_keep_their_direction(name: str, members: int) -> None:
    one = gradients(1, 5)
    joined = RULES[name](one.repeat(members, 1))
    assert torch.cosine_similarity(joined, one[0], dim=0).item() == pytest.approx(1)
    assert joined.norm() > 0.1 * one.norm()


@each
def test_opposite_gradients_stay_finite(name: str) -> None:
    one = gradients(1, 6)
    assert RULES[name](torch.cat([one, -one])).norm() < 1e-3 * one.norm()
    assert RULES[name](torch.cat([one, -one, gradients(1, 7)])).isfinite().all()


@each
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_so(name: str, bad: float) -> None:
    table = gradients(3, 8)
    table[1, 4] = bad
    assert not RULES[name](table).isfinite().all()


@each
def test_keeps_the_number_format(name: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        table = gradients(3, 9).to(dtype)
        joined, exact = RULES[name](table), RULES[name](table.double())
        assert joined.dtype == dtype
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(joined.double(), exact, atol=rounding * exact.abs().max().item(), rtol=rounding)


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "nash_mtl"])  # aligned_mtl goes by the format's precision
def test_half_precision_keeps_what_is_left_of_gradients_that_nearly_cancel(name: str) -> None:
    one = gradients(1, 0, numbers=500, spread=0.0)
    table = torch.cat([one, 0.1 * gradients(1, 1, numbers=500, spread=0.0) - one]).bfloat16()
    torch.testing.assert_close(RULES[name](table), RULES[name](table.double()).bfloat16(), atol=0, rtol=0.01)
    apart = torch.diag(torch.tensor([0.001, 60_000.0])).half()
    assert RULES[name](apart).isfinite().all()


@each
@sizes
def test_goes_along_with_the_sum(name: str, members: int) -> None:
    for seed in SEEDS:
        table = gradients(members, seed, spread=0.5)
        assert table.sum(dim=0) @ RULES[name](table) > 0, seed


@pytest.mark.parametrize(
    ("name", "members"), [*product(("nash_mtl", "aligned_mtl"), range(2, 7)), ("pcgrad", 2), ("cagrad", 2)]
)
def test_serves_every_member_where_the_rule_says_so(name: str, members: int) -> None:
    for seed in SEEDS:
        table = gradients(members, seed, spread=0.5)
        assert (table @ RULES[name](table)).min() > 0, seed


# --- PCGrad


def slow_pcgrad(table: Tensor, order: Callable[[int], list[int]]) -> Tensor:
    """Algorithm 1 on the vectors themselves."""
    total = torch.zeros_like(table[0])
    for i in range(len(table)):
        own = table[i].clone()
        for j in order(len(table)):
            if j != i and own @ table[j] < 0:
                own -= own @ table[j] / (table[j] @ table[j]) * table[j]
        total += own
    return total


@sizes
@pytest.mark.parametrize("numbers", [3, 40])
def test_pcgrad_equals_a_slow_loop(members: int, numbers: int) -> None:
    for seed in SEEDS:
        table = gradients(members, seed, numbers)
        torch.testing.assert_close(pcgrad(table), slow_pcgrad(table, lambda m: list(range(m))))
        first, second = (torch.Generator().manual_seed(seed) for _ in range(2))
        shuffled = slow_pcgrad(table, lambda m, source=first: torch.randperm(m, generator=source).tolist())
        torch.testing.assert_close(pcgrad(table, generator=second), shuffled)


def test_pcgrad_without_a_conflict_is_the_sum() -> None:
    table = gradients(4, 0).abs()
    torch.testing.assert_close(pcgrad(table), table.sum(dim=0))


def test_pcgrad_of_two_keeps_of_each_what_the_other_does_not_mind() -> None:
    table = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    # g_1 loses its part along g_2, (1/2)·(−1, 1)·(−1), and g_2 its part along g_1
    torch.testing.assert_close(pcgrad(table), torch.tensor([0.5, 0.5]) + torch.tensor([0.0, 1.0]))


# --- CAGrad


def by_scipy(table: np.ndarray, c: float) -> float:
    """The least value of the dual, from many starts of a general solver."""
    linear, length = table.sum(axis=1), np.sqrt(table.sum())

    def value(w: np.ndarray) -> float:
        return float(linear @ w + c * length * np.sqrt(max(w @ table @ w, 0)))

    count = len(table)
    starts = [np.full(count, 1 / count), *(0.9 * np.eye(count) + 0.1 / count)]
    whole = LinearConstraint(np.ones((1, count)), 1, 1)
    found = [
        minimize(value, w, bounds=[(0, 1)] * count, constraints=whole, method="SLSQP", options={"ftol": 1e-14}).fun
        for w in starts
    ]
    return min(found)


@sizes
@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_cagrad_finds_the_optimum_of_its_dual(members: int, c: float) -> None:
    for seed in SEEDS:
        g = gradients(members, seed, numbers=members + 2)
        table = (g @ g.T).numpy()
        table /= table.diagonal().max()
        w = dual_optimum(table, c)
        assert w.min() > 0
        assert w.sum() == pytest.approx(1, abs=1e-9)
        value = table.sum(axis=1) @ w + c * np.sqrt(table.sum()) * np.sqrt(w @ table @ w)
        assert value == pytest.approx(by_scipy(table, c), abs=1e-6)


@sizes
def test_cagrad_stays_in_its_ball_and_improves_on_the_sum(members: int) -> None:
    for seed in SEEDS:
        g = gradients(members, seed, numbers=members + 2)
        joined, plain = cagrad(g, c=0.5), g.sum(dim=0)
        assert (joined - plain).norm().item() == pytest.approx(0.5 * plain.norm().item(), rel=1e-6)
        worst = (g @ joined).min()
        assert worst >= (g @ plain).min() - 1e-9
        generator = torch.Generator().manual_seed(seed)
        others = torch.randn(500, g.shape[1], generator=generator, dtype=torch.float64)
        others = plain + 0.5 * plain.norm() * others / others.norm(dim=1, keepdim=True)
        assert worst >= (others @ g.T).min(dim=1).values.max() - 1e-9


def test_cagrad_that_may_take_no_more_steps_ends_in_its_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cagrad, "_NEWTON", 1)
    g = gradients(3, 1)
    joined, plain = cagrad(g, c=0.5), g.sum(dim=0)
    assert float((joined - plain).norm()) <= 0.5 * float(plain.norm()) * (1 + 1e-9)


def test_cagrad_of_two_worked_by_hand() -> None:
    # orthogonal, of lengths 1 and 3: the short one is the worse served, so w is all its own where c is small enough
    g = torch.tensor([[1.0, 0.0], [0.0, 3.0]]).double()
    joined = cagrad(g, c=0.1)
    torch.testing.assert_close(joined, torch.tensor([1 + 0.1 * math.sqrt(10), 3.0]).double(), atol=1e-7, rtol=0)


def test_cagrad_without_freedom_is_the_sum() -> None:
    table = gradients(4, 1)
    torch.testing.assert_close(cagrad(table, c=0.0), table.sum(dim=0))


@pytest.mark.parametrize("c", [-0.1, 1.0, math.nan])
def test_cagrad_refuses_a_radius_out_of_range(c: float) -> None:
    with pytest.raises(UsageError, match="cagrad: c must be"):
        cagrad(gradients(2, 0), c=c)


# --- Nash-MTL


@sizes
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_nash_solves_its_equation(members: int, spread: float) -> None:
    for seed in SEEDS:
        g = gradients(members, seed, spread=spread)
        table = (g @ g.T).numpy()
        weights = nash_weights(table)
        assert weights.min() > 0
        assert weights * (table @ weights) == pytest.approx(np.ones(members), abs=1e-6)
        assert np.linalg.norm(weights @ g.numpy()) == pytest.approx(math.sqrt(members), abs=1e-6)


@sizes
def test_nash_does_not_mind_the_scale_of_any_loss(members: int) -> None:
    for seed in SEEDS:
        g = gradients(members, seed)
        scaled = g * torch.logspace(-3, 3, members, dtype=torch.float64).unsqueeze(1)
        joined, other = nash_mtl(g), nash_mtl(scaled)
        assert torch.cosine_similarity(joined, other, dim=0).item() == pytest.approx(1, abs=1e-9)


def test_nash_stays_in_bounds_wherever_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    g = gradients(2, 0)
    table = torch.cat([g, g[:1] * -0.999]).numpy()
    for steps in range(1, 30):
        monkeypatch.setattr(_nash_mtl, "_NEWTON", steps)
        weights = nash_weights(table @ table.T)
        assert weights.min() > 0
        assert np.isfinite(weights).all()


def test_nash_has_the_length_of_its_authors_code() -> None:
    g = gradients(4, 1)
    length = math.sqrt(4 * torch.linalg.matrix_norm(g @ g.T).item())
    assert nash_mtl(g).norm().item() == pytest.approx(length, rel=1e-6)


def test_nash_of_orthogonal_gradients_takes_each_at_unit_length() -> None:
    joined = nash_mtl(torch.diag(torch.tensor([1.0, 10.0, 100.0])).double())
    torch.testing.assert_close(joined / joined.norm(), torch.full((3,), 1 / math.sqrt(3)).double())


# --- Aligned-MTL


@sizes
def test_aligned_brings_every_singular_value_to_the_smallest(members: int) -> None:
    for seed in SEEDS:
        g = gradients(members, seed)
        table = (g @ g.T).numpy()
        b = torch.from_numpy(alignment(table, precision=2.3e-16))
        before, after = (torch.linalg.svdvals(part) for part in (g, b.T @ g))
        assert after.max().item() == pytest.approx(after.min().item(), rel=1e-6), "the condition number is 1"
        assert after.min().item() == pytest.approx(before.min().item(), rel=1e-6)
        torch.testing.assert_close(aligned_mtl(g), (b.T @ g).sum(dim=0))


@sizes
def test_aligned_equals_the_singular_value_decomposition(members: int) -> None:
    g = gradients(members, 3)
    # with G = USVᵀ the aligned gradients are s_min · UVᵀ
    u, s, v = torch.linalg.svd(g.T, full_matrices=False)
    torch.testing.assert_close(aligned_mtl(g), s.min() * (u @ v).sum(dim=1))


def test_aligned_counts_rounding_as_no_direction() -> None:
    one = gradients(1, 5).float()
    near = one * (1 + 1e-7)
    joined = aligned_mtl(torch.cat([one, near]))
    assert joined.norm() > 0.5 * one.norm()

"""Pooling against loops."""

import pytest
import torch

from accord.errors import UnknownNameError
from accord.models import POOLS, GemPool, build_pool

MAPS = torch.rand(3, 5, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 6


@pytest.mark.parametrize("name", sorted(POOLS))
def test_agrees_with_a_slow_loop(name: str) -> None:
    got = build_pool(name).double()(MAPS).detach()
    for row in range(3):
        for channel in range(5):
            values = MAPS[row, channel].flatten().tolist()
            mean = sum(values) / len(values)
            wanted = {
                "average": mean,
                "max": max(values),
                "average_max": (mean + max(values)) / 2,
                "gem": (sum(value**3 for value in values) / len(values)) ** (1 / 3),
            }[name]
            assert float(got[row, channel]) == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pooled_features_pass_through(name: str) -> None:
    features = torch.randn(2, 7)
    assert build_pool(name)(features) is features


@pytest.mark.parametrize("name", sorted(POOLS))
def test_a_map_of_zeros_has_a_finite_gradient(name: str) -> None:
    maps = torch.zeros(2, 3, 2, 2, requires_grad=True)
    pool = build_pool(name)
    pool(maps).sum().backward()
    assert all(bool(leaf.grad.isfinite().all()) for leaf in (maps, *pool.parameters()))


def test_gem_runs_from_average_to_max() -> None:
    torch.testing.assert_close(GemPool(1.0)(MAPS.float()), MAPS.float().mean((2, 3)))
    torch.testing.assert_close(GemPool(500.0)(MAPS.float()), MAPS.float().amax((2, 3)), rtol=0.01, atol=0)


def test_gem_gradients_are_right() -> None:
    pool = GemPool(2.5).double()
    maps = MAPS.clone().requires_grad_()
    p = pool.p.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda maps, p: torch.func.functional_call(pool, {"p": p}, (maps,)), (maps, p))


def test_gem_never_goes_below_the_average() -> None:
    torch.testing.assert_close(GemPool(-4.0)(MAPS.float()), MAPS.float().mean((2, 3)))


def test_an_unknown_pooling_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'average'"):
        build_pool("averge")

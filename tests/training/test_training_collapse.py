"""Promises of the collapse monitor."""

import math

import pytest
import torch

from accord.errors import BatchError, NumericError
from accord.training import collapse, spread


def test_agrees_with_a_slow_loop_over_pairs() -> None:
    x = torch.randn(7, 5, dtype=torch.float64)
    found = spread(x)
    unit = [row / row.norm() for row in x]
    cosines = [float(a @ b) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j]
    assert found["mean_cosine"] == pytest.approx(sum(cosines) / len(cosines))
    table = torch.stack(unit)
    assert found["deviation"] == pytest.approx(float(table.var(0, unbiased=False).mean().sqrt()) * math.sqrt(5))
    singular = torch.linalg.eigvalsh((table - table.mean(0)).T @ (table - table.mean(0))).clamp_min(0).sqrt()
    share = (singular / singular.sum()).tolist()
    assert found["effective_rank"] == pytest.approx(math.exp(-sum(p * math.log(p) for p in share if p > 0)))


def test_the_corners_of_a_cross_worked_by_hand() -> None:
    cross = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0], [0.0, -4.0]])
    assert spread(cross) == pytest.approx({"mean_cosine": -1 / 3, "deviation": 1.0, "effective_rank": 2.0})
    assert collapse(spread(cross)) is None


def test_a_point_is_noticed_from_all_sides() -> None:
    found = spread(torch.ones(6, 3))
    assert found == pytest.approx({"mean_cosine": 1.0, "deviation": 0.0, "effective_rank": 0.0}, abs=1e-9)
    said = collapse(found)
    assert said is not None
    assert all(word in said for word in ("mean cosine", "deviation", "directions"))


def test_a_line_is_noticed_and_a_healthy_cloud_is_not() -> None:
    line = torch.randn(50, 1).sign() * torch.ones(1, 8) + 1e-3 * torch.randn(50, 8)
    said = collapse(spread(line))
    assert said is not None
    assert "effective directions" in said
    assert collapse(spread(torch.randn(50, 8))) is None


def test_does_not_depend_on_order_or_length() -> None:
    x = torch.randn(9, 4)
    assert spread(x[torch.randperm(9)] * torch.rand(9, 1).add(0.5)) == pytest.approx(spread(x), abs=1e-6)


def test_refuses_what_it_can_not_judge() -> None:
    with pytest.raises(BatchError, match="at least 2"):
        spread(torch.ones(1, 3))
    with pytest.raises(NumericError, match="spread"):
        spread(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))

"""Promises of the learning rate's schedule."""

import math

import pytest

from accord.errors import UsageError
from accord.training import warmup_cosine


def test_follows_the_formula_worked_by_hand() -> None:
    factors = [warmup_cosine(step, steps=10, warmup=0.2) for step in range(11)]
    cosine = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    assert factors == pytest.approx([0.5, 1.0, *cosine])


def test_rises_then_falls_and_stays_within_0_and_1() -> None:
    factors = [warmup_cosine(step, steps=100, warmup=0.1) for step in range(100)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert min(factors) > 0
    assert max(factors) == 1


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_all_or_nothing_of_it_may_be_warm_up(warmup: float) -> None:
    assert warmup_cosine(0, steps=4, warmup=warmup) == (0.25 if warmup else 1.0)
    assert warmup_cosine(4, steps=4, warmup=warmup) == 0


def test_stays_at_nothing_after_the_end() -> None:
    assert warmup_cosine(500, steps=10) == 0


@pytest.mark.parametrize(
    "wrong", [{"step": -1, "steps": 5}, {"step": 0, "steps": 0}, {"step": 0, "steps": 5, "warmup": 1.5}]
)
def test_refuses_options_out_of_range(wrong: dict[str, float]) -> None:
    step = int(wrong.pop("step"))
    with pytest.raises(UsageError, match="warmup_cosine"):
        warmup_cosine(step, **wrong)

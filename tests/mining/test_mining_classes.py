"""Hard classes against a slow loop: the first at random, then always the worst violator."""

import pytest
import torch
from torch import Tensor

from accord.errors import NumericError, UnknownNameError, UsageError
from accord.mining import hard_classes
from conformance import without_shape_checks
from slow import dot, units


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow(table: Tensor, partners: Tensor | None, count: int, by: str, *, unit: bool, order: list[int]) -> list[int]:
    x = units(table) if unit else table.tolist()
    y = None if partners is None else units(partners) if unit else partners.tolist()
    chosen = [order[0]]
    while len(chosen) < count:
        best, found = None, -float("inf")
        for c in order:  # equals: whoever comes first in the random order
            if c in chosen:
                continue
            violations = [dot(x[s], x[c]) - (0.0 if y is None else dot(x[s], y[s])) for s in chosen]
            violation = max(violations) if by == "max" else sum(violations)
            if violation > found + 1e-12:
                best, found = c, violation
        assert best is not None
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("by", ["max", "sum"])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("unit", [False, True])
def test_takes_the_worst_violator_again_and_again(by: str, paired: bool, unit: bool) -> None:
    for seed in range(20):
        table, partners = torch.randn(2, 12, 5, generator=source(seed), dtype=torch.float64)
        others = partners if paired else None
        order = torch.randperm(12, generator=source(seed)).tolist()
        found = hard_classes(table, count=7, generator=source(seed), partners=others, by=by, normalised=unit)
        assert found.tolist() == slow(table, others, 7, by, unit=unit, order=order)


def test_finds_the_group_that_is_hard_to_tell_apart() -> None:
    table = torch.eye(12)[torch.tensor([0, 1, 2, 3, 4, 4, 4, 4, 5, 6, 7, 8])] + 0.01
    for seed in range(40):
        found = hard_classes(table, count=4, generator=source(seed)).tolist()
        if found[0] in (4, 5, 6, 7):
            assert sorted(found) == [4, 5, 6, 7]


def test_settles_equals_at_random() -> None:
    found = [tuple(hard_classes(torch.eye(6), count=3, generator=source(seed)).tolist()) for seed in range(60)]
    assert {first for first, *_ in found} == set(range(6))
    assert len(set(found)) > 30
    assert all(len(set(chosen)) == 3 for chosen in found)


def test_never_waits_for_the_device() -> None:
    away = torch.empty(9, 4, device="meta")
    assert hard_classes(away, count=9, generator=source(0)).shape == (9,)


def test_refuses_what_can_not_be_chosen() -> None:
    with pytest.raises(UsageError, match="count is 7, but the table has 6"):
        hard_classes(torch.eye(6), count=7, generator=source(0))
    with pytest.raises(UsageError, match="count must be"):
        hard_classes(torch.eye(6), count=0, generator=source(0))
    with pytest.raises(UnknownNameError, match="Did you mean 'sum'"):
        hard_classes(torch.eye(6), count=2, generator=source(0), by="sums")
    with pytest.raises(NumericError, match="the table must be finite"):
        hard_classes(torch.eye(6) * torch.nan, count=2, generator=source(0))
    with without_shape_checks(), pytest.raises(UsageError, match="one row for each row"):
        hard_classes(torch.eye(6), count=2, generator=source(0), partners=torch.ones(5, 6))

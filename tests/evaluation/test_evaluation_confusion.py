"""Confused classes, counted by hand and by loops."""

import pytest
import torch

from accord.errors import UsageError
from accord.evaluation import evaluate
from accord.types import Labelled


def confused(items, limit=20, **options):
    return evaluate(items, confusions=limit, clusters=False, **options).confusions


def test_counts_nearest_neighbours_that_are_wrong():
    # the two of class 4 lie beside one of class 9 each; the third of class 9 lies far off beside its own kind
    degrees = torch.tensor([0.0, 100.0, 1.0, 102.0, 200.0, 201.5])
    angles = torch.deg2rad(degrees)
    items = Labelled(
        torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([4, 4, 9, 9, 9, 9]), torch.arange(6)
    )
    found = confused(items)
    assert [tuple(pair) for pair in found] == [(4, 9, 2, 1.0), (9, 4, 2, 0.5)]
    assert confused(items, 1) == found[:1]


def test_a_right_neighbour_tied_with_wrong_ones_is_wrong_and_the_first_wrong_one_counts():
    items = Labelled(torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]), torch.tensor([0, 0, 1, 2]), torch.arange(4))
    assert [tuple(pair) for pair in confused(items)] == [(0, 1, 2, 1.0)]


def test_agrees_with_loops_for_any_budget():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(8, (90,), generator=generator)
    rows = torch.nn.functional.normalize(torch.randn(90, 5, generator=generator))
    nearest = (rows @ rows.T).fill_diagonal_(-2).argmax(dim=1)
    expected = {}
    for own, other in zip(labels.tolist(), labels[nearest].tolist(), strict=True):
        if own != other:
            expected[own, other] = expected.get((own, other), 0) + 1
    for budget in (1, 2**25):
        found = confused(Labelled(rows, labels, torch.arange(90)), 100, budget_bytes=budget)
        assert {(pair.label, pair.other): pair.times for pair in found} == expected
        assert [pair.times for pair in found] == sorted((pair.times for pair in found), reverse=True)


def test_no_confusion_is_an_empty_list():
    items = Labelled(torch.eye(3).repeat_interleave(2, dim=0), torch.arange(6) // 2, torch.arange(6))
    assert confused(items) == ()
    with pytest.raises(UsageError, match="confusions"):
        confused(items, -1)

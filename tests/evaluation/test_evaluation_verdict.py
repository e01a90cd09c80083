"""What may be said: Holm's correction, the fixed words, average ranks and the luck of many looks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import BatchError, UsageError
from accord.evaluation import average_ranks, expected_optimism, holm, verdict


def test_holm_worked_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(p_values):
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1, len(p_values) * p) or q == p == 0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [corrected[place] for place in order] == sorted(corrected)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((0.02, 0.01, 0.03, 0.01), "better"),
        ((-0.02, -0.03, -0.01, 0.049), "worse"),
        ((0.004, 0.001, 0.007, 0.01), "better, but less than the bar of 0.5 points"),
        ((-0.004, -0.007, -0.001, 0.01), "worse, but less than the bar of 0.5 points"),
        ((0.02, 0.01, 0.03, 0.05), "no difference shown (could be between +1.0 and +3.0 points)"),
        ((0.02, -0.01, 0.05, 0.01), "no difference shown (could be between −1.0 and +5.0 points)"),
        ((0.0, 0.0, 0.0, 0.01), "no difference shown (could be between +0.0 and +0.0 points); any is less than"),
        ((0.001, -0.002, 0.004, 0.4), "no difference shown (could be between −0.2 and +0.4 points); any is less than"),
        ((0.1, math.nan, math.nan, 1.0), "no difference shown (one class tells nothing)"),
    ],
)
def test_the_words_are_fixed(given, sentence):
    found = verdict(*given)
    assert found.sentence.startswith(sentence)
    assert found.sentence.startswith(found.word)
    assert found.word in {"better", "worse", "no difference shown"}


def test_the_bar_can_be_moved():
    assert verdict(0.004, 0.001, 0.007, 0.01, bar_points=0.3).sentence == "better"
    assert "bar of 2 points" in verdict(0.015, 0.01, 0.018, 0.01, bar_points=2.0).sentence


def test_average_ranks_worked_by_hand():
    scores = torch.tensor([[0.9, 0.8, 0.8], [0.4, 0.6, 0.5]])
    assert average_ranks(scores).tolist() == [2, 1.75, 2.25]


def test_the_best_of_many_equals_looks_better_than_it_is():
    assert expected_optimism(1, 0.4) == 0
    assert expected_optimism(2, 1.0) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-8)
    assert expected_optimism(3, 1.0) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-8)
    figures = [expected_optimism(looks, 0.4) for looks in (10, 40, 100)]
    assert figures == pytest.approx([0.62, 0.86, 1.00], abs=0.005)
    best = torch.randn(20_000, 10, generator=torch.Generator().manual_seed(0)).amax(dim=1).mean()
    assert expected_optimism(10, 1.0) == pytest.approx(float(best), abs=0.02)


def test_refuses_what_makes_no_sense():
    with pytest.raises(UsageError, match="p_values"):
        holm([0.1, 1.2])
    with pytest.raises(UsageError, match="bar_points"):
        verdict(0.1, 0.0, 0.2, 0.5, bar_points=-1.0)
    with pytest.raises(BatchError, match="none missing"):
        average_ranks(torch.tensor([[0.1, torch.nan]]))
    with pytest.raises(UsageError, match="looks"):
        expected_optimism(0, 0.4)
    with pytest.raises(UsageError, match="deviation"):
        expected_optimism(2, math.inf)

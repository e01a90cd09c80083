"""Pairs in folds that share no class: complete where few, a fair draw where many, and the same for the same seed."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import BatchError, UsageError
from accord.evaluation import _class_folds, class_fold_pairs, most_class_folds


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def listed(drawn):
    return list(zip(*(side.tolist() for side in drawn.pairs), drawn.same.tolist(), drawn.fold.tolist(), strict=True))


@given(st.lists(st.integers(0, 9), min_size=8, max_size=40), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_folds_share_no_class_and_hold_as_many_pairs_of_the_one_kind_as_of_the_other(labels, folds, each, seed):
    labels = torch.tensor([*labels, *range(10, 20), *range(10, 20)])
    drawn = class_fold_pairs(labels, folds=folds, each=each, generator=generator(seed))
    rows = listed(drawn)
    assert len({frozenset(row[:2]) for row in rows}) == len(rows)
    of_class = {}
    for one, other, same, fold in rows:
        assert one != other
        assert (labels[one] == labels[other]).item() == same
        assert {of_class.setdefault(int(labels[item]), fold) for item in (one, other)} == {fold}
    for fold in range(folds):
        kinds = Counter(same for _, _, same, where in rows if where == fold)
        assert 1 <= kinds[True] == kinds[False] <= each


def test_where_pairs_are_few_none_of_the_rarer_kind_is_left_out():
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 2])
    rows = listed(class_fold_pairs(labels, folds=1, each=100, generator=generator()))
    genuine = {frozenset(row[:2]) for row in rows if row[2]}
    assert genuine == {frozenset(pair) for pair in combinations(range(7), 2) if labels[pair[0]] == labels[pair[1]]}
    assert len(rows) == 12


@pytest.mark.parametrize("many", [0, 10**6])
def test_every_pair_of_a_kind_is_drawn_as_often_as_any_other(many, monkeypatch):
    monkeypatch.setattr(_class_folds, "MANY", many)
    labels = torch.tensor([0, 1, 0, 2, 0, 1, 3, 2, 4])
    seen = Counter()
    for seed in range(3000):
        for one, other, same, _ in listed(class_fold_pairs(labels, folds=1, each=1, generator=generator(seed))):
            seen[same, frozenset((one, other))] += 1
    pairs = {True: 5, False: 31}
    assert Counter(same for same, _ in seen) == pairs
    for (same, _), times in seen.items():
        expected = 3000 / pairs[same]
        assert abs(times - expected) < 5 * expected**0.5


def test_the_same_seed_draws_the_same_pairs_and_another_one_others():
    labels = torch.arange(200) % 40
    first, again, other = (class_fold_pairs(labels, each=20, generator=generator(seed)) for seed in (1, 1, 2))
    assert listed(first) == listed(again) != listed(other)
    assert first.fold.bincount().tolist() == [40] * 10


def test_folds_that_lack_classes_are_refused_and_counted():
    labels = torch.tensor([0, 0, 1, 1, 2, 3, 4])
    assert most_class_folds(labels) == 2
    assert most_class_folds(torch.arange(6)) == 0
    assert {fold for *_, fold in listed(class_fold_pairs(labels, folds=2, generator=generator()))} == {0, 1}
    with pytest.raises(BatchError, match=r"There are 2 and 5: ask for 2 or fewer"):
        class_fold_pairs(labels, folds=3, generator=generator())
    with pytest.raises(UsageError, match="each"):
        class_fold_pairs(labels, folds=2, each=0, generator=generator())

"""Batches of pairs and triplets: each once an epoch, within the places there are, a function of seed and step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import RelationBatches, RelationPlan
from accord.errors import BatchError, UsageError
from accord.losses import linked_labels
from accord.types import Pairs, Triplets

GROUPS, EACH = 6, 4
LABELS = torch.arange(GROUPS).repeat_interleave(EACH)


def _triplets(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        own, other = torch.randperm(GROUPS, generator=generator)[:2].tolist()
        anchor, positive = torch.randperm(EACH, generator=generator)[:2].tolist()
        found.append((own * EACH + anchor, own * EACH + positive, other * EACH + anchor))
    return found


def _pairs(*sizes: int) -> list[tuple[int, ...]]:
    """Chains: of each group that many pairs of consecutive images."""
    starts = torch.tensor([0, *sizes]).add(1).cumsum(0).tolist()
    return [(start - 1 + k, start + k) for start, size in zip(starts, sizes, strict=False) for k in range(size)]


def _labels_of(*sizes: int) -> torch.Tensor:
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes) + 1)


def _back(plan: RelationBatches, step: int) -> list[tuple[int, ...]]:
    """The relations of a step in terms of the data set."""
    rows = plan.rows(step)
    return list(zip(*(rows[places].tolist() for places in plan.relations(step)), strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(4, 20), st.integers(0, 5), st.integers(0, 3))
def test_every_triplet_comes_once_an_epoch(count: int, images: int, seed: int, epoch: int) -> None:
    relations = _triplets(count, seed)
    plan = RelationBatches(relations, LABELS, images=images, seed=seed)
    steps = range(epoch * len(plan), (epoch + 1) * len(plan))
    assert sorted(row for step in steps for row in _back(plan, step)) == sorted(relations)
    assert len(plan) == -(-count // (images // 3))
    for step in steps:
        rows = plan.rows(step)
        assert len(rows.unique()) == len(rows) <= images
        assert isinstance(plan.relations(step), Triplets)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.integers(6, 20), st.integers(0, 3))
def test_pairs_come_once_and_no_batch_takes_one_group_for_two(sizes: list[int], images: int, seed: int) -> None:
    relations, labels = _pairs(*sizes), _labels_of(*sizes)
    try:
        plan = RelationBatches(relations, labels, images=images, seed=seed)
    except BatchError as error:
        assert sum(sizes) - max(sizes) < -(-sum(sizes) // (images // 2)), error  # noqa: PT017
        return
    seen = []
    for step in range(len(plan)):
        rows, pairs = plan.rows(step), plan.relations(step)
        assert isinstance(pairs, Pairs)
        linked = linked_labels(pairs, len(rows))
        assert torch.equal(linked[:, None] == linked, labels[rows][:, None] == labels[rows])
        assert len(labels[rows].unique()) >= 2
        assert len(rows) <= images
        seen += [pair for pair in _back(plan, step) if pair in set(relations)]
    assert set(seen) == set(relations)


def test_pairs_of_a_batch_are_of_different_groups_where_that_can_be() -> None:
    sizes = (3, 3, 3, 3, 3, 3)
    plan = RelationBatches(_pairs(*sizes), _labels_of(*sizes), images=12, seed=0)
    assert len(plan) == 3
    for step in range(9):
        assert len(_labels_of(*sizes)[plan.rows(step)].unique()) == 6


def test_an_odd_number_of_pairs_dealt_by_twos_leaves_none_alone() -> None:
    sizes = (1, 1, 1, 1, 1)
    plan = RelationBatches(_pairs(*sizes), _labels_of(*sizes), images=4, seed=0)
    assert sorted(len(plan.rows(step)) for step in range(len(plan))) == [4, 6]


def test_is_a_function_of_seed_and_step() -> None:
    relations = _triplets(40)
    one, other = (RelationBatches(relations, LABELS, images=9, seed=3) for _ in range(2))
    order = {step: one.rows(step) for step in (30, 0, 17, 2)}
    assert all(torch.equal(other.rows(step), order[step]) for step in sorted(order))
    assert not all(torch.equal(RelationBatches(relations, LABELS, images=9, seed=4).rows(s), order[s]) for s in order)
    assert not torch.equal(one.rows(0), one.rows(len(one)))


def test_is_a_plan_whose_batches_carry_relations() -> None:
    assert isinstance(RelationBatches(_triplets(5), LABELS, images=9, seed=0), RelationPlan)


def test_refuses_what_no_batch_can_be_made_of() -> None:
    with pytest.raises(BatchError, match="no relations"):
        RelationBatches([], LABELS, images=9, seed=0)
    with pytest.raises(UsageError, match="images must be a whole number of at least 4"):
        RelationBatches(_triplets(5), LABELS, images=3, seed=0)
    with pytest.raises(BatchError, match=r"30 of 31 pairs are of one group; 8 batches of 8 images"):
        RelationBatches(_pairs(30, 1), _labels_of(30, 1), images=8, seed=0)
    with pytest.raises(BatchError, match="steps count from 0"):
        RelationBatches(_triplets(5), LABELS, images=9, seed=0).rows(-1)

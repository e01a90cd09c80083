"""Batches can always teach, are dealt fairly, and depend on the seed and the step alone."""

import random
from collections import Counter
from collections.abc import Callable
from math import ceil, gcd
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import Augment, AugmentOptions, ImageTable, PKBatches, TrainingBatches, builtin, generator_for
from accord.data._sampling import fair_cycle
from accord.errors import BatchError
from accord.types import Manifest, Preprocessing


def _labels(sizes: list[int], seed: int = 0) -> torch.Tensor:
    labels = [1_000_003 * number - 5 for number, size in enumerate(sizes) for _ in range(size)]
    random.Random(seed).shuffle(labels)
    return torch.tensor(labels, dtype=torch.int64)


@given(st.integers(1, 40), st.data())
def test_a_fair_cycle_deals_every_card_equally_often_and_no_hand_twice(members: int, data: st.DataObject) -> None:
    group = data.draw(st.integers(1, members))
    hands = fair_cycle(members, group, torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    assert hands.shape == (members // gcd(members, group), group)
    assert all(len(set(hand)) == group for hand in hands.tolist())
    flat = hands.flatten().tolist()
    for start in range(0, len(flat), members):
        assert sorted(flat[start : start + members]) == list(range(members))


sizes_of_classes = st.lists(st.sampled_from([1, 1, 2, 2, 3, 4, 5, 7, 12, 60]), min_size=3, max_size=25)


@settings(max_examples=60, deadline=None)
@given(sizes_of_classes, st.integers(2, 9), st.integers(2, 6), st.integers(0, 3))
def test_every_batch_teaches_and_every_class_comes_equally_often(
    sizes: list[int], classes_per_batch: int, per_class: int, seed: int
) -> None:
    labels = _labels(sizes)
    usable = [size for size in sizes if size >= 2]
    if len(usable) < classes_per_batch:
        with pytest.raises(
            BatchError, match=f"{classes_per_batch} classes can't be filled: only {len(usable)} classes"
        ):
            PKBatches(labels, classes_per_batch=classes_per_batch, per_class=per_class, seed=seed)
        return
    plan = PKBatches(labels, classes_per_batch=classes_per_batch, per_class=per_class, seed=seed)
    assert len(plan) == ceil(sum(usable) / (classes_per_batch * per_class))
    cycle = len(usable) // gcd(len(usable), classes_per_batch)
    drawn, images = Counter[int](), Counter[int]()
    for step in range(2 * cycle):
        rows = plan.rows(step)
        counts = Counter(labels[rows].tolist())
        assert len(counts) == classes_per_batch
        assert set(counts.values()) == {per_class}
        repeats = Counter(rows.tolist())
        for label in counts:
            members = (labels == label).nonzero().flatten().tolist()
            times = [repeats[row] for row in members]
            assert max(times) - min(times) <= 1
        drawn.update(counts.keys())
        images.update(rows.tolist())
        missing = len(usable) - len(drawn)
        assert max(drawn.values()) - (0 if missing else min(drawn.values())) <= 1
    assert len(set(drawn.values())) == 1
    for label in drawn:  # the images of a class differ by one draw at most, however many cycles have gone
        times = [images[row] for row in (labels == label).nonzero().flatten().tolist()]
        assert max(times) - min(times) <= 1


def test_over_an_epoch_of_whole_rounds_each_class_comes_equally_often() -> None:
    labels = _labels([12] * 64)
    plan = PKBatches(labels, classes_per_batch=16, per_class=4, seed=0)
    assert len(plan) == 12
    rows = torch.cat([plan.rows(step) for step in range(len(plan))])
    assert set(Counter(labels[rows].tolist()).values()) == {12}
    assert sorted(rows.tolist()) == list(range(768))


def test_every_image_comes_within_as_many_turns_as_its_class_needs() -> None:
    labels = _labels([1000, 3, 3, 3])
    plan = PKBatches(labels, classes_per_batch=2, per_class=4, seed=1)
    turns = ceil(1000 / 4)
    rows = torch.cat([plan.rows(step) for step in range(turns * 2)])
    assert set(rows.tolist()) == set(range(1009))


def test_steps_may_be_asked_for_in_any_order() -> None:
    labels = _labels([2, 3, 5, 7, 11, 13, 4])
    make = lambda seed=3: PKBatches(labels, classes_per_batch=3, per_class=4, seed=seed)  # noqa: E731
    straight = [make().rows(0)] + [plan.rows(step) for plan in [make()] for step in range(1, 60)]
    order = list(range(60))
    random.Random(0).shuffle(order)
    plan = make()
    shuffled = {step: plan.rows(step) for step in order}
    assert all(torch.equal(straight[step], shuffled[step]) for step in range(60))
    assert all(torch.equal(straight[step], make().rows(step)) for step in (0, 17, 59))
    assert any(not torch.equal(straight[step], make(4).rows(step)) for step in range(3))


def test_rounds_differ_from_each_other() -> None:
    plan = PKBatches(_labels([4] * 8), classes_per_batch=8, per_class=2, seed=0)
    assert len({tuple(plan.rows(step).tolist()) for step in range(6)}) == 6


def test_singletons_are_never_drawn() -> None:
    labels = torch.tensor([7, 1, 7, 2, 3, 3, 9])
    plan = PKBatches(labels, classes_per_batch=2, per_class=2, seed=0)
    assert {row for step in range(20) for row in plan.rows(step).tolist()} == {0, 2, 4, 5}
    assert len(plan) == 1


@pytest.mark.parametrize(("classes", "images"), [(1, 4), (4, 1), (0, 0)])
def test_refuses_batches_that_can_not_teach(classes: int, images: int) -> None:
    with pytest.raises(BatchError, match=f"at least 2 classes of 2 images, not {classes} of {images}"):
        PKBatches(_labels([4] * 8), classes_per_batch=classes, per_class=images, seed=0)


def test_refuses_more_classes_than_there_are_and_names_both_numbers() -> None:
    with pytest.raises(BatchError, match=r"a batch of 16 classes can't be filled: only 3 classes .* \(of 5 classes\)"):
        PKBatches(_labels([4, 4, 4, 1, 1]), classes_per_batch=16, per_class=4, seed=0)
    with pytest.raises(BatchError, match="only 0 classes"):
        PKBatches(torch.empty(0, dtype=torch.int64), classes_per_batch=2, per_class=2, seed=0)


def test_refuses_a_step_before_the_first() -> None:
    with pytest.raises(BatchError, match="count from 0"):
        PKBatches(_labels([4, 4]), classes_per_batch=2, per_class=2, seed=0).rows(-1)


def test_generators_depend_on_the_whole_key() -> None:
    keys = [(0, "a", 1), (0, "a", 2), (1, "a", 1), (0, "b", 1), (0, "a", 11), (-1, "a", 1)]
    draws = {tuple(torch.rand(3, generator=generator_for(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)
    assert torch.equal(
        torch.rand(3, generator=generator_for(*keys[0])), torch.rand(3, generator=generator_for(0, "a", 1))
    )


def _training(seed: int = 5, budget_bytes: int = 10**8) -> TrainingBatches:
    objects = builtin("objects")
    manifest = Manifest("few", objects.root, objects.items[120:216])
    table = ImageTable(manifest, Preprocessing(16), oversize=1.25, budget_bytes=budget_bytes)
    plan = PKBatches(table.labels, classes_per_batch=4, per_class=3, seed=seed)
    return TrainingBatches(table, plan, Augment(AugmentOptions(), 16), seed=seed)


def test_a_training_batch_is_a_function_of_seed_and_step() -> None:
    first, again, frugal = _training(), _training(), _training(budget_bytes=0)
    expected = [first(step) for step in range(10)]
    for step in (9, 3, 0, 3):
        for other in (again(step), frugal(step)):
            assert all(torch.equal(a, b) for a, b in zip(expected[step][:3], other[:3], strict=True))
    assert not torch.equal(expected[0].inputs, _training(seed=6)(0).inputs)
    assert len(first) == len(first.plan) == 8


def test_a_training_batch_carries_the_items_own_labels_and_ids() -> None:
    training = _training()
    batch = training(0)
    assert batch.inputs.shape == (12, 3, 16, 16)
    assert batch.inputs.dtype == torch.float32
    by_id = {item.id: item.label for item in training.table.manifest.items}
    names = training.table.classes.names
    assert [names[number] for number in batch.labels.tolist()] == [by_id[number] for number in batch.ids.tolist()]


def test_the_same_image_is_changed_differently_at_another_step(tmp_path: Path, picture: Callable[..., object]) -> None:
    training = _training()
    seen: dict[int, torch.Tensor] = {}
    for step in range(20):
        batch = training(step)
        for number, image in zip(batch.ids.tolist(), batch.inputs, strict=True):
            if number in seen:
                assert not torch.equal(seen[number], image)
            seen[number] = image

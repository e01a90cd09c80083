"""Batches of hard classes: chosen as the N-pair paper says, a function of seed, step and table, refreshed rarely."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.data import HardClassBatches, PKBatches
from accord.errors import BatchError, UsageError


def _labels(classes: int, size: int = 3) -> torch.Tensor:
    return torch.arange(classes).repeat_interleave(size) * 7 + 2


def _taught(sampler: HardClassBatches, table: torch.Tensor, step: int = 0) -> HardClassBatches:
    sampler.learn(step, torch.stack([table, table]))
    return sampler


def _classes(sampler: HardClassBatches, labels: torch.Tensor, step: int) -> list[int]:
    return ((labels[sampler.rows(step)] - 2) // 7)[:: sampler.per_class].tolist()


def test_deals_like_the_plain_sampler_until_there_is_a_table() -> None:
    labels = _labels(9)
    sampler = HardClassBatches(labels, classes_per_batch=4, seed=3)
    plain = PKBatches(labels, classes_per_batch=4, per_class=2, seed=3)
    assert torch.equal(sampler.rows(5), plain.rows(5))
    assert len(sampler) == len(plain)


def test_puts_classes_together_that_are_taken_for_each_other() -> None:
    # four tight families of three classes each: whichever class comes first, its family follows
    directions = torch.nn.functional.one_hot(torch.arange(4), 8).float().repeat_interleave(3, dim=0)
    table = directions + 0.05 * torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    labels = _labels(12)
    sampler = _taught(HardClassBatches(labels, classes_per_batch=3, seed=0, pool=12), table)
    families = [{number // 3 for number in _classes(sampler, labels, step)} for step in range(20)]
    assert all(len(family) == 1 for family in families)
    assert len(set.union(*families)) == 4


def test_adds_the_class_that_violates_the_most_with_respect_to_those_chosen() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.nn.functional.normalize(torch.randn(2, 10, 6, generator=generator), dim=2)
    labels = _labels(10)
    sampler = HardClassBatches(labels, classes_per_batch=5, seed=2, pool=10)
    sampler.learn(0, torch.stack([first, second]))
    chosen = _classes(sampler, labels, 4)
    for place in range(1, 5):
        already, rest = chosen[:place], [c for c in range(10) if c not in chosen[:place]]
        violation = {c: max(float(first[s] @ first[c] - first[s] @ second[s]) for s in already) for c in rest}
        assert chosen[place] == max(violation, key=lambda c: violation[c])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=6, max_size=15), st.integers(0, 9), st.integers(0, 50))
def test_every_batch_has_distinct_classes_with_enough_images(sizes: list[int], seed: int, step: int) -> None:
    labels = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])
    usable = sum(size >= 2 for size in sizes)
    if usable < 3:
        with pytest.raises(BatchError, match="can't be filled"):
            HardClassBatches(labels, classes_per_batch=3, seed=seed)
        return
    sampler = HardClassBatches(labels, classes_per_batch=3, per_class=3, seed=seed)
    table = torch.randn(usable, 4, generator=torch.Generator().manual_seed(seed))
    rows = _taught(sampler, table).rows(step)
    found, counts = torch.unique(labels[rows], return_counts=True)
    assert len(found) == 3
    assert counts.tolist() == [3, 3, 3]
    assert all(len(set(part.tolist())) == min(3, sizes[labels[part[0]]]) for part in rows.view(3, 3))


def test_is_a_function_of_seed_step_and_table() -> None:
    labels, table = _labels(20), torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    one = _taught(HardClassBatches(labels, classes_per_batch=4, seed=5), table)
    order = {step: one.rows(step) for step in (3, 0, 2)}
    other = HardClassBatches(labels, classes_per_batch=4, seed=5)
    other.restore(one.state())
    assert all(torch.equal(other.rows(step), rows) for step, rows in order.items())
    assert not torch.equal(_taught(other, -table.flip(0)).rows(3), order[3])
    other.restore({})
    assert other.state() == {}


def test_wants_a_new_table_as_often_as_its_share_of_the_time_allows() -> None:
    sampler = HardClassBatches(_labels(600, 5), classes_per_batch=6, seed=0, share=0.1)
    # a table embeds 1,200 images at a third of a training image's cost; a step trains on 12
    assert sampler.every == 334
    assert [step for step in range(1000) if sampler.due(step)] == [0, 334, 668]
    _taught(sampler, torch.randn(600, 2), step=334)
    assert not sampler.due(334)
    assert HardClassBatches(_labels(9), classes_per_batch=3, seed=0, every=7).every == 7


def test_examples_are_two_different_images_of_each_class_anew_for_each_table() -> None:
    labels = _labels(8, 4)
    sampler = HardClassBatches(labels, classes_per_batch=3, seed=0)
    rows = sampler.examples(0)
    assert rows.shape == (2, 8)
    assert torch.equal(labels[rows[0]], labels[rows[1]])
    assert bool((rows[0] != rows[1]).all())
    assert not torch.equal(rows, sampler.examples(10))


@pytest.mark.parametrize("pool", [3, 30])
def test_refuses_a_pool_that_is_too_small_or_too_large(pool: int) -> None:
    with pytest.raises(BatchError, match=f"at least 4 .* at most 9 .* not of {pool}"):
        HardClassBatches(_labels(9), classes_per_batch=4, seed=0, pool=pool)


def test_refuses_a_share_of_all_the_time() -> None:
    with pytest.raises(UsageError, match="share must lie between 0 and 1"):
        HardClassBatches(_labels(9), classes_per_batch=4, seed=0, share=1.0)


def test_refuses_a_table_of_another_shape() -> None:
    sampler = HardClassBatches(_labels(9), classes_per_batch=4, seed=0)
    with pytest.raises(BatchError, match=r"shape \(2, 9, dim\)"):
        sampler.learn(0, torch.zeros(2, 8, 4))

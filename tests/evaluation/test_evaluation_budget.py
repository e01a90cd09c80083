"""The memory of an evaluation: its live tensors, by torch's own count, stay within the budget."""

import gc

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from accord.evaluation import evaluate
from accord.types import Labelled

MIB = 2**20
ITEMS = 2_500
WHOLE = 4 * ITEMS**2  # bytes of all scores at once


def live_bytes(work) -> int:
    """The most bytes in tensors at one time, beside those that were there before."""
    gc.collect()
    gc.disable()  # what it frees of others would be taken from the sum
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            work()
    finally:
        gc.enable()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in events:
        now += event.nbytes()
        most = max(most, now)
    return most


def items(size: int, *, dim: int = 32, of_a_class: int = 5) -> Labelled:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size) // of_a_class
    centres = torch.randn(int(labels[-1]) + 1, dim, generator=generator)
    return Labelled(centres[labels] + 3 * torch.randn(size, dim, generator=generator), labels, torch.arange(size))


def test_counts_live_bytes():
    assert 8 * MIB <= live_bytes(lambda: torch.ones(MIB) + torch.ones(MIB).sum()) < 9 * MIB
    assert live_bytes(lambda: [torch.ones(MIB).sum() for _ in range(3)]) < 5 * MIB


@pytest.mark.parametrize("budget", [16 * MIB, 20 * MIB])
@pytest.mark.parametrize("of_a_class", [5, 200])
def test_keeps_within_the_budget(budget, of_a_class):
    assert budget < WHOLE
    labelled = items(ITEMS, of_a_class=of_a_class)
    used = live_bytes(lambda: evaluate(labelled, clusters=False, budget_bytes=budget))
    assert MIB < used <= 1.1 * budget


def test_keeps_within_the_budget_where_everything_ties():
    labelled = items(1_000)
    constant = Labelled(torch.ones_like(labelled.embeddings), labelled.labels, labelled.ids)
    used = live_bytes(lambda: evaluate(constant, clusters=False, budget_bytes=16 * MIB))
    assert MIB < used <= 1.1 * 16 * MIB


def test_keeps_within_the_budget_where_the_first_right_item_stands_deep():
    labelled = items(ITEMS)
    used = live_bytes(lambda: evaluate(labelled, metrics=["mrr"], clusters=False, budget_bytes=20 * MIB))
    assert MIB < used <= 1.1 * 20 * MIB

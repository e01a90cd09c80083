"""Judging a run: what is measured, and what is said about it."""

import pytest
import torch

from accord.recipes import evaluate as judging
from accord.recipes import resolve
from accord.types import Labelled


def test_nmi_takes_fewer_seeds_on_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    labelled = Labelled(torch.ones(40, 10), torch.arange(40) % 4, torch.arange(40))
    assert judging._affordable_seeds(labelled, resolve()) == 10
    monkeypatch.setattr(judging, "KMEANS_BUDGET", 3 * 40 * 10 * 4)
    assert judging._affordable_seeds(labelled, resolve()) == 3
    monkeypatch.setattr(judging, "KMEANS_BUDGET", 1)
    assert judging._affordable_seeds(labelled, resolve()) == 1

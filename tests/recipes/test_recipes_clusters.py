"""k-means runs: as many as are wanted where they are quick, fewer where they are not, and a word about it."""

import pytest
import torch

from accord.recipes import Judging, judge_vectors
from accord.recipes import clusters as rule
from accord.recipes.clusters import affordable_seeds, fewer_seeds, pass_cost
from accord.types import Labelled

ITEMS = Labelled(torch.ones(40, 10), torch.arange(40) % 4, torch.arange(40))
VECTORS = torch.randn(40, 10, generator=torch.Generator().manual_seed(0))


def test_large_sets_take_fewer_seeds_but_never_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert affordable_seeds(ITEMS, 10) == 10
    monkeypatch.setattr(rule, "BUDGET", 3 * 40 * 10 * 4)
    assert (affordable_seeds(ITEMS, 10), affordable_seeds(ITEMS, 2)) == (3, 2)
    monkeypatch.setattr(rule, "BUDGET", 1)
    assert affordable_seeds(ITEMS, 10) == 1


def test_a_pass_over_nothing_still_costs_something() -> None:
    nothing = Labelled(torch.ones(0, 10), torch.arange(0), torch.arange(0))
    assert (pass_cost(ITEMS), pass_cost(nothing)) == (40 * 10 * 4, 1)


def test_fewer_seeds_are_told() -> None:
    assert fewer_seeds(10, 10) == []
    assert fewer_seeds(3, 10) == ["NMI is the mean over 3 k-means runs, not 10: the set is large."]


def test_vectors_are_judged_by_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    def judged(**how: bool | int) -> tuple[int, list[str]]:
        report = judge_vectors(VECTORS, ITEMS.labels, how=Judging(metrics=["recall@1"], **how)).report  # type: ignore[arg-type]
        assert ("nmi" in report["metrics"]) == (report["protocol"]["nmi_seeds"] > 0)
        return report["protocol"]["nmi_seeds"], [
            note for note in report["notes"] if "k-means" in note or "Clust" in note
        ]

    assert judged() == (10, [])
    monkeypatch.setattr(rule, "BUDGET", 2 * 40 * 10 * 4)
    assert judged() == (2, fewer_seeds(2, 10))
    assert judged(nmi_seeds=3) == (2, fewer_seeds(2, 3))
    assert judged(clusters=True, nmi_seeds=3) == (3, [])
    left_out = "Clusters were left out, since only a sample of the items asks; ask for clusters to have them."
    assert judged(sample_queries=20) == (0, [left_out])

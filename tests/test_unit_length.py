"""The benchmark of unit length after a map: its figures are those of the library, and distances rank by themselves."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from accord.evaluation import evaluate
from accord.geometry import normalise, squared_euclidean
from accord.types import Labelled

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
unit_length = import_module("unit_length")


def test_its_scores_are_those_of_evaluate() -> None:
    labels = torch.arange(40) % 7
    rows = normalise(torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    items = Labelled(rows, labels, torch.arange(40))
    found = evaluate(items, clusters=False).metrics
    told = unit_length.scores(rows @ rows.T, items)
    assert told == {name: pytest.approx(100 * found[name], abs=0.01) for name in ("recall@1", "map@r")}
    assert told == unit_length.scores(-squared_euclidean(rows, rows), items), "of unit vectors both rank alike"


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_is_ranked_in_both_ways(tiny_run: Path) -> None:
    found = unit_length.both_ways(tiny_run, 8)
    assert all(0 < value <= 100 for way in ("cosine", "euclidean") for value in found[way].values())
    assert found["cosine"] != found["euclidean"]

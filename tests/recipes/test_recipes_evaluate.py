"""Judging a run: what is measured, and what is said about it."""

import json
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from accord.index import ExactIndex
from accord.recipes import evaluate as judging
from accord.recipes import evaluate_run
from accord.recipes.artifacts import load_data, load_embedder, load_index
from accord.runs import RunFolder
from accord.types import Evaluation, Json, Labelled, Neighbours

CHANGING = ("created", "seconds", "peak_memory_bytes", "test_set", "notes")


def _figures(path: Path) -> Json:
    report = json.loads((path / "report.json").read_text())
    return {name: value for name, value in report.items() if name not in CHANGING} | {"data": report["data"]["sha256"]}


@pytest.mark.pretrained
def test_neighbours_in_the_report_are_those_of_a_search(tiny_run: Path) -> None:
    with RunFolder.open(tiny_run) as run:
        manifest, everything = load_data(run), load_index(run, load_embedder(run)).labelled
    test, _ = judging._unseen(everything, manifest)
    found = ExactIndex(test).search(test.embeddings, judging.NEIGHBOURS, exclude=test.ids)
    told = {query["id"]: query["neighbours"] for query in json.loads((tiny_run / "report.json").read_text())["queries"]}
    assert sorted(told) == sorted(test.ids.tolist())
    for item, ids, scores in zip(test.ids.tolist(), found.ids.tolist(), found.scores.tolist(), strict=True):
        assert [hit["id"] for hit in told[item]] == ids
        # the index keeps rows as they are if they are nearly of length one, the evaluation divides them once more
        assert [hit["score"] for hit in told[item]] == pytest.approx(scores, abs=5.1e-5)


@pytest.mark.pretrained
def test_a_report_searches_no_index_and_comes_out_the_same_again(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> NoReturn:
        raise AssertionError("the evaluation has ranked these embeddings already")

    again = tmp_path / tiny_run.name
    shutil.copytree(tiny_run, again)
    monkeypatch.setattr(ExactIndex, "search", refuse)
    evaluate_run(again)
    assert _figures(again) == _figures(tiny_run)


def test_items_that_do_not_ask_have_no_neighbours() -> None:
    test = Labelled(torch.ones(3, 2), torch.tensor([0, 1, 0]), torch.tensor([5, 9, 2]))
    asked = Neighbours(torch.tensor([[0.5, 0.25], [0.75, -torch.inf]]), torch.tensor([[5, 9], [2, -1]]))
    values = {"recall@1": torch.ones(2, dtype=torch.float64)}
    found = judging._neighbours(test, Evaluation(values, torch.tensor([2, 5]), torch.tensor([0, 0]), neighbours=asked))
    assert found.ids.tolist() == [[2, -1], [-1, -1], [5, 9]]
    assert found.scores.tolist() == [[0.75, -torch.inf], [-torch.inf, -torch.inf], [0.5, 0.25]]

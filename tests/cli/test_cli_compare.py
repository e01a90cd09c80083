"""`accord compare` as a user types it: tables, files, refusals and exit codes."""

import json
from pathlib import Path

import pytest

from made_runs import make_methods, make_run, scores


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = make_methods(tmp_path_factory.mktemp("runs"), {"triplet": 0.5, "proxy_nca": 0.56}, seeds=2)
    return [path for paths in found.values() for path in paths]


def test_prints_tables_and_verdicts(accord, runs: list[Path]) -> None:
    ended = accord("compare", *runs, "--draws", 200)
    assert ended.code == 0
    assert "triplet_margin − proxy_nca" in ended.out
    assert "worse (preliminary: fewer than five seeds)" in ended.out


def test_writes_files_that_verify_accepts(accord, runs: list[Path]) -> None:
    ended = accord("compare", *runs, "--draws", 200, "--json", "c.json", "--html", "c.html")
    assert ended.code == 0
    assert "Written: c.json" in ended.out
    assert Path("c.html").read_text().startswith("<!doctype html>")
    again = accord("compare", "--verify", "c.json")
    assert (again.code, again.out) == (0, "c.json: every figure comes out again, to the last digit.\n")
    told = json.loads(accord("compare", "--verify", "c.json", "--json", "-").out)
    assert told == {"file": "c.json", "equal": True, "unequal": []}


def test_a_changed_figure_ends_with_5(accord, runs: list[Path]) -> None:
    accord("compare", *runs, "--draws", 200, "--json", "c.json")
    document = json.loads(Path("c.json").read_text())
    document["results"]["galleries"][0]["methods"][0]["mean"] += 1e-16 * 4
    Path("c.json").write_text(json.dumps(document))
    ended = accord("compare", "--verify", "c.json")
    assert ended.code == 5
    assert "results.galleries.0.methods.0.mean" in ended.out
    assert not json.loads(accord("compare", "--verify", "c.json", "--json", "-").out)["equal"]


def test_json_alone_goes_to_stdout(accord, runs: list[Path]) -> None:
    ended = accord("compare", *runs, "--draws", 200, "--json", "-", "--quiet")
    assert json.loads(ended.out)["settings"]["draws"] == 200


def test_groups_are_named_by_the_user(accord, runs: list[Path]) -> None:
    groups = ("--group", f"old={runs[0]},{runs[1]}", "--group", f"new={runs[2]},{runs[3]}")
    ended = accord("compare", *groups, "--draws", 200, "--bar", 2, "--seed", 3)
    assert ended.code == 0
    assert "old − new" in ended.out
    assert "the bar is 2 points" in ended.out


def test_unlike_runs_are_refused_with_2_and_labelled_if_allowed(accord, runs: list[Path], tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", scores(0, 0.6), recipe="proxy_nca", steps=999, backbone="conv")
    refused = accord("compare", runs[0], other)
    assert refused.code == 2
    assert "--allow backbone,steps" in refused.said
    assert json.loads(accord("compare", runs[0], other, "--json", "-").err)["error"] == "UsageError"
    for more in (("--allow", "backbone, steps"), ("--anyway",)):
        allowed = accord("compare", runs[0], other, "--draws", 200, *more)
        assert allowed.code == 0
        assert allowed.out.startswith("Not comparable.")
        assert "not comparable: backbone, steps; " in allowed.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "Say what to compare"),
        (("nothing-here",), 5, "no run folder"),
        (("--group", "a"), 2, "write it as NAME=RUN,RUN"),
        (("--group", "a=x", "--group", "a=y"), 2, "there is a group 'a' already"),
        (("x", "--group", "a=x"), 2, "not both"),
        (("--verify", "none.json"), 5, "can't be read as JSON"),
        (("--verify", "x", "y"), 2, "give no runs beside it"),
        (("x", "--json", "no/folder/c.json"), 2, "there is no folder"),
        (("x", "--html", "."), 2, "exists already"),
    ],
)
def test_mistakes_are_told(accord, words: tuple[str, ...], code: int, said: str) -> None:
    ended = accord("compare", *words)
    assert ended.code == code
    assert said in ended.said


def test_files_are_not_overwritten_unasked(accord, runs: list[Path]) -> None:
    Path("c.json").write_text("[]")
    assert accord("compare", *runs, "--json", "c.json").code == 2
    assert accord("compare", *runs, "--json", "c.json", "--draws", 200, "--overwrite").code == 0
    Path("list.json").write_text("[]")
    assert "no JSON object" in accord("compare", "--verify", "list.json").said

"""What a run keeps of each query, and that its test images stay closed until training has ended."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.errors import ArtifactError
from accord.recipes import compare_runs, evaluate_run, read_report, resolve, train_run, verify_comparison
from accord.recipes import train as training
from accord.recipes.ledger import open_test_set, read_ledger
from accord.recipes.per_query import PER_QUERY, TUNING, facts_of, load_per_query, save_per_query
from accord.runs import RunFolder
from accord.types import Evaluation
from conformance import without_shape_checks
from made_runs import gallery, make_run, scores

TINY = ("model.size=32", "model.dim=16", "training.epochs=1", "training.classes_per_batch=4", "evaluation.nmi_seeds=1")

_opened: list[str] = []
_watching = [False]


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every file that is opened from now on; the hook itself can't be taken away again, so it is switched off."""

    def hook(event: str, details: tuple[Any, ...]) -> None:
        if _watching[0] and event == "open" and isinstance(details[0], str | bytes | Path):
            _opened.append(str(details[0]))

    sys.addaudithook(hook)
    _opened.clear()
    _watching[0] = True
    yield _opened
    _watching[0] = False


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_keeps_the_scores_that_its_report_averages(tiny_run: Path) -> None:
    run = RunFolder.open(tiny_run)
    found, report = load_per_query(run), read_report(tiny_run)
    assert PER_QUERY in json.loads((tiny_run / "manifest.json").read_text())["files"]
    for side in ("trained", "baseline"):
        for name, values in getattr(found, side).items():
            told = report["metrics" if side == "trained" else "baseline"][name]
            assert values.dtype == torch.float64
            assert float(values.mean()) == pytest.approx(told, abs=1e-6)
    items = {item["id"]: item for item in json.loads((tiny_run / "data.json").read_text())["items"]}
    names = found.facts["class_names"]
    assert [names[label] for label in found.labels.tolist()] == [items[row]["label"] for row in found.ids.tolist()]
    paths = [items[row]["path"] for row in found.ids[found.places.argsort()].tolist()]
    assert paths == sorted(paths)
    facts = found.facts
    assert facts["gallery"]["classes"] == len(names) == report["counts"]["classes"]
    assert (facts["seed"], facts["embedding_size"]) == (0, 5 * 16 + 1280)  # five heads and a share of the trunk
    assert facts["steps"] == sum("loss" in entry for entry in run.read_log())
    assert facts["training_seconds"] == pytest.approx(report["seconds"]["training"], abs=0.01)
    assert facts["weights"] == "packaged"


@pytest.mark.pretrained
@pytest.mark.slow
def test_training_opens_no_test_image_and_the_ledger_counts_once(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.setenv("ACCORD_STATE", str(tmp_path / "state"))
    teach, marks = training._teach, []

    def marked(*given: Any, **more: Any) -> None:
        marks.append(len(opened))
        teach(*given, **more)
        marks.append(len(opened))

    monkeypatch.setattr(training, "_teach", marked)
    report = train_run(resolve(file={"data": {"source": str(tiny_folder)}}, settings=TINY), tmp_path / "run")
    items = json.loads((tmp_path / "run" / "data.json").read_text())["items"]
    unseen = {str(tiny_folder / item["path"]) for item in items if item["split"] == "test"}
    begin, end = marks
    assert not unseen & set(opened[begin:end])
    assert unseen <= set(opened[end:])  # the evaluation does read them: the hook sees what it must
    assert report["test_set"]["opened"] == 1
    assert report["data"]["test_set_opened"] == "once, by 1 model"
    assert len(read_ledger(report["test_set"]["fingerprint"])) == 1

    again = evaluate_run(tmp_path / "run")
    assert (again["test_set"]["opened"], again["test_set"]["models"]) == (2, 1)
    assert again["metrics"] == report["metrics"]
    assert load_per_query(RunFolder.open(tmp_path / "run")).facts["test_set"] == again["test_set"]

    open_test_set(report["test_set"]["fingerprint"], model="another", config="c", run="elsewhere")
    third = evaluate_run(tmp_path / "run")
    assert any("opened 4 times, by 2 models" in note for note in third["notes"])
    twin = shutil.copytree(tmp_path / "run", tmp_path / "twin")
    document = compare_runs({"a": [tmp_path / "run"], "b": [twin]}, metric="recall@1", draws=200)
    assert document["results"]["galleries"][0]["differences"][0]["difference"] == 0
    assert verify_comparison(document) == []


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_ledger_that_can_not_be_written_breaks_no_run(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "state").write_text("a file where a folder should be")
    monkeypatch.setenv("ACCORD_STATE", str(tmp_path / "state"))
    report = evaluate_run(tmp_path / "run")
    assert report["test_set"]["opened"] is None
    assert any("ledger" in note for note in report["notes"])


class _Model(torch.nn.Module):
    """As much of an Embedder as facts are taken from."""

    dim = 8

    def describe(self) -> dict[str, int]:
        return {"dim": self.dim}


def _facts(run: Path, *settings: str) -> dict[str, Any]:
    config = resolve(recipe="triplet", settings=["model.size=64", *settings])
    folder = RunFolder.open(run)
    with without_shape_checks():  # which would ask for a whole Embedder
        return facts_of(folder, config, gallery(), _Model(), nmi_seeds=3, training_seconds=None)  # type: ignore[arg-type]


def test_facts_tell_where_the_weights_come_from(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", scores(0, 0.5), finished=False)
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"weights")
    assert _facts(run)["weights"] == "packaged"
    assert _facts(run, "model.pretrained=false")["weights"] == "none"
    assert _facts(run, f"model.weights={file}")["weights"].startswith("sha256 ")
    assert _facts(run, f"model.weights={tmp_path / 'gone.pth'}")["weights"] == "file gone.pth"


def test_facts_count_steps_skipped_steps_and_trials(tmp_path: Path) -> None:
    with RunFolder.open(make_run(tmp_path / "run", scores(0, 0.5), finished=False)) as run:
        for step in range(3):
            run.append_log({"step": step + 1, "loss": 0.1, "skipped": step == 1})
        run.append_log({"validation": {"step": 3, "map@r": 0.2}})
        assert _facts(run.path)["tuning"] == 0
        run.write_json(TUNING, {"trials": 20})
    found = _facts(tmp_path / "run")
    assert (found["steps"], found["skipped_steps"], found["tuning"]) == (3, 1, 20)


def test_places_agree_whatever_the_ids(tmp_path: Path) -> None:
    data = gallery(classes=3, images=2)
    renumbered = data.__class__(data.name, data.root, tuple(i._replace(id=70 - i.id) for i in data.items[::-1]))
    found = []
    for name, manifest in (("a", data), ("b", renumbered)):
        ids = torch.tensor([item.id for item in manifest.items])
        evaluation = Evaluation({"map@r": torch.rand(6).double()}, ids, torch.arange(6) // 2)
        with RunFolder.open(make_run(tmp_path / name, scores(0, 0.5), data=manifest, finished=False)) as run:
            save_per_query(run, evaluation, evaluation, manifest, {"schema_version": 1})
            found.append(load_per_query(run).places.tolist())
    assert found == [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]


def test_refuses_what_it_can_not_read(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="accord evaluate"):
        load_per_query(RunFolder.open(make_run(tmp_path / "a", scores(0, 0.5), finished=False)))
    with pytest.raises(ArtifactError, match="schema_version 9"):
        load_per_query(RunFolder.open(make_run(tmp_path / "b", scores(0, 0.5), schema_version=9)))

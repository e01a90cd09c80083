"""The process that does one run of a study: it goes on where it stopped, clears up, and tells how it ended."""

import hashlib
import io
import json
import math
import os
import sys
import threading
from pathlib import Path

import pytest
import yaml

from accord.errors import ArtifactError, ResourceError, UsageError
from accord.recipes import evaluate_run, resolve, resume_run, train_run
from accord.recipes.config import RunConfig
from accord.recipes.interrupt import StoppedError
from accord.recipes.study import worker
from accord.recipes.study.plan import Job
from accord.recipes.study.pool import order_of
from accord.recipes.study.worker import main, work
from accord.recipes.untested import read_result, read_validation
from accord.recipes.watch import Silence
from accord.runs import RunFolder
from accord.types import Json
from stopping import StopAt

pytestmark = [pytest.mark.slow]

TINY = (
    "model.size=32",
    "model.dim=16",
    "model.backbone=resnet10",
    "model.pretrained=false",
    "training.classes_per_batch=4",
    "evaluation.nmi_seeds=1",
)


def _config(folder: Path, *settings: str) -> RunConfig:
    return resolve(recipe="triplet", file={"data": {"source": str(folder)}}, settings=[*TINY, *settings])


TRIAL = ("training.steps=4", "data.fold=1", "data.folds=2", "evaluation.test=false")


def test_a_trial_leaves_the_test_closed_goes_on_after_a_stop_and_keeps_no_weights(
    tiny_folder: Path, tmp_path: Path
) -> None:
    config, out, whole = _config(tiny_folder, *TRIAL), tmp_path / "trial", tmp_path / "whole"
    with pytest.raises(StoppedError):
        work(config, out, trial=True, tuned_by=0, watch=StopAt(2))
    work(config, out, trial=True, tuned_by=0, watch=Silence())
    RunFolder.open(out).verify()
    result = train_run(config, whole)
    assert json.loads((out / "validation.json").read_text())["validation"] == result["validation"]
    assert not {"model.safetensors", "best.safetensors", "state", "report.json"} & {p.name for p in out.iterdir()}
    assert (whole / "model.safetensors").exists()
    assert not (whole / "report.json").exists()
    assert resume_run(whole) == result
    sides = {item["label"]: item["split"] for item in json.loads((whole / "data.json").read_text())["items"]}
    assert sorted(sides.values()) == ["test"] * 8 + ["train"] * 4 + ["validation"] * 4
    saved = yaml.safe_load((whole / "config.yaml").read_text())["training"]
    assert saved["steps"] is None
    assert len([row for row in RunFolder.open(whole).read_log() if "loss" in row]) == 4
    assert evaluate_run(whole)["metrics"] == read_result(whole)["metrics"]


def test_the_last_checkpoint_s_figures_are_kept_where_the_last_is_the_model(tiny_folder: Path, tmp_path: Path) -> None:
    train_run(_config(tiny_folder, *TRIAL, "training.keep=last"), tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    judged = [row["validation"] for row in run.read_log() if "validation" in row]
    assert read_validation(run) == judged[-1]


def test_a_run_that_counts_keeps_its_model_and_tells_how_often_it_was_tuned(tiny_folder: Path, tmp_path: Path) -> None:
    config = _config(tiny_folder, "training.steps=2")
    out = tmp_path / "run"
    out.mkdir()
    (out / "accord.lock").touch()  # as if it had been killed before it wrote anything
    work(config, out, trial=False, tuned_by=7, watch=Silence())
    assert json.loads((out / "tuning.json").read_text()) == {"trials": 7}
    assert not (out / "state").exists()
    before = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    work(config, out, trial=False, tuned_by=7, watch=Silence())
    assert hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest() == before
    RunFolder.open(out).verify()


def test_a_run_made_before_validation_was_kept_says_so(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "old") as run:
        run.write_text("config.yaml", "a: 1")
    with pytest.raises(ArtifactError, match=r"holds no validation\.json"):
        read_validation(run)
    with pytest.raises(ArtifactError, match="holds no report"):
        read_result(tmp_path / "old")


def test_waits_for_whoever_still_saves_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.create(tmp_path / "run")
    threading.Timer(0.3, run.close).start()
    worker._wait_until_free(run.path)
    with RunFolder.open(run.path):
        monkeypatch.setattr(worker, "PATIENCE_SECONDS", 0.0)
        with pytest.raises(ResourceError, match="in use by"):
            worker._wait_until_free(run.path)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """What a worker says that is started in this process; nobody's death is watched."""
    lines: list[Json] = []
    monkeypatch.setattr(worker, "tell", lines.append)
    monkeypatch.setattr(worker, "_follow", lambda: None)
    return lines


def _order(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    order = order_of(Job(out.name, "objects", "ours", 0, resolve()), out.parent, tuned_by=0)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(order) + "\n"))


@pytest.mark.parametrize(
    ("error", "code", "end"),
    [
        (StoppedError("stopped", number=15), 143, {"end": "stopped"}),
        (UsageError("it does not fit"), 2, {"end": "failed", "message": "it does not fit"}),
        (MemoryError("no room"), 1, {"end": "failed", "message": "MemoryError: no room"}),
        (None, 0, {"end": "finished"}),
    ],
)
def test_however_a_run_ends_it_is_told(
    error: Exception | None,
    code: int,
    end: Json,
    told: list[Json],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def does(config: RunConfig, out: Path, *, watch: Silence, **options: object) -> None:
        assert config == resolve()
        watch.say("chosen: much")
        watch.warn("careful")
        for done in range(4):
            watch.progress("training", done, 3)
        if error is not None:
            raise error

    monkeypatch.setattr(worker, "work", does)
    monkeypatch.setattr(worker, "OFTEN_SECONDS", math.inf)
    _order(monkeypatch, tmp_path)
    assert main() == code
    assert {key: told[-1][key] for key in end} == end
    assert ("trace" in told[-1]) == isinstance(error, MemoryError)
    assert told[0] == {"warning": "careful"}
    assert {"stage": "training", "done": 3, "total": 3} in told
    assert len(told) < 5


def test_words_go_out_as_lines_and_nobody_need_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(worker.os, "write", lambda _, data, write=os.write: write(writer, data))
    worker.tell({"end": "finished"})
    assert os.read(reader, 100) == b'{"end": "finished"}\n'
    os.close(reader)
    worker.tell({"end": "finished"})
    os.close(writer)


def test_the_end_of_its_starter_stops_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = threading.Event()
    monkeypatch.setattr(worker.os, "read", lambda *_, left=[b"x", b""]: left.pop(0))
    monkeypatch.setattr(worker.os, "kill", lambda *_: killed.set())
    worker._follow()
    assert killed.wait(10)

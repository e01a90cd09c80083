"""A run that was stopped or killed goes on and ends as if it had never stopped, or says why it can't."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from accord.recipes import resolve, train_run

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]

SETTINGS = (
    "model.size=32",
    "model.dim=16",
    "training.epochs=5",
    "training.classes_per_batch=4",
    "evaluation.nmi_seeds=1",
)


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train_run(resolve(file={"data": {"source": str(tiny_folder)}}, settings=SETTINGS), out)
    return out


def _start(source: Path, *words: str, cwd: Path) -> subprocess.Popen[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-m", "accord", "train", str(source), "--out", "run", *settings, *words]
    # with the one thread of the tests, in which the rest is run: on some processors the number of them decides bits
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=alone)


def _stop(process: subprocess.Popen[str], number: signal.Signals, log: Path, *, after: int) -> tuple[int, str, str]:
    """Send a signal once the log has some lines; how the process ended and what it said."""
    deadline = time.monotonic() + 100
    while not log.is_file() or len(log.read_bytes().splitlines()) < after:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run did not start in time"
        time.sleep(0.005)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def _sha256(run: Path) -> str:
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


def _steps(run: Path) -> list[int]:
    rows = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [row["step"] for row in rows if "step" in row]


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [(signal.SIGTERM, 143, ["--quiet"]), (signal.SIGINT, 130, ["--json"]), (signal.SIGKILL, -9, [])],
)
def test_a_run_that_was_stopped_from_outside_ends_as_if_it_had_not_been(
    number: signal.Signals, code: int, words: list[str], accord, tiny_folder: Path, whole: Path
) -> None:
    process = _start(tiny_folder, *words, cwd=Path.cwd())
    ended, out, err = _stop(process, number, Path("run/log.jsonl"), after=2)
    assert (ended, out) == (code, "")
    assert "Traceback" not in err
    if number != signal.SIGKILL:
        last = json.loads(err.splitlines()[-1])["message"] if "--json" in words else err
        assert "everything is saved" in last
        assert "accord train --resume run" in last
    assert "no model" in accord("search", "run", "x.jpg").err
    done = accord("train", "--resume", "run", "--json")
    assert done.code == 0
    assert _sha256(Path("run")) == _sha256(whole)
    assert _steps(Path("run")) == _steps(whole)
    assert json.loads(done.out)["metrics"] == json.loads((whole / "report.json").read_text())["metrics"]


def test_a_finished_run_is_left_alone(accord, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    done = accord("train", "--resume", whole, "--json")
    assert done.code == 0
    assert "this run is finished" in done.err
    assert json.loads(done.out)["metrics"] == json.loads((whole / "report.json").read_text())["metrics"]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def _unfinished(whole: Path, name: str = "run") -> Path:
    """A copy that looks as if it had been stopped before the model was written."""
    shutil.copytree(whole, name)
    (Path(name) / "manifest.json").unlink()
    return Path(name)


def test_the_state_of_another_configuration_is_refused(accord, whole: Path) -> None:
    run = _unfinished(whole)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("seed: 0\n  rates", "seed: 7\n  rates"))
    done = accord("train", "--resume", run)
    assert done.code == 5
    assert "training.seed differ" in done.err
    (run / "config.yaml").write_text(text.replace("device: auto", "device: cpu"))
    assert accord("train", "--resume", run, "--quiet").code == 0, "the device may change"


def test_the_state_of_another_model_is_refused(accord, tiny_folder: Path, whole: Path) -> None:
    run = _unfinished(whole)
    other = resolve(
        file={"data": {"source": str(tiny_folder)}}, settings=[*SETTINGS, "model.dim=24", "training.epochs=1"]
    )
    train_run(other, Path("other"))
    shutil.rmtree(run / "state")
    shutil.copytree("other/state", run / "state")
    before = _sha256(run)
    done = accord("train", "--resume", run)
    assert done.code == 5
    assert "belongs to another configuration" in done.err
    assert _sha256(run) == before


def test_a_damaged_state_is_named(accord, whole: Path) -> None:
    run = _unfinished(whole)
    for state in (run / "state").glob("*.safetensors"):
        state.write_bytes(state.read_bytes()[:100])
    done = accord("train", "--resume", run)
    assert done.code == 5
    assert "No saved state in run/state can be trusted" in done.err
    assert ".safetensors is not what was saved" in done.err


def test_images_that_have_moved_or_changed_are_named(accord, tiny_folder: Path, whole: Path, tmp_path: Path) -> None:
    run = _unfinished(whole)
    shutil.rmtree(run / "state")  # as if it had been killed before the first save
    shutil.copytree(tiny_folder, tmp_path / "moved")
    table = (run / "data.json").read_text()
    (run / "data.json").write_text(table.replace(str(tiny_folder), str(tmp_path / "gone")))
    done = accord("train", "--resume", run)
    assert done.code == 3
    assert f"lay at {tmp_path / 'gone'}" in done.err
    (run / "data.json").write_text(table.replace(str(tiny_folder), str(tmp_path / "moved")))
    items = json.loads(table)["items"]
    culprit = next(item["path"] for item in items if item["split"] == "train")
    (tmp_path / "moved" / culprit).write_bytes((tiny_folder / items[-1]["path"]).read_bytes())
    assert f"{culprit}: the file has changed" in accord("train", "--resume", run).err
    (tmp_path / "moved" / culprit).unlink()
    done = accord("train", "--resume", run)
    assert done.code == 3
    assert f"{culprit}: the file is gone" in done.err


def test_resume_takes_a_run_and_nothing_beside_it(accord, tiny_folder: Path, whole: Path) -> None:
    Path("empty").mkdir()
    Path("file").write_text("x")
    for path in ("empty", "file", "none", str(tiny_folder)):
        done = accord("train", "--resume", path)
        assert done.code == 5
        assert f"{path} is no run folder" in done.err
    for words in (["--epochs", "3"], ["--out", "x"], ["--set", "training.seed=1"], ["--overwrite"], [str(tiny_folder)]):
        assert accord("train", "--resume", whole, *words).code == 2

"""`accord study`, as a user types it: a whole study, its status, its JSON, what it refuses, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from accord.recipes.study import pool
from accord.types import Json

pytestmark = [pytest.mark.slow]
STUB = Path(__file__).parent.parent / "study_stub.py"


def _study(source: Path, **more: object) -> Path:
    study: Json = {
        "name": "small",
        "base": {
            "model": {"size": 32, "dim": 16, "backbone": "resnet10", "pretrained": False},
            "training": {"classes_per_batch": 4},
            "evaluation": {"nmi_seeds": 1},
        },
        "data": str(source),
        "arms": ["triplet", "proxy_nca"],
        "seeds": 1,
        "steps": 24,
        **more,
    }
    Path("study.yaml").write_text(yaml.safe_dump(study))
    return Path("study.yaml")


def test_a_study_stopped_by_ctrl_c_goes_on_where_it_was(accord, tiny_folder: Path) -> None:
    file = _study(tiny_folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "accord", "study", str(file), "--workers", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = Path(f"studies/small/runs/{tiny_folder.name}/triplet/seed-0/log.jsonl")
    _wait(process, lambda: log.is_file() and len(log.read_bytes().splitlines()) > 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert (process.returncode, out) == (130, "")
    assert "Stopped with 0 of 2 runs done; everything is saved." in json.loads(err.splitlines()[-1])["message"]
    steps = len([row for row in map(json.loads, log.read_text().splitlines()) if "loss" in row])
    assert 2 <= steps < 24
    assert json.loads(accord("study", file, "--status", "--json").out)["counts"]["left"] == 2

    done = accord("study", file, "--workers", "2", "--json")
    assert done.code == 0, done.err
    results = json.loads(done.out)
    assert results["complete"]
    numbers = [row["step"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert numbers == list(range(1, 25))
    assert [row["arm"] for row in results["table"]] == ["triplet", "proxy_nca"]
    assert results["comparison"]["file"] == "compare.json"
    assert accord("compare", "--verify", "studies/small/compare.json").code == 0
    assert "triplet" in Path("studies/small/compare.html").read_text()
    assert "preliminary" in results["comparison"]["verdicts"][0]["verdict"]
    shown = accord("study", file)
    assert "2 of 2 runs finished, 0 failed" in shown.said
    assert "triplet against proxy_nca" in shown.said


def _wait(process: subprocess.Popen[str], condition, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def test_a_dry_run_and_its_json(accord, tiny_folder: Path) -> None:
    file = _study(tiny_folder, tune={"trials": 2, "search": {"training.warmup": {"uniform": [0, 0.5]}}})
    shown = accord("study", file, "--dry-run")
    assert shown.code == 0
    assert "Seeds 0, 2 trials for each arm on each data set: 10 runs in studies/small. Nothing was run." in shown.said
    assert "recipe=proxy_nca" in shown.said
    assert json.loads(accord("study", file, "--dry-run", "--json").out)["runs"] == 10
    assert not Path("studies").exists()


def test_failures_are_shown_and_make_the_exit_code_1(
    accord, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "behaviour.json").write_text(json.dumps({"": "fail"}))
    monkeypatch.setenv("STUDY_STUB", str(tmp_path))
    monkeypatch.setattr(pool, "WORKER", (sys.executable, "-S", str(STUB)))
    file = _study(tiny_folder)
    done = accord("study", file, "--quiet")
    assert done.code == 1
    assert "failed: runs/" in done.out
    assert "it went wrong" in done.out
    assert "not compared: an arm has no run" in done.said
    assert accord("study", file, "--status").code == 0
    assert json.loads(accord("study", file, "--json").out)["counts"]["failed"] == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--dry-run", "--status"], 2, "Give one of them"),
        (["--status", "--again"], 2, "are for running a study"),
        (["--dry-run", "--workers", "2"], 2, "are for running a study"),
        (["--status"], 2, "There is no study in studies/small yet"),
        (["--workers", "0"], 2, "--workers must be at least 1. Got 0."),
    ],
)
def test_options_that_do_not_fit_are_refused(words: list[str], code: int, told: str, accord, tiny_folder: Path) -> None:
    done = accord("study", _study(tiny_folder), *words)
    assert done.code == code
    assert told in done.said


def test_wrong_files_are_refused_in_json_too(accord, tiny_folder: Path) -> None:
    done = accord("study", "none.yaml", "--json")
    assert done.code == 2
    assert "none.yaml can't be read" in json.loads(done.err)["message"]
    done = accord("study", _study(tiny_folder, sedes=3))
    assert done.code == 2
    assert "Did you mean 'seeds'" in done.said
    done = accord("study", _study(tiny_folder / "nowhere"))
    assert done.code == 3
    assert os.listdir() == ["study.yaml"]

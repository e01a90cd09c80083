"""A study does every run once, side by side, goes on wherever it stopped, and leaves nothing out."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from accord.errors import AccordError, ResourceError, UsageError
from accord.recipes.interrupt import StoppedError
from accord.recipes.study import pool
from accord.recipes.study.folder import own_folder
from accord.recipes.study.run import plan_study, run_study, study_status
from accord.recipes.watch import Silence
from accord.runs import RunFolder
from accord.types import Json

STUB = Path(__file__).parent.parent / "study_stub.py"
BASE = {
    "model": {"size": 32, "dim": 16, "backbone": "resnet10", "pretrained": False},
    "training": {"classes_per_batch": 4},
}


class Bench:
    """A study file, the stand-in's orders, and what it was told to do."""

    def __init__(self, root: Path, source: Path) -> None:
        self.root, self.stub = root, root / "stub"
        self.stub.mkdir()
        self.file, self.out = root / "study.yaml", root / "out"
        self.study: Json = {
            "name": "s",
            "base": BASE,
            "data": {"name": "things", "source": str(source)},
            "arms": ["triplet", "proxy_nca"],
            "seeds": 2,
            "epochs": 1,
        }
        self.behave({})
        for name, score in {"finish": 0.5, "score 1": 0.1, "score 2": 0.2, "score 3": 0.3}.items():
            self._finished(name, score)

    def behave(self, rules: Mapping[str, str]) -> None:
        (self.stub / "behaviour.json").write_text(json.dumps(rules))

    def run(self, *, workers: int = 2, **more: Any) -> Json:
        self.file.write_text(json.dumps(self.study))
        return run_study(self.file, out=self.out, workers=workers, **more)

    def started(self) -> Counter[str]:
        path = self.stub / "started.txt"
        return Counter(path.read_text().splitlines() if path.exists() else [])

    def order(self, name: str) -> Json:
        return json.loads((self.stub / "orders" / name.replace("/", "+")).read_text())

    def _finished(self, name: str, score: float) -> None:
        with RunFolder.create(self.stub / name) as run:
            metrics = {"recall@1": score, "map@r": score}
            run.write_json("validation.json", {"validation": {"step": 1, **metrics}})
            run.write_json("report.json", {"metrics": metrics, "seconds": {"training": 2.0}})
            run.seal()


@pytest.fixture
def bench(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path, tiny_folder)
    monkeypatch.setenv("STUDY_STUB", str(made.stub))
    monkeypatch.setattr(pool, "WORKER", (sys.executable, "-S", str(STUB)))
    return made


NAMES = {f"runs/things/{arm}/seed-{seed}" for arm in ("triplet", "proxy_nca") for seed in (0, 1)}


def test_every_run_is_done_once_and_never_again(bench: Bench) -> None:
    results = bench.run()
    assert bench.started() == Counter(NAMES)
    assert results["counts"] == {"runs": 4, "finished": 4, "failed": 0, "blocked": 0, "left": 0}
    assert results["complete"]
    row = results["table"][0]
    assert (row["data"], row["arm"], row["mean"]["map@r"], row["deviation"]["map@r"]) == ("things", "triplet", 0.5, 0.0)
    assert row["mean"]["validation recall@1"] == 0.5
    assert [run["seed"] for run in row["seeds"]] == [0, 1]
    assert bench.run()["table"] == results["table"]
    assert bench.started() == Counter(NAMES)
    assert json.loads((bench.out / "results.json").read_text())["table"] == results["table"]
    assert study_status(bench.file, out=bench.out)["table"] == results["table"]


def test_each_run_has_its_own_seed_and_the_common_length(bench: Bench) -> None:
    bench.run()
    orders = [bench.order(name)["config"] for name in sorted(NAMES)]
    assert [order["training"]["seed"] for order in orders] == [0, 1, 0, 1]
    assert {order["training"]["epochs"] for order in orders} == {1.0}
    assert not any(bench.order(name)["trial"] for name in NAMES)


def test_runs_that_fail_are_counted_and_told_and_only_tried_again_when_asked(bench: Bench) -> None:
    bench.behave({"triplet/seed-1": "fail"})
    watch = _Words()
    results = bench.run(watch=watch)
    assert results["counts"]["failed"] == 1
    row = results["table"][0]
    assert (row["finished"], row["failed"], row["seeds"][1]["message"]) == (1, 1, "it went wrong")
    assert any("triplet/seed-1 failed: it went wrong" in text for text in watch.warned)
    assert "runs/things/triplet/seed-1: it looks bad" in watch.warned
    assert row["deviation"]["map@r"] is None
    bench.behave({})
    assert bench.run()["counts"]["failed"] == 1
    assert bench.run(again=True)["counts"] == {"runs": 4, "finished": 4, "failed": 0, "blocked": 0, "left": 0}
    assert bench.started()["runs/things/triplet/seed-1"] == 2
    assert sum(bench.started().values()) == 5


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        ("die", "was killed by SIGKILL. Perhaps memory ran out"),
        ("crash", "ended with exit code 1.\n  out of luck"),
        ("lie", "says it is finished, and its folder is not finished"),
    ],
)
def test_a_process_that_can_not_tell_of_its_end_has_failed(behaviour: str, told: str, bench: Bench) -> None:
    bench.behave({"triplet/seed-0": behaviour})
    results = bench.run()
    assert results["counts"]["finished"] == 3
    assert told in results["table"][0]["seeds"][0]["message"]


def test_a_run_that_was_stopped_from_outside_goes_on_next_time(bench: Bench) -> None:
    bench.behave({"triplet/seed-0": "stop"})
    with pytest.raises(StoppedError, match=r"3 of 4 runs done.*\n.*same command") as stopped:
        bench.run()
    assert stopped.value.exit_code == 143
    bench.behave({})
    assert bench.run()["counts"]["finished"] == 4


class _Words(Silence):
    """Remembers what was said, and sends a signal when so many runs have reached a stage."""

    def __init__(self, *, signal_at: str = "", runs: int = 1) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []
        self.stages: list[str] = []
        self.signal_at, self.awaited = signal_at, runs

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def progress(self, stage: str, done: int, total: int, facts: Mapping[str, str] | None = None) -> None:
        self.stages.append(stage)
        if self.signal_at and self.signal_at in stage:
            self.awaited -= 1
            if not self.awaited:
                signal.raise_signal(signal.SIGINT)


def test_ctrl_c_stops_the_runs_and_the_same_command_goes_on(bench: Bench) -> None:
    bench.behave({"seed-1": "hang"})
    watch = _Words(signal_at="seed-1: embedding", runs=2)  # both workers hang, so both others are done
    with pytest.raises(StoppedError, match="2 of 4 runs done") as stopped:
        bench.run(watch=watch)
    assert stopped.value.exit_code == 130
    assert "stopping: the runs at work save what they have" in watch.said
    assert study_status(bench.file, out=bench.out)["counts"]["left"] == 2
    bench.behave({})
    assert bench.run()["counts"]["finished"] == 4
    assert max(bench.started().values()) == 2


def test_a_study_that_is_killed_takes_its_runs_with_it(bench: Bench, tmp_path: Path) -> None:
    bench.behave({"seed-1": "hang"})
    bench.file.write_text(json.dumps(bench.study))
    code = (
        "import sys; from pathlib import Path; from accord.recipes import run_study\n"
        "from accord.recipes.study import pool\n"
        f"pool.WORKER = (sys.executable, '-S', {str(STUB)!r})\n"
        f"run_study(Path({str(bench.file)!r}), out=Path({str(bench.out)!r}), workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    _wait(lambda: sum(bench.started().values()) == 4)
    with pytest.raises(ResourceError, match=f"in use by process {process.pid}"):
        bench.run()
    process.kill()
    process.wait()
    bench.behave({})
    assert bench.run()["counts"]["finished"] == 4
    assert all(count == (2 if "seed-1" in name else 1) for name, count in bench.started().items())
    _wait(lambda: not _processes(STUB))


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def _processes(script: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(script) in line and f"{os.getpid()}" not in line]


def test_a_changed_study_is_refused_with_what_changed(bench: Bench) -> None:
    bench.run()
    bench.study["epochs"] = 2
    with pytest.raises(UsageError, match=r"seed-0: training\.epochs: 1\.0 → 2\.0") as error:
        bench.run()
    assert "no longer fit" in str(error.value)
    bench.study["epochs"], bench.study["seeds"] = 1, 1
    with pytest.raises(UsageError, match=r"triplet/seed-1: is there, and the study no longer asks for it"):
        bench.run()
    bench.study["seeds"] = 3
    assert bench.run()["counts"]["finished"] == 6
    assert sum(bench.started().values()) == 6


def test_a_study_goes_on_with_a_version_that_has_more_options(bench: Bench) -> None:
    bench.run()
    for path in (bench.out / "planned").rglob("*.json"):
        config = json.loads(path.read_text())
        del config["training"]["clip_norm"]
        path.write_text(json.dumps(config))
    assert bench.run()["counts"]["finished"] == 4
    path.write_text(json.dumps({**config, "an_option_of_another_version": 1}))
    with pytest.raises(UsageError, match="an_option_of_another_version: 1 → None"):
        bench.run()


def test_many_changes_are_told_in_short(bench: Bench) -> None:
    bench.study["seeds"] = 5
    bench.run()
    bench.study["epochs"] = 2
    with pytest.raises(UsageError, match=r"… and 2 more"):
        bench.run()


TUNE: Json = {"trials": 3, "folds": 2, "search": {"training.rates.trunk": {"log_uniform": [1e-5, 1e-2]}}}


def test_tuning_takes_the_best_mean_over_folds_and_never_opens_the_test(bench: Bench) -> None:
    bench.study |= {"tune": TUNE, "seeds": 1}
    bench.behave({"trial-1-": "score 2", "triplet/trial-2-fold-0": "score 3", "trial-": "score 1"})
    results = bench.run()
    assert results["counts"]["runs"] == 2 * (3 * 2 + 1)
    tuned = {row["arm"]: row for row in results["tuning"]}
    assert [trial["score"] for trial in tuned["proxy_nca"]["trials"]] == pytest.approx([0.1, 0.2, 0.1])
    assert [trial["score"] for trial in tuned["triplet"]["trials"]] == pytest.approx([0.1, 0.2, 0.2])
    assert [row["best"] for row in results["tuning"]] == [1, 1], "the earlier one of two that are equal"
    for arm, row in tuned.items():
        final = bench.order(f"runs/things/{arm}/seed-0")
        assert final["config"]["training"]["rates"]["trunk"] == row["settings"]["training.rates.trunk"]
        assert final["config"]["evaluation"]["test"]
        assert (final["tuned_by"], final["trial"]) == (3, False)
        trial = bench.order(f"tuning/things/{arm}/trial-1-fold-1")
        assert not trial["config"]["evaluation"]["test"]
        assert (trial["config"]["data"]["fold"], trial["config"]["data"]["folds"]) == (1, 2)
        assert (trial["tuned_by"], trial["trial"]) == (0, True)
    started = list(bench.started())
    assert max(place for place, name in enumerate(started) if name.startswith("tuning")) < len(started) - 1
    assert all(name.startswith("tuning") for name in started[:10])


def test_a_trial_that_failed_is_no_candidate_and_not_made_up_for(bench: Bench) -> None:
    bench.study |= {"tune": TUNE, "seeds": 1}
    bench.behave({"trial-2-fold-1": "fail", "trial-2": "score 3", "trial-1": "score 2", "trial-0": "score 1"})
    results = bench.run()
    assert [row["best"] for row in results["tuning"]] == [1, 1]
    assert [trial["failed"] for trial in results["tuning"][0]["trials"]] == [0, 0, 1]
    assert results["counts"]["failed"] == 2
    bench.behave({"trial-2": "score 3"})
    with pytest.raises(UsageError, match=r"runs/things/\S+/seed-0: training\.rates\.trunk"):
        bench.run(again=True)


def test_an_arm_whose_trials_all_failed_is_blocked_and_counted(bench: Bench) -> None:
    bench.study |= {"tune": TUNE, "seeds": 2}
    bench.behave({"triplet/trial": "fail", "trial": "score 1"})
    results = bench.run()
    assert results["counts"] == {"runs": 16, "finished": 8, "failed": 6, "blocked": 2, "left": 0}
    assert results["table"][0]["failed"] == 2
    assert "all of its trials failed" in results["table"][0]["seeds"][0]["message"]
    assert results["comparison"] == {"file": None, "why": "an arm has no run that could be compared"}


def test_proposals_that_learn_come_one_after_the_other(bench: Bench) -> None:
    pytest.importorskip("optuna")
    bench.study |= {"arms": ["triplet"], "seeds": 1, "tune": {**TUNE, "trials": 12, "sampler": "tpe"}}
    bench.behave({"trial-[3-5]-": "score 3", "trial-": "score 1"})
    results = bench.run(workers=4)
    order = [name.split("/")[3] for name in (bench.stub / "started.txt").read_text().splitlines()]
    assert order[:24] == sorted(order[:24], key=lambda name: int(name.split("-")[1]))
    assert len({str(trial["settings"]) for trial in results["tuning"][0]["trials"]}) == 12
    assert results["comparison"]["why"] == "there is one arm, and nothing to compare it with"


def test_seeds_take_the_folds_in_turn_or_each_takes_all(bench: Bench) -> None:
    bench.study |= {"arms": ["triplet"], "seeds": 3, "folds": 2}
    bench.run()
    folds = [
        bench.order(f"runs/things/triplet/seed-{seed}-fold-{seed % 2}")["config"]["data"]["fold"] for seed in range(3)
    ]
    assert folds == [0, 1, 0]
    bench.out = bench.root / "all"
    bench.study |= {"every_fold": True, "seeds": 2}
    assert bench.run()["counts"]["runs"] == 4
    names = [f"runs/things/triplet/seed-{seed}-fold-{fold}" for seed in (0, 1) for fold in (0, 1)]
    assert [bench.order(name)["config"]["training"]["seed"] for name in names] == [0, 1, 2, 3]


def test_a_folder_of_something_else_is_not_touched(bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="holds files that are no study"):
        bench.run()
    assert [path.name for path in bench.out.iterdir()] == ["mine.txt"]


def test_what_can_be_refused_is_refused_before_the_folder_is_made(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"--workers must be at least 1\. Got 0"):
        bench.run(workers=0)
    bench.study["data"] = {"source": "objets"}
    with pytest.raises(AccordError, match="Did you mean 'objects'"):
        bench.run()
    bench.study["data"] = {"source": str(bench.root / "nowhere")}
    with pytest.raises(AccordError, match="nowhere"):
        bench.run()
    assert not bench.out.exists()


def test_folds_that_the_data_can_not_fill_are_refused_at_once(bench: Bench) -> None:
    bench.study |= {"folds": 5}
    with pytest.raises(AccordError, match=r"'things' can't be used.\n.*5 folds"):
        bench.run()
    bench.study |= {"folds": 2, "data": {**bench.study["data"], "test": 0.0}}
    with pytest.raises(AccordError, match="no unseen classes"):
        bench.run()


def test_a_dry_run_tells_the_plan_and_writes_nothing(bench: Bench) -> None:
    bench.study |= {"tune": TUNE, "folds": 2}
    bench.file.write_text(json.dumps(bench.study))
    plan = plan_study(bench.file, out=bench.out)
    assert plan["runs"] == 2 * (3 * 2 + 2)
    assert plan["data"] == [{"data": "things", "images": 96, "training_classes": 8, "test_classes": 8}]
    assert [arm["losses"] for arm in plan["arms"]] == [["triplet_margin"], ["proxy_nca"]]
    assert not bench.out.exists()


def test_the_status_of_nothing_is_refused(bench: Bench) -> None:
    bench.file.write_text(json.dumps(bench.study))
    with pytest.raises(UsageError, match="There is no study in"):
        study_status(bench.file, out=bench.out)
    bench.run()
    bench.study["data"] = [bench.study["data"], "objects"]
    bench.file.write_text(json.dumps(bench.study))
    with pytest.raises(UsageError, match="without the data set 'objects'"):
        study_status(bench.file, out=bench.out)


def test_a_folder_belongs_to_one_study_at_a_time(bench: Bench) -> None:
    bench.run()
    with own_folder(bench.out), pytest.raises(ResourceError, match="in use by"):
        bench.run()


def test_a_damaged_run_is_named_and_not_counted(bench: Bench) -> None:
    bench.run()
    report = bench.out / "runs/things/triplet/seed-0/report.json"
    report.write_bytes(report.read_bytes().replace(b"0.5", b"0.9"))
    with pytest.raises(AccordError, match=r"seed-0.*report\.json"):
        bench.run()

"""The process that does one run of a study: told what to do on stdin, it says on stdout how far it is.

Its stdin stays open as long as whoever started it lives; when it ends, the run is saved and stops, as by SIGTERM.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from accord.errors import AccordError, ResourceError
from accord.recipes.artifacts import DATA, load_config
from accord.recipes.config import RunConfig
from accord.recipes.interrupt import StoppedError
from accord.recipes.resolve import validate
from accord.recipes.study.compressed import compress_arm
from accord.recipes.study.config import CompressArm
from accord.recipes.train import resume_run, train_run
from accord.recipes.watch import Watch
from accord.runs import RunFolder
from accord.types import Json

OFTEN_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
BULKY = ("state", "best.safetensors", "model.safetensors")


class _Teller:
    """A watch whose words are lines of JSON on stdout."""

    def __init__(self) -> None:
        self.told = 0.0

    def say(self, text: str) -> None:
        """Nobody reads what each of a hundred runs chose; its configuration keeps it."""

    def warn(self, text: str) -> None:
        """What the user should not miss."""
        tell({"warning": text})

    def progress(self, stage: str, done: int, total: int, facts: Mapping[str, str] | None = None) -> None:
        """How far the run is, a few times a second."""
        now = time.perf_counter()
        if done >= total or now - self.told > OFTEN_SECONDS:
            self.told = now
            tell({"stage": stage, "done": done, "total": total})


def tell(entry: Json) -> None:
    """One line of JSON for whoever started us, who may be gone."""
    with suppress(OSError):
        os.write(1, json.dumps(entry).encode() + b"\n")


def work(config: RunConfig, out: Path, *, trial: bool, tuned_by: int, watch: Watch, is_source: bool = False) -> None:
    """Do a run, or go on with it; then clear away what only a stopped run needs, and of a trial the weights, too.

    One that others are made of (`is_source`) keeps what its trunk saw, until the study clears it away.
    """
    if _has_begun(out):
        _wait_until_free(out)
        # the study's file names the code, and whoever runs the study has read it; the run must name the same
        trusted = load_config(RunFolder.open(out)).model.backbone == config.model.backbone
        resume_run(out, watch=watch, allow_imports=trusted, keep_features=is_source)
    else:
        tuning = {"trials": tuned_by} if tuned_by else None
        train_run(config, out, watch=watch, overwrite=out.exists(), tuning=tuning, keep_features=is_source)
    with RunFolder.open(out) as run:
        for name in BULKY if trial else BULKY[:1]:
            run.drop(name)
        run.seal()


def _has_begun(out: Path) -> bool:
    """Whether there is a run to go on with; one that was killed before it wrote its data begins anew."""
    return (out / DATA).is_file()


def _wait_until_free(out: Path) -> None:
    """The worker of a study that was killed needs a moment to save its run and to let go of it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with RunFolder.open(out):
                return
        except ResourceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _follow() -> None:
    """Stop, as if asked to, when stdin ends: whoever started us is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=wait, daemon=True).start()


def _do(job: Mapping[str, Any], watch: Watch) -> None:
    config, out = validate(job["config"]), Path(job["out"])
    if job["compress"] is None:
        how = {key: job[key] for key in ("trial", "tuned_by", "is_source")}
        work(config, out, **how, watch=watch)
    else:
        arm = CompressArm.model_validate(job["compress"])
        compress_arm(arm, Path(job["of"]), out, seed=config.training.seed, watch=watch)


def main() -> int:
    """Do the job that stdin describes; say how it ended, and return the exit code."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    _follow()
    torch.set_num_threads(1)
    try:
        _do(job, _Teller())
    except StoppedError as error:
        tell({"end": "stopped"})
        return error.exit_code
    except AccordError as error:
        tell({"end": "failed", "message": str(error)})
        return error.exit_code
    except Exception as error:  # one run's misfortune, whatever it is, is not the study's end
        tell({"end": "failed", "message": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()})
        return 1
    tell({"end": "finished"})
    return 0


if __name__ == "__main__":
    sys.exit(main())

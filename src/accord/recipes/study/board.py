"""Tells how a study goes: one bar for all of it, a line for each run at work, a sentence for each that ended."""

import time

from accord.recipes.study.plan import Job
from accord.recipes.study.schedule import FAILED, Outcome
from accord.recipes.watch import Watch
from accord.types import Json

TRAINING = 0.8  # what training takes of a run's time, about; only the guess of the time left depends on it


class Board:
    """Draws a study on a watch."""

    def __init__(self, watch: Watch, *, done: int, total: int) -> None:
        self.watch, self.done, self.total = watch, done, total
        self.begin, self.done_before, self.failed = time.monotonic(), done, 0
        self._at: dict[str, tuple[str, int, int]] = {}
        self.draw()

    def draw(self) -> None:
        """The bar of the study."""
        self.watch.progress("study", self.done, self.total, self._facts())

    def moved(self, job: Job, entry: Json) -> None:
        """A run told how far it is, or warned."""
        if "warning" in entry:
            self.watch.warn(f"{job.name}: {entry['warning']}")
            return
        stage, done, total = entry["stage"], entry["done"], entry["total"]
        if self._at.get(job.name, (stage,))[0] != stage:
            self._close(job)
        self._at[job.name] = (stage, done, total)
        self.watch.progress(f"{job.name}: {stage}", done, total, self._facts())
        self.draw()

    def ended(self, job: Job, outcome: Outcome, *, done: int) -> None:
        """A run ended, well or badly; `done` are over now."""
        self._close(job)
        self.done = done
        place = f"[{self.done}/{self.total}] {job.name}"
        if outcome.state == FAILED:
            self.failed += 1
            self.watch.warn(f"{place} failed: {outcome.message}")
        else:
            self.watch.say(f"{place}: {_figures(outcome)}")
        self.draw()

    def stopped(self, job: Job) -> None:
        """A run was stopped, and will go on another time."""
        self._close(job)

    def close(self) -> None:
        """Take all bars away."""
        for stage, _, total in [(f"{name}: {at[0]}", *at[1:]) for name, at in self._at.items()]:
            self.watch.progress(stage, total, total)
        self.watch.progress("study", self.total, self.total)

    def _close(self, job: Job) -> None:
        if job.name in self._at:
            stage, _, total = self._at.pop(job.name)
            self.watch.progress(f"{job.name}: {stage}", total, total)

    def _facts(self) -> dict[str, str]:
        """The time left, from the pace since the study was started, and how many runs failed."""
        running = sum(
            TRAINING * done / max(total, 1) for stage, done, total in self._at.values() if stage == "training"
        )
        finished = self.done - self.done_before + running
        facts = {"failed": str(self.failed)} if self.failed else {}
        if finished < 0.2:
            return facts
        left = (self.total - self.done_before - finished) * (time.monotonic() - self.begin) / finished
        return {"time left, about": duration(left), **facts}


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _figures(outcome: Outcome) -> str:
    validation = outcome.validation or {}
    told = [
        f"{name} {100 * found[key]:.1f} %"
        for found, words in ((outcome.metrics, ""), (validation, "validation "))
        for key, name in (("recall@1", f"{words}R@1"), ("map@r", f"{words}MAP@R"))
        if key in found
    ]
    return ", ".join([*told, duration(outcome.seconds)])

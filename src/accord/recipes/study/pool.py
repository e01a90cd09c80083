"""Runs of a study side by side, each in a process of its own with one thread; all stop when the study does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple

from accord.recipes.study.plan import Job
from accord.types import Json

WORKER = (sys.executable, "-m", "accord.recipes.study.worker")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
GRACE_SECONDS = 60.0
STOPPED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Event(NamedTuple):
    """What a run said: how far it is, a warning, or how it ended (`end`: finished, stopped or failed)."""

    job: Job
    entry: Json


def order_of(job: Job, folder: Path, *, tuned_by: int) -> Json:
    """What the process of a run is told to do."""
    return {
        "config": job.config.model_dump(mode="json"),
        "out": str(folder / job.name),
        "trial": job.trial is not None,
        "tuned_by": tuned_by,
        "is_source": job.is_source,
        "of": None if job.of is None else str(folder / job.of),
        "compress": None if job.compress is None else job.compress.model_dump(mode="json"),
    }


class Child:
    """One run's process, and a thread that passes on what it says."""

    def __init__(self, job: Job, folder: Path, *, tuned_by: int, inbox: SimpleQueue[Event]) -> None:
        self.job, self.inbox = job, inbox
        self.stray: deque[str] = deque(maxlen=20)
        self.begin = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own program, and no shell
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the study, which then stops its runs one time each
            env={**os.environ, **ONE_THREAD},
        )
        order = order_of(job, folder, tuned_by=tuned_by)
        assert self.process.stdin is not None, "stdin is a pipe"
        with suppress(OSError):  # a process that died at once is told of by its end
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        self.listener = Thread(target=self._listen, daemon=True)
        self.listener.start()

    def stop(self) -> None:
        """Ask it to save and stop."""
        if self.process.poll() is None:
            self.process.terminate()

    def _listen(self) -> None:
        assert self.process.stdout is not None, "stdout is a pipe"
        assert self.process.stdin is not None, "stdin is a pipe"
        end: Json = {}
        with self.process.stdout as said:
            for line in said:
                entry = _entry(line)
                if entry is None:
                    self.stray.append(line.decode(errors="replace").rstrip())
                elif "end" in entry:
                    end = entry
                else:
                    self.inbox.put(Event(self.job, entry))
        code = self.process.wait()
        with suppress(OSError):  # here and not before: its end tells the run to stop
            self.process.stdin.close()
        self.inbox.put(Event(self.job, {**(end or self._died(code)), "seconds": time.monotonic() - self.begin}))

    def _died(self, code: int) -> Json:
        """The end of a process that could not tell of it."""
        if -code in STOPPED:
            return {"end": "stopped"}
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " Perhaps memory ran out: try fewer --workers." if code == -signal.SIGKILL else ""
        last = f"\n  {self.stray[-1]}" if self.stray else ""
        return {"end": "failed", "message": f"The process {how}.{hint}{last}", "trace": "\n".join(self.stray)}


def _entry(line: bytes) -> Json | None:
    """What a run says is an object in JSON; whatever else appears comes from a library."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


class Pool:
    """The processes at work now."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.children: dict[str, Child] = {}
        self._inbox: SimpleQueue[Event] = SimpleQueue()

    @property
    def free(self) -> int:
        """How many more may be started."""
        return self.workers - len(self.children)

    def start(self, job: Job, *, tuned_by: int = 0) -> None:
        """Begin a run, or go on with it."""
        self.children[job.name] = Child(job, self.folder, tuned_by=tuned_by, inbox=self._inbox)

    def next(self, seconds: float) -> Event | None:
        """The next thing a run says; None if all are silent for so long."""
        try:
            event = self._inbox.get(timeout=seconds)
        except Empty:
            return None
        if "end" in event.entry:
            self.children.pop(event.job.name)
        return event

    def stop(self) -> None:
        """Ask all to save and stop, and wait; whoever takes more than a minute is killed, and goes on from its save."""
        for child in self.children.values():
            child.stop()
        deadline = time.monotonic() + GRACE_SECONDS
        for child in self.children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
            child.listener.join(GRACE_SECONDS)


@contextmanager
def open_pool(folder: Path, workers: int) -> Iterator[Pool]:
    """A pool whose processes never outlive the block."""
    pool = Pool(folder, workers)
    try:
        yield pool
    finally:
        pool.stop()

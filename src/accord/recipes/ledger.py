"""Remembers how often each test set was opened, in the user's state folder: many looks make the best one look good."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from accord.evaluation import expected_optimism
from accord.types import Json

SEED_DEVIATION = 0.004  # between seeds of one recipe, as a fraction; an assumption, and said to be one
STATE = "ACCORD_STATE"


class Opening(NamedTuple):
    """Which opening of a test set this was, by how many different models so far, and what a reader must know.

    `opened` and `models` are None where the ledger can't be kept.
    """

    test_set: str
    opened: int | None
    models: int | None
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """How often, in words."""
        if self.opened is None or self.models is None:
            return "not counted"
        times = {1: "once", 2: "twice"}.get(self.opened, f"{self.opened} times")
        return f"{times}, by {self.models} model{'s' if self.models > 1 else ''}"

    def as_json(self) -> Json:
        """For the report: the counts, and the optimism to expect of the best of so many equal models."""
        optimism = None if self.models is None else expected_optimism(self.models, SEED_DEVIATION)
        return {
            "fingerprint": self.test_set,
            "opened": self.opened,
            "models": self.models,
            "expected_optimism": optimism,
            "assumed_deviation": SEED_DEVIATION,
        }


def state_folder() -> Path:
    """Where accord remembers things between runs: $ACCORD_STATE, or the system's place for a user's state."""
    if given := os.environ.get(STATE):
        return Path(given).expanduser()
    if platform.system() == "Windows":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "accord"
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Application Support" / "accord"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "accord"


def open_test_set(test_set: str, *, model: str, config: str, run: str) -> Opening:
    """Write down that a model is about to be judged on a test set, and say how often that has happened.

    `test_set`, `model` and `config` are fingerprints. The ledger is one JSON line per opening and is only ever appended
    to; processes that open at once wait for each other. Where it can't be written, the run goes on and a note says so.
    """
    entry = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "model": model, "config": config, "run": run}
    try:
        path = _place(test_set)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file, _alone(file):
            file.seek(0)
            before = file.read()
            torn = b"" if before.endswith(b"\n") or not before else b"\n"  # a killed writer left half a line
            file.write(torn + json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # a RuntimeError is a user without a home
        why = getattr(error, "strerror", None) or str(error)
        note = (
            f"How often the test set was opened is not known: the ledger in the state folder can't be written ({why})."
        )
        return Opening(test_set, None, None, (note,))
    return _count(test_set, [*_entries(before), entry])


def read_ledger(test_set: str) -> list[Json]:
    """Every opening of a test set that was written down, oldest first; a damaged line is an empty entry."""
    path = _place(test_set)
    return _entries(path.read_bytes()) if path.is_file() else []


def _count(test_set: str, entries: list[Json]) -> Opening:
    """A damaged line counts as a model of its own: it is safer to think that there was one look too many."""
    models = len({entry.get("model") or place for place, entry in enumerate(entries)})
    opening = Opening(test_set, len(entries), models)
    if models == 1:
        return opening
    optimism = 100 * expected_optimism(models, SEED_DEVIATION)
    note = (
        f"This test set has been opened {opening.words}. The best of {models} equally good models is expected to look "
        f"{optimism:.2f} points better than it is (if seeds alone move a score by {100 * SEED_DEVIATION:g} points)."
    )
    return opening._replace(notes=(note,))


def _entries(data: bytes) -> list[Json]:
    return [_entry(line) for line in data.split(b"\n") if line.strip()]


def _entry(line: bytes) -> Json:
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


def _place(test_set: str) -> Path:
    return state_folder() / "test-sets" / f"{test_set}.jsonl"


@contextmanager
def _alone(file: BinaryIO) -> Iterator[None]:
    """Keep other processes out until the block ends; Windows has no such lock, but appends a short line whole."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    yield  # closing the file lets go

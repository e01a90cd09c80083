"""Runs commands in this process, as a user types them: importing torch again for each would take most of the time."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from accord.cli.main import run


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams as one line without frames, for looking up a sentence."""
        return " ".join((self.err + self.out).replace("│", " ").split())


Accord = Callable[..., Ended]


@pytest.fixture
def accord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Accord:
    """Runs `accord …` in an empty folder; an error that is not ours escapes and fails the test."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def command(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["accord", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run()
        assert isinstance(end.value.code, int)
        return Ended(end.value.code, *capsys.readouterr())

    return command

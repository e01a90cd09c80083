"""What people see: tables, bars on a terminal, the address of the page."""

import io
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from accord.cli import show


def test_doctor_prints_a_table(accord: Any) -> None:
    ended = accord("doctor")
    assert ended.code == 0
    assert "torch" in ended.out


@pytest.mark.pretrained
@pytest.mark.slow
def test_reports_search_and_evaluation_print_for_people(accord: Any, tiny_run: Path, tiny_folder: Path) -> None:
    import shutil

    shutil.copytree(tiny_run, "run")
    assert "Recall@1" in accord("evaluate", "run").out
    again = accord("report", "run", "--again")
    assert again.code == 0
    assert "report.html" in again.out
    image = next(tiny_folder.rglob("*.jpg"))
    assert "hits.png" in accord("search", "run", image, "--picture", "hits.png").out


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_serve_says_where_it_listens_and_stops_on_ctrl_c(words: list[str], tiny_run: Path) -> None:
    command = [sys.executable, "-m", "accord", "serve", str(tiny_run), "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = "".join(iter(server.stdout.readline, "}\n")) + "}" if words else server.stdout.readline()
        address = json.loads(said)["address"] if words else next(w for w in said.split() if w.startswith("http"))
        with urllib.request.urlopen(f"{address}/health", timeout=20) as answer:
            assert json.load(answer) == {"status": "ok"}
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
    assert server.returncode == 0


def test_a_bar_on_a_terminal_shows_stage_time_left_and_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "WAIT_SECONDS", -1.0)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=110, highlight=False)
    monkeypatch.setattr(show, "Console", lambda **options: console)
    with show.terminal() as watch:
        watch.head("accord")
        watch.warn("look here")
        watch.progress("training", 3, 10, {"loss": "0.123", "images/s": "140"})
        assert watch.bars is not None
        watch.bars.refresh()
        watch.progress("training", 10, 10, {"loss": "0.1"})
    text = screen.getvalue()
    assert all(words in text for words in ("training", "3/10", "loss 0.123", "images/s 140", "look here"))


def test_quiet_means_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with show.terminal(quiet=True) as watch:
        watch.say("not this")
        watch.progress("training", 1, 2)
        watch.warn("but this")
    said = capsys.readouterr().err
    assert "not this" not in said
    assert "but this" in said

"""Every command, as a user types it: what it prints, its JSON, its exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.cli.main import COMMANDS

Accord = Callable[..., Any]
TINY = ["--set", "model.size=32", "--set", "model.dim=16", "--set", "evaluation.nmi_seeds=2", "--epochs", "1"]


def in_a_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "accord", *words], capture_output=True, text=True, timeout=240)


def test_the_command_is_there_and_ends_with_its_code() -> None:
    done = in_a_process("train", "objets")
    assert done.returncode == 2
    assert "Did you mean 'objects'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command(accord: Accord) -> None:
    done = accord("--help")
    assert done.code == 0
    assert all(name in done.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(accord: Accord, name: str) -> None:
    done = accord(name, "--help")
    assert done.code == 0
    assert "--json" in done.out


def test_version(accord: Accord) -> None:
    assert accord("--version").out.startswith("accord 0.")


@pytest.mark.parametrize("kind", ["losses", "ensembles", "backbones", "data", "recipes", "metrics"])
def test_ls_prints_a_table_and_json(accord: Accord, kind: str) -> None:
    rows = json.loads(accord("ls", kind, "--json").out)
    table = accord("ls", kind).out
    assert all(row["name"] in table for row in rows)


def test_doctor_finds_this_installation_fit(accord: Accord) -> None:
    done = accord("doctor", "--json")
    assert done.code == 0, done.out
    assert {row["check"] for row in json.loads(done.out)} >= {"python", "torch", "disk"}


@pytest.mark.pretrained
@pytest.mark.slow
def test_train_evaluate_report_search_embed(accord: Accord, tiny_folder: Path) -> None:
    done = accord("train", tiny_folder, "--out", "run", "--json", *TINY)
    assert done.code == 0, done.err
    trained = json.loads(done.out)
    assert Path("run/report.html").is_file()
    assert "chosen: " in done.err

    again = json.loads(accord("evaluate", "run", "--json").out)
    assert again["metrics"] == trained["metrics"]
    assert json.loads(accord("report", "run", "--json").out)["metrics"] == trained["metrics"]
    assert "report.html" in accord("report", "run").out


@pytest.mark.pretrained
@pytest.mark.slow
def test_search_finds_the_image_itself_first(accord: Accord, tiny_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    image = sorted(tiny_folder.rglob("*.jpg"))[10]
    done = accord("search", tiny_run, image, "--json", "-k", 3, "--picture", tmp_path / "hits.png")
    assert done.code == 0, done.err
    hits = json.loads(done.out)["neighbours"]
    assert len(hits) == 3
    assert hits[0]["path"] == f"{image.parent.name}/{image.name}"
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert (tmp_path / "hits.png").read_bytes().startswith(b"\x89PNG")
    assert hits[0]["path"] in accord("search", tiny_run, image).out.replace("\n", "")


@pytest.mark.pretrained
@pytest.mark.slow
def test_search_takes_another_gallery(accord: Accord, tiny_run: Path, tiny_folder: Path) -> None:
    image = sorted(tiny_folder.rglob("*.jpg"))[0]
    done = accord("search", tiny_run, image, "--json", "--gallery", tiny_folder)
    assert done.code == 0, done.err
    assert json.loads(done.out)["neighbours"][0]["label"] == image.parent.name


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".csv"])
def test_embed_writes_one_row_per_image(
    accord: Accord, suffix: str, tiny_run: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"vectors{suffix}"
    folder = sorted(tiny_folder.iterdir())[0]
    done = accord("embed", tiny_run, folder, "--out", out, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["items"] == len(list(folder.iterdir()))
    if suffix == ".npy":
        assert np.load(out).shape == (facts["items"], facts["dim"])
        assert len(json.loads(out.with_suffix(".json").read_text())) == facts["items"]
    assert accord("embed", tiny_run, folder, "--out", out).code == 2


def test_validate_lists_what_is_wrong_and_exits_3(accord: Accord, tiny_folder: Path, tmp_path: Path) -> None:
    assert accord("validate", tiny_folder).code == 0
    for name, content in {"a/1.jpg": b"", "a/2.jpg": b"no image", "b/1.png": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / "bad" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bad" / name).write_bytes(content)
    done = accord("validate", tmp_path / "bad", "--json")
    assert done.code == 3
    assert {problem["path"] for problem in json.loads(done.out)["problems"]} >= {"a/1.jpg", "a/2.jpg", "b/1.png"}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["train"], 2, "accord train objects"),
        (["train", "objets"], 2, "Did you mean 'objects'"),
        (["train", "objects", "--recipe", "acord"], 2, "Did you mean 'accord'"),
        (["train", "objects", "--set", "training.epoch=1"], 2, "Did you mean 'epochs'"),
        (["train", "objects", "--config", "missing.yaml"], 2, "missing.yaml"),
        (["train", "./nowhere"], 3, "nowhere"),
        (["train", "objects", "--epoch", "3"], 2, "--epochs"),
        (["evaluate", "no-run"], 5, "no-run"),
        (["search", "no-run", "x.jpg"], 5, "no-run"),
        (["serve", "no-run"], 5, "no-run"),
        (["embed", "no-run", ".", "--out", "x.npy"], 5, "no-run"),
        (["report", "no-run"], 5, "no-run"),
        (["ls", "loses"], 2, "Did you mean 'losses'"),
        (["trian", "objects"], 2, "train"),
        (["validate", "./nowhere"], 3, "nowhere"),
        (["validate", "objets"], 2, "Did you mean 'objects'"),  # a bare word may name a data set, as in train
        (["train", "--resume", "no-run"], 5, "no-run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_with_a_message_and_an_exit_code(accord: Accord, words: list[str], code: int, text: str) -> None:
    done = accord(*words)
    assert text in done.said
    assert done.code == code
    assert not list(Path().iterdir()), "a refused command leaves nothing behind"

"""Every command, as a user types it: what it prints, its JSON, its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accord.cli.main import COMMANDS

TINY = ["--set", "model.size=32", "--set", "model.dim=16", "--set", "evaluation.nmi_seeds=2", "--epochs", "1"]


def accord(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "accord", *map(str, words)], capture_output=True, text=True, cwd=cwd, timeout=240
    )


def test_help_names_every_command() -> None:
    done = accord("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(name: str) -> None:
    done = accord(name, "--help")
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_version() -> None:
    assert accord("--version").stdout.startswith("accord 0.")


@pytest.mark.parametrize("kind", ["losses", "ensembles", "backbones", "data", "recipes", "metrics"])
def test_ls_prints_a_table_and_json(kind: str) -> None:
    rows = json.loads(accord("ls", kind, "--json").stdout)
    table = accord("ls", kind).stdout
    assert all(row["name"] in table for row in rows)


def test_doctor_finds_this_installation_fit() -> None:
    done = accord("doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert {row["check"] for row in json.loads(done.stdout)} >= {"python", "torch", "disk"}


@pytest.mark.pretrained
@pytest.mark.slow
def test_train_evaluate_report_search_embed(tiny_folder: Path, tmp_path: Path) -> None:
    done = accord("train", tiny_folder, "--out", "run", "--json", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = json.loads(done.stdout)
    assert (tmp_path / "run" / "report.html").is_file()
    assert "chosen: " in done.stderr

    again = json.loads(accord("evaluate", "run", "--json", cwd=tmp_path).stdout)
    assert again["metrics"] == trained["metrics"]
    assert json.loads(accord("report", "run", "--json", cwd=tmp_path).stdout)["metrics"] == trained["metrics"]
    assert "report.html" in accord("report", "run", cwd=tmp_path).stdout


@pytest.mark.pretrained
@pytest.mark.slow
def test_search_finds_the_image_itself_first(tiny_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    image = sorted(tiny_folder.rglob("*.jpg"))[10]
    done = accord("search", tiny_run, image, "--json", "-k", 3, "--picture", tmp_path / "hits.png")
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)["neighbours"]
    assert len(hits) == 3
    assert hits[0]["path"] == f"{image.parent.name}/{image.name}"
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-4)
    assert (tmp_path / "hits.png").read_bytes().startswith(b"\x89PNG")
    assert hits[0]["path"] in accord("search", tiny_run, image).stdout.replace("\n", "")


@pytest.mark.pretrained
@pytest.mark.slow
def test_search_takes_another_gallery(tiny_run: Path, tiny_folder: Path) -> None:
    image = sorted(tiny_folder.rglob("*.jpg"))[0]
    done = accord("search", tiny_run, image, "--json", "--gallery", tiny_folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["neighbours"][0]["label"] == image.parent.name


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".csv"])
def test_embed_writes_one_row_per_image(suffix: str, tiny_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / f"vectors{suffix}"
    folder = sorted(tiny_folder.iterdir())[0]
    done = accord("embed", tiny_run, folder, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["items"] == len(list(folder.iterdir()))
    if suffix == ".npy":
        assert np.load(out).shape == (facts["items"], facts["dim"])
        assert len(json.loads(out.with_suffix(".json").read_text())) == facts["items"]
    assert accord("embed", tiny_run, folder, "--out", out).returncode == 2


def test_validate_lists_what_is_wrong_and_exits_3(tiny_folder: Path, tmp_path: Path) -> None:
    assert accord("validate", tiny_folder).returncode == 0
    for name, content in {"a/1.jpg": b"", "a/2.jpg": b"no image", "b/1.png": b"\x89PNG\r\n\x1a\n"}.items():
        (tmp_path / "bad" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bad" / name).write_bytes(content)
    done = accord("validate", tmp_path / "bad", "--json")
    assert done.returncode == 3
    assert {problem["path"] for problem in json.loads(done.stdout)["problems"]} >= {"a/1.jpg", "a/2.jpg", "b/1.png"}


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
def test_mistakes_end_with_a_message_and_an_exit_code(words: list[str], code: int, text: str, tmp_path: Path) -> None:
    done = accord(*words, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert text in " ".join((done.stderr + done.stdout).replace("│", " ").split())
    assert done.returncode == code
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"

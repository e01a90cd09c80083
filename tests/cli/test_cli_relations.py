"""`accord train --relations`: pairs and triplets from the command line, and what is said when they won't do."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

SMALL = ("--set", "model.size=32", "--set", "model.dim=16", "--set", "evaluation.nmi_seeds=1")
Accord = Callable[..., Any]


@pytest.fixture
def triplets(tiny_folder: Path, tmp_path: Path) -> Path:
    """Every two images of a class, beside them the first image of the next class."""
    classes = sorted(folder.name for folder in tiny_folder.iterdir())
    rows = ["anchor,positive,negative"]
    for name, other in zip(classes, [*classes[1:], classes[0]], strict=True):
        images = [f"{name}/{path.name}" for path in sorted((tiny_folder / name).iterdir())]
        stranger = min((tiny_folder / other).iterdir())
        rows += [f"{one},{two},{other}/{stranger.name}" for one, two in combinations(images, 2)]
    path = tmp_path / "triplets.csv"
    path.write_text("\n".join(rows))
    return path


@pytest.mark.slow
@pytest.mark.pretrained
def test_from_a_table_to_a_searched_run(accord: Accord, tiny_folder: Path, triplets: Path) -> None:
    done = accord("train", tiny_folder, "--relations", triplets, "--out", "run", *SMALL, "--epochs", "1")
    assert done.code == 0, done.said
    assert "'relations'" in done.said
    assert "Triplet accuracy" in done.out
    assert "groups of images said to belong together stand for classes" in done.said
    report = json.loads(Path("run/report.json").read_text())
    assert report["configuration"]["data"]["relations"] == str(triplets)
    again = accord("evaluate", "run")
    assert again.code == 0, again.said
    assert json.loads(Path("run/report.json").read_text())["metrics"] == report["metrics"]
    assert accord("report", "run").code == 0
    found = accord("search", "run", next(tiny_folder.rglob("*.jpg")), "--json")
    assert found.code == 0, found.said


def test_a_loss_that_needs_classes_is_refused_with_those_that_do_not(
    accord: Accord, tiny_folder: Path, triplets: Path
) -> None:
    ended = accord("train", tiny_folder, "--relations", triplets, "--recipe", "cross_entropy", "--out", "run")
    assert ended.code == 2
    assert "smoothed_cross_entropy" in ended.said
    assert "From triplets learn: contrastive, triplet_margin" in ended.said
    assert not Path("run").exists()


def test_a_table_that_is_wrong_is_refused_by_its_row(accord: Accord, tiny_folder: Path, triplets: Path) -> None:
    triplets.write_text(triplets.read_text() + "\nnobody.jpg,no.jpg,none.jpg\n")
    ended = accord("train", tiny_folder, "--relations", triplets, "--out", "run")
    assert ended.code == 3
    assert "'triplets.csv'" in ended.said
    assert "line 242: nobody.jpg" in ended.said
    assert not Path("run").exists()


def test_a_table_that_is_not_there_is_named(accord: Accord, tiny_folder: Path) -> None:
    ended = accord("train", tiny_folder, "--relations", "gone.csv", "--out", "run")
    assert ended.code == 3
    assert "'gone.csv' can't be read" in ended.said


def test_relations_alone_do_not_say_what_to_train_on(accord: Accord, triplets: Path) -> None:
    ended = accord("train", "--relations", triplets)
    assert ended.code == 2
    assert "Say what to train on" in ended.said

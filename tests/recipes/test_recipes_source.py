"""From a source to a split: copies on both sides, unreadable files, nothing to judge on."""

import shutil
from pathlib import Path

import pytest

from accord.errors import DataError
from accord.recipes.config import DataConfig
from accord.recipes.source import open_source
from accord.recipes.watch import Silence


class _Notebook(Silence):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def leaky(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny folder with one test image copied into a training class."""
    folder = tmp_path / "leaky"
    shutil.copytree(tiny_folder, folder)
    manifest = open_source(DataConfig(source=str(folder)), Silence())
    test, train = manifest.only("test").items[0], manifest.only("train").items[0]
    shutil.copy(folder / test.path, folder / train.label / "copy.jpg")
    return folder


def test_a_training_copy_of_a_test_image_is_left_out_and_named(leaky: Path) -> None:
    watch = _Notebook()
    manifest = open_source(DataConfig(source=str(leaky)), watch)
    assert not [item for item in manifest.items if item.path.endswith("copy.jpg")]
    assert len(manifest.only("test")) == 8 * 6
    assert any("copy.jpg" in warning for warning in watch.warnings)
    assert any("left out" in note for note in manifest.notes)


def test_copies_can_stop_the_run_or_be_kept(leaky: Path) -> None:
    with pytest.raises(DataError, match=r"copy\.jpg"):
        open_source(DataConfig(source=str(leaky), copies="stop"), Silence())
    kept = open_source(DataConfig(source=str(leaky), copies="keep"), Silence())
    assert [item for item in kept.items if item.path.endswith("copy.jpg")]


def test_unreadable_images_are_left_out_and_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_folder, folder)
    victims = sorted(folder.rglob("*.jpg"))[:7]
    for victim in victims:
        victim.write_bytes(b"")
    watch = _Notebook()
    manifest = open_source(DataConfig(source=str(folder)), watch)
    assert len(manifest) == 96 - 7
    assert any(victims[0].name in warning for warning in watch.warnings)
    assert any("2 more" in warning for warning in watch.warnings)


def test_a_split_with_nothing_to_judge_on_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(DataError, match=r"data\.test"):
        open_source(DataConfig(source=str(tiny_folder), test=0.0), Silence())


def test_a_test_folder_with_one_class_is_refused_before_anything_is_trained(tiny_folder: Path, tmp_path: Path) -> None:
    for place, label in enumerate(sorted(tiny_folder.iterdir())):
        shutil.copytree(label, tmp_path / ("train" if place else "test") / label.name)
    with pytest.raises(DataError, match="only one unseen class"):
        open_source(DataConfig(source=str(tmp_path)), Silence())

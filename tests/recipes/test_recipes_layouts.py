"""What a data section names becomes a split manifest: published sets, tables, archives and groups from paths."""

import shutil
import tarfile
from pathlib import Path

import pytest

import published
from accord.errors import DataError, ResourceError, UnknownNameError, UsageError
from accord.recipes import listing, validate_source
from accord.recipes.config import DataConfig
from accord.recipes.source import find_source, open_images, open_source
from accord.recipes.watch import Silence
from accord.types import Manifest
from published import write


def _open(source: Path | str, **options: object) -> Manifest:
    return open_source(DataConfig(source=str(source), **options), Silence())


def test_a_published_split_is_kept_and_validation_comes_from_its_training_classes(tmp_path: Path) -> None:
    manifest = _open(write(tmp_path, published.cub()))
    held_out = {item.label for item in manifest.only("validation").items}
    assert {item.label for item in manifest.only("test").items} == {"101.Bird_101", "102.Bird_102", "200.Bird_200"}
    assert len(held_out) == 2
    assert held_out | {item.label for item in manifest.only("train").items} == {
        f"{n:03d}.Bird_{n}" for n in (1, 2, 3, 4, 99, 100)
    }
    assert any("read as CUB-200-2011" in note for note in manifest.notes)
    assert any("the split that came with the data was kept" in note for note in manifest.notes)


def test_roles_survive_the_split(tmp_path: Path) -> None:
    test = _open(write(tmp_path, published.in_shop())).only("test")
    assert {item.role for item in test.items} == {"query", "gallery"}


def test_a_download_is_trained_on_as_it_is(tmp_path: Path) -> None:
    root = write(tmp_path / "CUB_200_2011", published.cub())
    with tarfile.open(tmp_path / "birds.tgz", "w:gz") as archive:
        archive.add(root, "CUB_200_2011")
        archive.add(root / "README", "attributes.txt")
    assert len(_open(tmp_path / "birds.tgz", boxes=True)) == 18


def test_boxes_and_layout_are_taken_from_the_section(tmp_path: Path) -> None:
    root = write(tmp_path, published.cub())
    assert {item.box for item in _open(root, boxes=True).items} == {(2, 3, 13, 15)}
    assert _open(root / "images", layout="folders").classes == _open(root).classes
    with pytest.raises(UnknownNameError, match=r"There is no layout called 'cubs'\. Did you mean 'cub'"):
        _open(root, layout="cubs")


def test_a_table_and_its_root_are_taken_from_the_section(tiny_folder: Path, tmp_path: Path) -> None:
    found = validate_source(str(tiny_folder), csv=tmp_path / "tiny.csv")
    assert found["ok"]
    table, folder = _open(tmp_path / "tiny.csv", root=str(tiny_folder)), _open(tiny_folder)
    assert table.items == folder.items
    with pytest.raises(DataError, match=r"96 of 96 images are not below"):
        _open(tmp_path / "tiny.csv")
    shutil.copytree(tiny_folder, tmp_path / "beside")
    shutil.copy(tmp_path / "tiny.csv", tmp_path / "beside")
    assert len(open_images(str(tmp_path / "beside" / "tiny.csv"), Silence())) == 96


def test_groups_are_read_from_paths(tiny_folder: Path) -> None:
    assert {item.group for item in _open(tiny_folder, group="parent").items} == set(_open(tiny_folder).classes)
    packaged = find_source(DataConfig(source="objects", group=r"(\d)\.jpg$"), Silence())
    assert {item.group for item in packaged.items} == set("0123456789")


def test_options_without_meaning_for_a_built_in_set_are_refused() -> None:
    for options in ({"boxes": True}, {"root": "x"}, {"sha256": "0" * 64}, {"layout": "cub"}):
        with pytest.raises(UsageError, match="the built-in data set 'objects'"):
            _open("objects", **options)


def test_layouts_are_listed() -> None:
    assert {"auto", "folders", "table", "cub", "cars", "sop", "in_shop", "lfw", "flowers", "pets"} == {
        row["name"] for row in listing("layouts")
    }


def test_validation_tells_what_can_not_be_read_as_a_problem(tmp_path: Path) -> None:
    files = published.cub()
    files["images.txt"] = b"1\n"
    found = validate_source(str(write(tmp_path, files)))
    assert not found["ok"]
    assert "images.txt, line 1" in found["problems"][0]["reason"]
    with pytest.raises(DataError, match="There is no folder, archive or table at"):
        validate_source(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no regular expression"):
        validate_source(DataConfig(source="objects", group="("))


def test_a_table_is_not_overwritten_unasked(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        validate_source(str(tiny_folder), csv=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "mine"
    validate_source(str(tiny_folder), csv=tmp_path / "mine.csv", overwrite=True)
    assert (tmp_path / "mine.csv").read_text().startswith("path,label,sha256\n")
    with pytest.raises(ResourceError, match="can't be written"):
        validate_source(str(tiny_folder), csv=tmp_path / "none" / "x.csv")

"""Folders become manifests: the same everywhere, with every oddity said aloud."""

import hashlib
import json
import os
import random
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from accord.data import BUILTIN, builtin, fingerprint, manifest_from_json, manifest_to_json, scan
from accord.errors import DataError, UnknownNameError

Tree = Callable[..., Path]


def test_finds_classes_hashes_and_a_stable_order(tree: Tree) -> None:
    root = tree("b/2.png", "b/10.PNG", "a/deep/er/1.png", "é/1.png", "B/1.png")
    done: list[tuple[int, int]] = []
    manifest = scan(root, progress=lambda *numbers: done.append(numbers))
    assert [item.path for item in manifest.items] == ["B/1.png", "a/deep/er/1.png", "b/10.PNG", "b/2.png", "é/1.png"]
    assert [item.id for item in manifest.items] == [0, 1, 2, 3, 4]
    assert manifest.classes == ("B", "a", "b", "é")
    assert all(i.sha256 == hashlib.sha256((root / i.path).read_bytes()).hexdigest() for i in manifest.items)
    assert done == [(number, 5) for number in range(1, 6)]
    assert manifest.name == "images"
    assert scan(str(root), name="mine").name == "mine"


def test_the_order_of_the_directory_listing_does_not_matter(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(*(f"class{number}/{image}.png" for number in range(5) for image in range(3)))
    (root / "link.d").symlink_to(root / "class3")
    expected = scan(root)
    real, generator = os.scandir, random.Random(1)

    class Shuffled:
        def __init__(self, path: str) -> None:
            with real(path) as entries:
                self.entries = list(entries)
            generator.shuffle(self.entries)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert all(scan(root) == expected for _ in range(20))


def test_an_archive_gives_the_same_items_as_its_folder(tree: Tree, tmp_path: Path) -> None:
    root = tree("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    packed = Path(shutil.make_archive(str(tmp_path / "images"), "zip", root))
    assert scan(packed).items == scan(root).items
    assert scan(packed).name == "images"
    assert fingerprint(scan(packed)) == fingerprint(scan(root))


def test_looks_through_a_folder_that_only_wraps_the_classes(tree: Tree) -> None:
    manifest = scan(tree("photos/all/a/1.png", "photos/all/b/1.png"))
    assert manifest.classes == ("a", "b")
    assert "inside the folder 'photos/all'" in manifest.notes[0]


def test_drops_empty_folders_and_other_files_and_says_so(tree: Tree) -> None:
    root = tree("a/1.png", "a/2.png", "b/1.png", "b/2.png", "loose.png")
    (root / "empty").mkdir()
    (root / "texts").mkdir()
    (root / "texts" / "1.txt").write_text("x")
    (root / "a" / "README").write_text("x")
    notes = scan(root).notes
    assert "2 folders hold no image and were left out: 'empty', 'texts'" in notes
    assert "2 files are no images by their ending and were left out: 1 .txt, 1 no ending" in notes
    assert "1 images lie beside the class folders and were left out: 'loose.png'" in notes


def test_says_which_classes_have_a_single_image_and_which_names_look_alike(tree: Tree) -> None:
    notes = scan(
        tree("Cup/1.png", "cup/1.png", "cup/2.png", "e\u0301/1.png", "e\u0301/2.png", "é/1.png", "é/2.png")
    ).notes
    assert any("1 classes have a single image" in note and "'Cup'" in note for note in notes)
    assert any("4 class names differ only by case" in note for note in notes)


def test_refuses_an_empty_folder_and_shows_the_layout(tree: Tree) -> None:
    root = tree()
    (root / "a").mkdir()
    (root / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"found no image in 1 files and 1 folders\.\n  Expected one folder per class"):
        scan(root)


def test_says_why_nothing_was_left(tree: Tree) -> None:
    outside = tree("1.png", root="elsewhere")
    root = tree()
    (root / "a").symlink_to(outside)
    with pytest.raises(DataError, match="1 links lead outside the folder"):
        scan(root)


def test_refuses_one_class_and_images_without_classes_with_a_hint(tree: Tree) -> None:
    with pytest.raises(DataError, match="only one class, 'a', with 2 images"):
        scan(tree("a/1.png", "a/2.png", root="one"))
    with pytest.raises(DataError, match="only one class, 'a', with 1 images, and 1 images beside it"):
        scan(tree("a/1.png", "2.png", root="beside"))
    with pytest.raises(
        DataError, match=r"3 images that lie in no class folder.*\n  Sort them into one folder per class"
    ):
        scan(tree("1.png", "2.png", "3.png", root="flat"))


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "val")])
def test_reads_split_folders_with_different_classes_as_the_split(tree: Tree, train: str, test: str) -> None:
    root = tree(f"{train}/a/1.png", f"{train}/b/1.png", f"{test}/c/1.png", f"{train}/x.png")
    (root / train / "empty").mkdir()
    manifest = scan(root)
    assert {item.label: item.split for item in manifest.items} == {"a": "train", "b": "train", "c": "test"}
    assert any("1 images lie beside" in note for note in manifest.notes)
    assert f"1 folders hold no image and were left out: '{train}/empty'" in manifest.notes


def test_reads_three_split_folders(tree: Tree) -> None:
    manifest = scan(tree("train/a/1.png", "val/b/1.png", "test/c/1.png"))
    assert {item.label: item.split for item in manifest.items} == {"a": "train", "b": "validation", "c": "test"}


def test_puts_split_folders_with_the_same_classes_together(tree: Tree) -> None:
    manifest = scan(tree("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png"))
    assert Counter((item.label, item.split) for item in manifest.items) == {("a", ""): 2, ("b", ""): 2}
    assert any("split is drawn anew by class" in note for note in manifest.notes)


def test_adds_a_validation_folder_of_training_classes_to_training(tree: Tree) -> None:
    manifest = scan(tree("train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png", "test/c/2.png"))
    assert Counter((item.label, item.split) for item in manifest.items) == {
        ("a", "train"): 2,
        ("b", "train"): 2,
        ("c", "test"): 1,
    }


def test_refuses_split_folders_that_share_some_classes_and_says_the_way_out(tree: Tree) -> None:
    with pytest.raises(
        DataError, match=r"1 classes are in more than one of the split folders: 'b'.*\n.*\n.*side by side"
    ):
        scan(tree("train/a/1.png", "train/b/1.png", "test/b/2.png", "test/c/2.png"))
    with pytest.raises(DataError, match="1 classes are in more than one"):
        scan(tree("train/a/1.png", "train/b/1.png", "val/b/2.png", "test/c/2.png", root="three"))


def test_refuses_split_folders_that_make_no_sense(tree: Tree) -> None:
    with pytest.raises(DataError, match="'test', 'train' hold images but no class folders"):
        scan(tree("train/1.png", "test/1.png", root="flat"))
    with pytest.raises(DataError, match="not one train and one test"):
        scan(tree("test/a/1.png", "val/b/1.png", root="no_train"))
    with pytest.raises(DataError, match="not one train and one test"):
        scan(tree("train/a/1.png", "training/b/1.png", root="two_trains"))
    with pytest.raises(DataError, match="only one class, 'a'"):
        scan(tree("train/a/1.png", "test/a/2.png", root="one"))


def test_odd_names_survive_json(tree: Tree) -> None:
    names = [
        "-rf",
        " a",
        "a ",
        "b\nc",
        "d,e",
        'f"g',
        "x" * 250,
        "é",
        "e\u0301",
        "A",
        "a",
        "<b>&",
        "%2e",
        "back\\slash",
        "c:d",
    ]
    root = tree(*(f"{name}/{name[:200]}.png" for name in names))
    raw = os.fsencode(root) + b"/\xff\xfe"
    os.mkdir(raw)
    shutil.copy(root / "é" / "é.png", os.path.join(raw, b"\xff.png"))
    manifest = scan(root)
    assert len(manifest.classes) == 16
    again = manifest_from_json(json.loads(json.dumps(manifest_to_json(manifest))))
    assert again == manifest
    assert all(note.isprintable() for note in manifest.notes)


def test_a_file_that_can_not_be_read_stays_without_a_hash(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("a/1.png", "b/1.png")
    real = os.open

    def refuse(path: object, *options: object) -> int:
        if str(path).endswith("a/1.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *options)

    monkeypatch.setattr(os, "open", refuse)
    assert [bool(item.sha256) for item in scan(root).items] == [False, True]


def test_the_builtin_objects_are_complete() -> None:
    manifest = builtin("objects")
    assert set(BUILTIN) == {"objects"}
    assert (len(manifest), len(manifest.classes), manifest.name) == (1776, 148, "objects")
    assert set(Counter(item.label for item in manifest.items).values()) == {12}
    assert manifest.notes == ()
    assert manifest_to_json(manifest)["root"] == "builtin:objects"
    assert manifest_from_json(manifest_to_json(manifest)) == manifest


def test_suggests_a_builtin_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'objects'"):
        builtin("object")


def test_a_symlinked_archive_and_root_work(tree: Tree, tmp_path: Path) -> None:
    root = tree("a/1.png", "b/1.png")
    (tmp_path / "link").symlink_to(root)
    assert scan(tmp_path / "link").items == scan(root).items
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.write(root / "a" / "1.png", "a/1.png")
        archive.write(root / "b" / "1.png", "b/1.png")
    (tmp_path / "l.zip").symlink_to(tmp_path / "x.zip")
    assert scan(tmp_path / "l.zip").items == scan(root).items

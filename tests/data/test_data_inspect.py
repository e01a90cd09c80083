"""Unreadable images are dropped with a note or stop everything, and `validate` says all that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from accord.data import Problem, builtin, inspect_folder, inspect_manifest, readable, scan
from accord.errors import DataError
from accord.types import Manifest

Tree = Callable[..., Path]


def _many(tree: Tree, images: int = 10) -> Path:
    return tree(*(f"c{number}/{image}.png" for number in range(3) for image in range(images)))


def test_a_clean_data_set_is_returned_as_it_is(tree: Tree) -> None:
    manifest = scan(_many(tree))
    done: list[tuple[int, int]] = []
    assert readable(manifest, lambda *numbers: done.append(numbers)) == (manifest, [])
    assert done[-1] == (30, 30)


def test_drops_what_can_not_be_read_and_keeps_the_ids(tree: Tree) -> None:
    root = _many(tree)
    (root / "c1/3.png").write_bytes(b"")
    (root / "c2/4.png").write_text("<svg/>")
    kept, problems = readable(scan(root))
    assert problems == [
        Problem("c1/3.png", "the file is empty (0 bytes)."),
        Problem("c2/4.png", "this is an SVG drawing; accord reads JPEG, PNG, WEBP, BMP, TIFF, PPM, GIF."),
    ]
    assert [item.id for item in kept.items] == [i for i in range(30) if i not in (13, 24)]
    assert kept.notes[-1] == "2 images can't be read and were left out: 'c1/3.png', 'c2/4.png'"


def test_says_that_a_class_is_gone(tree: Tree) -> None:
    root = tree(*(f"c{number}/{image}.png" for number in range(2) for image in range(10)), "lone/1.png")
    (root / "lone/1.png").write_bytes(b"")
    assert readable(scan(root))[0].notes[-1] == "1 classes lost all their images: 'lone'"


def test_too_many_unreadable_images_stop(tree: Tree) -> None:
    root = _many(tree)
    for image in range(4):
        (root / f"c0/{image}.png").write_bytes(b"x")
    with pytest.raises(
        DataError, match=r"4 of 30 images can't be read; 10% may be left out\.\n  c0/0\.png: this is no"
    ):
        readable(scan(root))
    assert len(readable(scan(root), max_share=0.2)[1]) == 4


def test_two_classes_must_remain(tree: Tree) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "b/1.png").write_bytes(b"")
    with pytest.raises(DataError, match="1 of 2 images"):
        readable(scan(root), max_share=1.0)


def test_reports_everything_that_is_wrong(tree: Tree, encoded: Callable[..., bytes]) -> None:
    root = tree("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "lone/1.png")
    (root / "b/copy.png").write_bytes((root / "a/1.png").read_bytes())
    (root / "b/big.jpg").write_bytes(encoded(7, kind="JPEG", size=(40, 30)))
    (root / "b/bad.jpg").write_bytes(encoded(7, kind="JPEG", size=(40, 30))[:500])
    (root / "b/moving.gif").write_bytes(
        encoded(7, kind="GIF", save_all=True, append_images=[_opened(encoded(8)), _opened(encoded(9))])
    )
    report = inspect_folder(root)
    assert json.loads(json.dumps(report)) == report
    assert (report["images"], report["classes"], report["ok"]) == (10, 3, False)
    assert report["problems"] == [
        {"path": "b/bad.jpg", "reason": "the file is cut short (truncated)."},
        {"path": ".", "reason": "3 classes are too few: 2 must train and 2 others judge what was learned."},
    ]
    assert report["duplicates"] == report["conflicts"] == [["a/1.png", "b/copy.png"]]
    assert report["singletons"] == ["lone"]
    assert report["sizes"] == {"min": 12, "median": 12, "max": 30}
    assert report["per_class"] == {"min": 1, "median": 3, "max": 6}
    assert report["formats"] == {"GIF": 1, "JPEG": 1, "PNG": 7}
    assert report["animated"] == ["b/moving.gif"]


def _opened(data: bytes) -> object:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(data))


def test_a_folder_without_layout_is_reported_and_not_raised(tree: Tree) -> None:
    report = inspect_folder(tree("1.png"))
    assert report["ok"] is False
    assert report["problems"][0]["path"] == "."
    assert "one folder per class" in report["problems"][0]["reason"]
    assert report["images"] == 0


def test_all_unreadable_still_gives_a_report(tree: Tree) -> None:
    root = tree("a/1.png", "b/1.png")
    for path in ("a/1.png", "b/1.png"):
        (root / path).write_bytes(b"")
    report = inspect_folder(root, progress=lambda done, total: None)
    assert report["sizes"] == {}
    assert [problem["path"] for problem in report["problems"]] == ["a/1.png", "b/1.png", "."]


def test_the_objects_are_in_order() -> None:
    report = inspect_folder(builtin("objects").root)
    assert report["ok"]
    assert (report["images"], report["classes"], report["formats"]) == (1776, 148, {"JPEG": 1776})
    assert report["sizes"] == {"min": 64, "median": 64, "max": 64}
    assert report["duplicates"] == []


def test_classes_that_can_not_be_trained_on_are_not_fit(tree: Tree) -> None:
    assert not inspect_folder(tree(*(f"{label}/1.png" for label in "abcdef"), root="alone"))["ok"]
    assert inspect_folder(tree(*(f"{label}/{number}.png" for label in "abcd" for number in (1, 2)), root="pairs"))["ok"]


def test_a_box_outside_its_image_is_a_problem(tree: Tree) -> None:
    manifest = scan(_many(tree))
    items = (manifest.items[0]._replace(box=(16, 0, 20, 5)), manifest.items[1]._replace(box=(1, 1, 99, 99)))
    manifest = Manifest("x", manifest.root, (*items, *manifest.items[2:]))
    kept, problems = readable(manifest)
    assert problems == [Problem("c0/0.png", "the box (16, 0, 20, 5) holds no pixel of the 16 × 12 image.")]
    assert len(kept) == 29


def test_splits_roles_and_groups_are_counted(tree: Tree) -> None:
    manifest = scan(_many(tree))
    items = [item._replace(split="test", group=item.label) for item in manifest.items]
    items[:2] = items[0]._replace(role="query"), items[1]._replace(role="gallery")
    found = inspect_manifest(Manifest("x", manifest.root, tuple(items)))
    assert (found["splits"], found["roles"], found["groups"]) == ({"test": 30}, {"gallery": 1, "query": 1}, 3)

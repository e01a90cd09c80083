"""Small looks: sizes from headers, loose files as a table, JPEG for a page."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from accord.data import builtin, encode_jpeg, loose_images, shorter_sides
from accord.types import Manifest


def test_shorter_sides_are_read_from_a_sample() -> None:
    assert set(shorter_sides(builtin("objects"), most=20)) == {64}


def test_of_a_box_its_own_sides_count() -> None:
    manifest = builtin("objects")
    boxed = Manifest("x", manifest.root, tuple(item._replace(box=(2, 3, 12, 33)) for item in manifest.items))
    assert set(shorter_sides(boxed, most=20)) == {10}


def test_one_file_and_a_flat_folder_are_tables_without_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", ".hidden.png"):
        Image.new("RGB", (8, 6), "red").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    flat = loose_images(tmp_path)
    assert flat is not None
    assert [item.path for item in flat.items] == ["a.png", "b.png"]
    assert all(len(item.sha256) == 64 and item.label == "" for item in flat.items)
    one = loose_images(tmp_path / "b.png")
    assert one is not None
    assert [item.path for item in one.items] == ["b.png"]


def test_class_folders_empty_folders_and_other_files_are_no_loose_images(tmp_path: Path) -> None:
    assert loose_images(tmp_path) is None
    (tmp_path / "class").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "x.png")
    assert loose_images(tmp_path) is None
    (tmp_path / "x.txt").write_text("x")
    assert loose_images(tmp_path / "x.txt") is None


def test_a_jpeg_holds_the_pixels_it_was_given() -> None:
    pixels = torch.full((3, 16, 24), 200, dtype=torch.uint8)
    again = np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels))))
    assert again.shape == (16, 24, 3)
    assert abs(int(again.mean()) - 200) <= 1

"""The table of images gives the same pixels in any order, from memory or from disk."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from accord.data import ClassMap, ImageTable, builtin, scan
from accord.data import _table as table_module
from accord.errors import BatchError, DataError, ImageError, UsageError
from accord.types import Manifest, Preprocessing

SMALL = Preprocessing(8)


@pytest.fixture
def manifest(tree: Callable[..., Path]) -> Manifest:
    return scan(tree(*(f"c{number}/{image}.png" for number in range(4) for image in range(4))))


def test_gives_the_pixels_of_the_files(tree: Callable[..., Path]) -> None:
    manifest = scan(tree("a/1.png", "b/1.png"))
    images = ImageTable(manifest, Preprocessing(12)).images([1, 0])
    pixels = np.asarray(Image.open(manifest.root / "b/1.png"))[:, 2:14]
    assert torch.equal(images[0], torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    assert images.dtype == torch.uint8
    assert images.shape == (2, 3, 12, 12)


@pytest.mark.parametrize("budget_bytes", [0, 5 * 192, 10**6])
def test_the_budget_changes_no_pixel(manifest: Manifest, budget_bytes: int) -> None:
    whole = ImageTable(manifest, SMALL).images(range(16))
    table = ImageTable(manifest, SMALL, budget_bytes=budget_bytes)
    for rows in ([3, 3, 15, 0, 15], [6], [], [1, 2], list(range(15, -1, -1)), [4, 5, 4]):
        assert torch.equal(table.images(rows), whole[rows])
        assert torch.equal(table.images(torch.tensor(rows, dtype=torch.int64)), whole[rows])


def test_decodes_each_kept_image_once_and_the_others_each_time(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    real = table_module.load_image

    def count(data: bytes, preprocessing: Preprocessing, *, name: str, box: None) -> torch.Tensor:
        names.append(name)
        return real(data, preprocessing, name=name, box=box)

    monkeypatch.setattr(table_module, "load_image", count)
    table = ImageTable(manifest, SMALL, budget_bytes=10 * 192)
    for _ in range(3):
        table.images(range(16))
    assert sorted(names.count(item.path) for item in manifest.items) == [1] * 10 + [3] * 6
    assert ImageTable(manifest, SMALL)._pixels is None


def test_decodes_with_threads(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    real = table_module.load_image

    def watch(data: bytes, preprocessing: Preprocessing, *, name: str, box: None) -> torch.Tensor:
        seen.add(threading.current_thread().name)
        return real(data, preprocessing, name=name, box=box)

    monkeypatch.setattr(table_module, "load_image", watch)
    ImageTable(manifest, SMALL).images(range(16))
    assert all(name.startswith("ThreadPool") for name in seen)


def test_knows_labels_and_ids(manifest: Manifest) -> None:
    part = Manifest("part", manifest.root, manifest.items[4:])
    table = ImageTable(part, SMALL)
    assert table.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert table.ids.tolist() == list(range(4, 16))
    assert ImageTable(part, SMALL, classes=ClassMap(manifest.classes)).labels.tolist()[:4] == [1] * 4
    assert len(table) == 12


def test_batches_hold_everything_once_in_order(manifest: Manifest) -> None:
    table = ImageTable(manifest, SMALL)
    batches = list(table.batches(5))
    assert [len(batch.ids) for batch in batches] == [5, 5, 5, 1]
    assert torch.equal(torch.cat([batch.ids for batch in batches]), table.ids)
    assert torch.equal(torch.cat([batch.inputs for batch in batches]), table.images(range(16)))
    assert [batch.labels.tolist() for batch in table.batches(8, rows=[15, 0])] == [[3, 0]]


def test_oversize_and_thumbnails_change_the_size(manifest: Manifest) -> None:
    table = ImageTable(manifest, SMALL, oversize=1.25)
    assert table.images([0]).shape == (1, 3, 10, 10)
    assert table.thumbnails([0, 1, 1], 24).shape == (3, 3, 24, 24)
    assert table.thumbnails([], 24).shape == (0, 3, 24, 24)


def test_names_a_file_that_changed_or_vanished(manifest: Manifest, encoded: Callable[..., bytes]) -> None:
    table = ImageTable(manifest, SMALL)
    (manifest.root / "c0/0.png").write_bytes(encoded(99))
    (manifest.root / "c1/1.png").unlink()
    with pytest.raises(ImageError, match=r"c0/0\.png: the file has changed since it was scanned"):
        table.images([0])
    with pytest.raises(ImageError, match=r"c1/1\.png: the file is gone"):
        table.images([5])
    with pytest.raises(ImageError, match=r"c0/0\.png"):
        table.images(range(16))
    assert table.images([1]).shape == (1, 3, 8, 8)


def test_a_failed_load_leaves_no_black_image_behind(manifest: Manifest, encoded: Callable[..., bytes]) -> None:
    table = ImageTable(manifest, SMALL)
    data = (manifest.root / "c0/0.png").read_bytes()
    (manifest.root / "c0/0.png").write_bytes(b"")
    with pytest.raises(ImageError):
        table.images(range(16))
    (manifest.root / "c0/0.png").write_bytes(data)
    assert torch.equal(table.images(range(16)), ImageTable(manifest, SMALL).images(range(16)))


@pytest.mark.parametrize("rows", [[-1], [16], [0, 99]])
def test_refuses_rows_that_are_not_there(manifest: Manifest, rows: list[int]) -> None:
    with pytest.raises(BatchError, match="rows must lie between 0 and 15"):
        ImageTable(manifest, SMALL).images(rows)


def test_refuses_an_empty_data_set_and_odd_sizes(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="holds no image"):
        ImageTable(manifest.only("test"), SMALL)
    with pytest.raises(UsageError, match="oversize must lie between 1 and 4"):
        ImageTable(manifest, SMALL, oversize=0.5)


def test_reads_the_objects_from_the_packaged_archive() -> None:
    table = ImageTable(builtin("objects"), Preprocessing(64))
    images = table.images(range(0, 1776, 12))
    assert images.shape == (148, 3, 64, 64)
    assert 60 < images.float().mean() < 200
    assert images.float().std(dim=(1, 2, 3)).min() > 5
    assert table.labels[::12].tolist() == list(range(148))

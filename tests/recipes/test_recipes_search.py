"""Searching a run: the right neighbours, pictures for people, strangers refused."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from accord.errors import AccordError, ArtifactError, DataError, ImageError, UsageError
from accord.recipes import Search, draw_hits, embed_source, open_search, read_token
from accord.runs import RunFolder

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]


@pytest.fixture(scope="module")
def search(tiny_run: Path) -> Search:
    return open_search(tiny_run)


def _images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


def test_the_gallery_is_every_image_of_the_data_set(search: Search, tiny_folder: Path) -> None:
    assert search.size == len(_images(tiny_folder))
    assert search.classes == 16


def test_an_image_of_the_gallery_finds_itself(search: Search, tiny_folder: Path) -> None:
    for path in _images(tiny_folder)[::17]:
        hit = search.by_image(search.read(path), 1)[0]
        assert hit.path == f"{path.parent.name}/{path.name}"
        assert hit.score == pytest.approx(1.0, abs=1e-4)


def test_neighbours_of_an_item_leave_it_out_and_come_best_first(search: Search) -> None:
    hits = search.by_id(3, 10)
    assert 3 not in [hit.id for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_more_neighbours_than_there_are_is_all_of_them(search: Search, tiny_folder: Path) -> None:
    assert len(search.by_image(search.read(_images(tiny_folder)[0]), 10_000)) == search.size
    assert len(search.by_id(0, 10_000)) == search.size - 1


def test_thumbnails_and_previews_are_small_jpegs(search: Search, tiny_folder: Path) -> None:
    for data in (
        search.thumbnail(0, 48),
        search.thumbnail(0, 48),
        search.preview(search.read(_images(tiny_folder)[0]), 48),
    ):
        assert data.startswith(b"\xff\xd8")
        assert len(data) < 5000


def test_two_threads_may_ask_for_thumbnails_that_push_each_other_out(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accord.recipes.search.KEPT_THUMBNAILS", 1)
    with ThreadPoolExecutor(2) as pool:
        pictures = list(pool.map(lambda turn: search.thumbnail(turn % 7, 40), range(200)))
    assert all(picture == search.thumbnail(turn % 7, 40) for turn, picture in enumerate(pictures))


def test_the_only_image_of_a_gallery_has_no_neighbours(tiny_run: Path, tiny_folder: Path) -> None:
    alone = open_search(tiny_run, gallery=str(_images(tiny_folder)[0]))
    assert alone.by_id(0, 5) == []
    assert len(alone.by_image(alone.read(_images(tiny_folder)[0]), 5)) == 1


def test_the_sample_shows_different_classes(search: Search) -> None:
    labels = [search.label_of(id) for id in search.sample(8)]
    assert len(labels) == len(set(labels)) == 8


def test_an_unknown_item_is_a_lookup_error(search: Search) -> None:
    with pytest.raises(LookupError):
        search.by_id(10_000, 3)


def test_what_is_no_image_is_refused(search: Search, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ImageError):
        search.by_image(search.read(tmp_path / "text.jpg"), 3)
    with pytest.raises(DataError, match=r"missing\.jpg"):
        search.read(tmp_path / "missing.jpg")


def test_images_above_the_limit_are_refused_before_they_are_decoded(tiny_run: Path, tiny_folder: Path) -> None:
    search = open_search(tiny_run)
    search.limit_pixels = 1000
    with pytest.raises(ImageError, match="1000 allowed"):
        search.by_image(search.read(_images(tiny_folder)[0]), 3)


def test_the_picture_of_hits_can_be_opened(search: Search, tiny_folder: Path, tmp_path: Path) -> None:
    data = search.read(_images(tiny_folder)[0])
    draw_hits(search, data, search.by_image(data, 3), tmp_path / "hits.png")
    with Image.open(tmp_path / "hits.png") as picture:
        assert picture.width > 4 * 160
    search.draw_in_terminal(data, search.by_image(data, 3))
    with pytest.raises(UsageError, match=r"\.png"):
        draw_hits(search, data, [], tmp_path / "hits.tif")


def test_an_index_of_another_model_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    with RunFolder.open(copy) as run:
        tensors, metadata = run.load_tensors("model.safetensors")
        name = next(name for name in tensors if name.endswith("linear.weight"))
        tensors[name] = torch.nextafter(tensors[name], torch.tensor(torch.inf))
        run.save_tensors("model.safetensors", tensors, metadata)
        run.seal()
    with pytest.raises(ArtifactError, match="another model"):
        open_search(copy)


def test_one_loose_image_and_a_flat_folder_can_be_embedded(tiny_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    one = _images(tiny_folder)[0]
    assert embed_source(tiny_run, str(one), tmp_path / "one.npy")["items"] == 1
    assert embed_source(tiny_run, str(one.parent), tmp_path / "flat.csv")["items"] == 6
    assert embed_source(tiny_run, str(tiny_folder), tmp_path / "all.safetensors")["items"] == 96
    with pytest.raises(AccordError, match="--overwrite"):
        embed_source(tiny_run, str(one), tmp_path / "one.npy")
    with pytest.raises(UsageError, match=r"\.npy"):
        embed_source(tiny_run, str(one), tmp_path / "one.pickle")


def test_a_token_file_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a-secret-of-sufficient-length\n")
    os.chmod(path, 0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        read_token(path)
    os.chmod(path, 0o600)
    assert read_token(path) == "a-secret-of-sufficient-length"
    assert read_token(None) is None
    with pytest.raises(UsageError, match="missing"):
        read_token(tmp_path / "missing")

"""Calibrating a run: set on validation classes only, sealed with the run, used by search, judged on the test."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from accord.errors import ArtifactError, DataError, UsageError
from accord.recipes import calibrate_run, draw_hits, evaluate_run, open_search, realised
from accord.recipes.artifacts import load_data, load_embedder, load_index, save_data
from accord.recipes.threshold import load_threshold, threshold_for
from accord.runs import RunFolder
from accord.types import Json, Labelled

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two validation classes of six images, six training and eight test classes."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("calibrated") / "run"))


@pytest.fixture(scope="module")
def document(run: Path) -> Json:
    return calibrate_run(run, far=0.2, frr=0.1)


def embedded(run: Path, splits: tuple[str, ...]) -> Labelled:
    folder = RunFolder.open(run)
    everything, manifest = load_index(folder, load_embedder(folder)).labelled, load_data(folder)
    ids = torch.tensor([item.id for item in manifest.items if item.split in splits])
    return Labelled(*(column[torch.isin(everything.ids, ids)] for column in everything))


def strangers(asking: Labelled, gallery: Labelled) -> list[float]:
    """The best score of each query when no item of its class is there."""
    q, k = (torch.nn.functional.normalize(items.embeddings.double()) for items in (asking, gallery))
    scores = q @ k.T
    return scores.masked_fill(asking.labels[:, None] == gallery.labels, -9).amax(dim=1).tolist()


def test_the_threshold_is_that_of_strangers_among_validation_classes(run: Path, document: Json) -> None:
    gallery = embedded(run, ("train", "validation"))
    scores = sorted(strangers(embedded(run, ("validation",)), gallery), reverse=True)
    # 48 images were asked, 96 will be: (1 - √0.8) · (12 + 1) = 1.4, so that the highest is no longer accepted
    assert document["search"]["for_images"] == 96
    assert document["search"]["same_above"] == pytest.approx(scores[0], abs=1e-6)
    assert document["search"]["same_above"] > scores[0]
    assert document["search"]["false_accepts"]["times"] == 0
    assert document["search"]["strangers"] == pytest.approx(scores)
    assert document["search"]["gallery"] == {"images": len(gallery.ids), "classes": 8}
    assert (document["search"]["queries"], document["search"]["classes"]) == (12, 2)
    assert 0 <= document["search"]["identified"]["share"] <= document["search"]["accepted"]["share"] <= 1
    pairs = document["pairs"]
    assert pairs["different_below"] <= pairs["same_above"]
    assert pairs["false_accepts"]["share"] <= 0.2
    assert pairs["false_accepts"]["total"] == 36
    assert any("Only 2 classes" in note for note in document["notes"])


def test_it_is_written_into_the_run_and_sealed_with_it(run: Path, document: Json) -> None:
    folder = RunFolder.open(run)
    assert folder.verify() == []
    assert "threshold.json" in json.loads((run / "manifest.json").read_text())["files"]
    assert load_threshold(folder, load_embedder(folder)) == document


def test_the_test_classes_play_no_part(run: Path, document: Json, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with RunFolder.open(copy) as folder:
        tensors, metadata = folder.load_tensors("index/exact.safetensors")
        manifest = load_data(folder)
        test = torch.tensor([item.id for item in manifest.only("test").items])
        tensors["embeddings"][torch.isin(tensors["ids"], test)] = 1.0
        folder.save_tensors("index/exact.safetensors", tensors, metadata)
    assert calibrate_run(copy, far=0.2, frr=0.1) == document
    with RunFolder.open(copy) as folder:
        assert not folder.is_sealed()  # it was not, and calibrating does not vouch for files it did not write
        folder.drop("index/exact.safetensors")
    # without an index the images are embedded anew
    again = calibrate_run(copy, far=0.2, frr=0.1)
    assert again["search"]["same_above"] == pytest.approx(document["search"]["same_above"], abs=1e-5)


def test_what_it_does_on_the_test_is_counted_there(run: Path, document: Json) -> None:
    folder = RunFolder.open(run)
    everything = embedded(run, ("train", "validation", "test"))
    found = realised(document, everything, load_data(folder))
    scores = strangers(embedded(run, ("test",)), everything)
    assert found["false_accepts"]["times"] == sum(score >= document["search"]["same_above"] for score in scores)
    assert (found["queries"], found["classes"]) == (48, 8)
    assert found["gallery"] == {"images": 96, "classes": 16}
    assert (found["far"], found["same_above"]) == (0.2, document["search"]["same_above"])


def test_a_search_says_unknown_below_it(run: Path, document: Json, tiny_folder: Path, tmp_path: Path) -> None:
    search = open_search(run)
    assert (search.threshold, search.far) == (document["search"]["same_above"], 0.2)
    data = search.read(sorted(tiny_folder.rglob("*.jpg"))[0])
    hits = search.by_image(data, 5)
    assert search.knows(hits) is True
    assert search.knows([hits[0]._replace(score=search.threshold - 1e-6)]) is False
    assert search.knows([]) is False
    stricter = open_search(run, threshold="0.9999999")
    assert (stricter.threshold, stricter.far) == (0.9999999, None)
    stricter.threshold = 1.1
    draw_hits(stricter, data, hits, tmp_path / "unknown.png")
    assert open_search(run, threshold="none").knows(hits) is None


@pytest.mark.parametrize("threshold", ["1.5", "nan", "many", ""])
def test_a_threshold_that_is_no_score_is_refused(run: Path, threshold: str) -> None:
    with pytest.raises(UsageError, match="from -1 to 1, or none"):
        open_search(run, threshold=threshold)


class Listener:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, stage: str, done: int, total: int, facts: object = None) -> None: ...


def test_a_gallery_of_another_size_has_its_own_threshold(run: Path, document: Json, tiny_folder: Path) -> None:
    watch, strangers = Listener(), document["search"]["strangers"]
    open_search(run, watch=watch)  # the run's own gallery holds the test's images, too
    assert watch.warnings == []
    # 48 images were asked and 6 will be: of eight times as many strangers as wanted none need be refused
    smaller = open_search(run, gallery=str(sorted(tiny_folder.iterdir())[0]), watch=watch)
    assert smaller.threshold == pytest.approx(strangers[int((1 - 0.8**8) * 13) - 1], abs=1e-6)
    assert watch.warnings == []
    assert threshold_for(document, 48) == (pytest.approx(strangers[1], abs=1e-6), True)
    assert threshold_for(document, 10_000) == (pytest.approx(strangers[0], abs=1e-6), False)


def test_a_gallery_too_large_for_the_calibration_is_warned_of(run: Path, document: Json, tmp_path: Path) -> None:
    copy, watch = tmp_path / "copy", Listener()
    shutil.copytree(run, copy)
    with RunFolder.open(copy) as folder:
        search = {**document["search"], "for_images": 95, "gallery": {"images": 10, "classes": 8}}
        folder.write_json("threshold.json", {**document, "search": search})
    open_search(copy, watch=watch)
    assert "strictest that 12 calibration images can support; with 96 images to be found more" in watch.warnings[0]


def test_a_threshold_of_another_model_is_refused(run: Path, document: Json, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with RunFolder.open(copy) as folder:
        folder.write_json("threshold.json", {**document, "model": "another"})
    with pytest.raises(ArtifactError, match=r"another model.*\n.*accord calibrate"):
        open_search(copy)
    assert open_search(copy, threshold="none").threshold is None


def test_a_damaged_run_is_not_sealed_anew(run: Path, document: Json, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "log.jsonl").write_text("")
    with pytest.raises(ArtifactError, match=r"log\.jsonl has been changed"):
        calibrate_run(copy, far=0.2)


def test_rates_that_the_validation_images_cannot_support_are_refused(run: Path) -> None:
    with pytest.raises(
        DataError, match=r"at least 199 images of held-out classes, and there are 12.\n.*far=0.148 or more"
    ):
        calibrate_run(run, far=0.01)
    with pytest.raises(UsageError, match="far"):
        calibrate_run(run, far=0.0)


@pytest.mark.parametrize("labels", ["", "aaa", "ab"])
def test_a_run_without_validation_classes_is_refused_with_a_way_out(run: Path, labels: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with RunFolder.open(copy) as folder:
        manifest = load_data(folder)
        held_out = [item._replace(split="train") if item.split == "validation" else item for item in manifest.items]
        for place, label in enumerate(labels):
            held_out[place] = held_out[place]._replace(split="validation", label=label)
        save_data(folder, replace(manifest, items=tuple(held_out)))
    with pytest.raises(DataError, match=r"too few.*\n.*data\.validation=0\.2"):
        calibrate_run(copy)


def test_a_run_without_a_threshold_is_searched_as_ever(tiny_run: Path) -> None:
    search = open_search(tiny_run)
    assert (search.threshold, search.far) == (None, None)
    assert search.knows(search.by_id(0, 3)) is None


def test_the_report_tells_what_the_threshold_does_on_the_test(run: Path, document: Json, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    report = evaluate_run(copy)
    assert report["threshold"]["same_above"] == document["search"]["same_above"]
    assert report["threshold"]["false_accepts"]["total"] == 48
    assert any(
        note.startswith("The threshold") and "to let pass 20.0% of strangers" in note for note in report["notes"]
    )

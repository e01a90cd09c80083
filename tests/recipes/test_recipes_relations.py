"""Runs that learn from pairs and triplets in place of classes: what is refused at once, and one end to end."""

import csv
import json
import random
import shutil
from itertools import combinations
from pathlib import Path

import pytest
import torch

from accord.errors import DataError, UsageError
from accord.losses import Kind, ProxyNCA, Related
from accord.recipes import compress_run, evaluate_run, open_search, read_report, resolve, resume_run, train_run
from accord.recipes.artifacts import load_data
from accord.recipes.build import build_objective, check_parts
from accord.recipes.catalog.losses import LOSSES
from accord.recipes.compress.methods import METHODS
from accord.recipes.config import RunConfig
from accord.recipes.interrupt import StoppedError
from accord.recipes.relations import accuracy_on, freed, learnable, relation_notes
from accord.recipes.source import open_source
from accord.recipes.watch import Silence
from accord.runs import RunFolder
from accord.types import Item, Labelled, Manifest
from stopping import StopAt

SMALL = ("model.size=32", "model.dim=16", "training.epochs=1", "training.classes_per_batch=4", "evaluation.nmi_seeds=2")


@pytest.fixture(scope="session")
def triplets(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Triplets of the tiny folder: every two images of a class, a random one of another class beside."""
    draw = random.Random(0)
    classes = sorted(folder.name for folder in tiny_folder.iterdir())
    images = {name: sorted(f"{name}/{path.name}" for path in (tiny_folder / name).iterdir()) for name in classes}
    rows = [
        (anchor, positive, draw.choice(images[draw.choice([other for other in classes if other != name])]))
        for name in classes
        for anchor, positive in combinations(images[name], 2)
    ]
    path = tmp_path_factory.mktemp("said") / "triplets.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("anchor", "positive", "negative"), *rows])
    return path


@pytest.fixture(scope="session")
def pairs(triplets: Path) -> Path:
    """The same without negatives."""
    path = triplets.with_name("pairs.csv")
    path.write_text("".join(line.rpartition(",")[0] + "\n" for line in triplets.read_text().splitlines()))
    return path


def _config(folder: Path, file: Path, *settings: str, recipe: str | None = None) -> RunConfig:
    data = {"source": str(folder), "relations": str(file)}
    return resolve(recipe=recipe, file={"data": data}, settings=[*SMALL, *settings])


def test_the_usual_recipe_is_one_that_learns_from_relations(tiny_folder: Path, triplets: Path) -> None:
    config = _config(tiny_folder, triplets)
    assert config.recipe == "relations"
    check_parts(config)
    assert resolve(settings=[f"data.relations={triplets}"]).recipe == "relations"
    assert resolve().recipe == "accord"


def test_every_recipe_builds_an_objective_or_is_refused(tiny_folder: Path, pairs: Path) -> None:
    built = build_objective(_config(tiny_folder, pairs), classes=7)
    kinds = [type(member) for member in built.members.values()]  # type: ignore[union-attr]
    assert kinds == [Related, Related, ProxyNCA]
    assert len(built.members["proxy_nca"].proxies) == 7  # type: ignore[index]
    fewer = "[{type: proxy_nca, options: {assignment: dynamic, proxies_per_class: 0.5}}]"
    assert len(build_objective(_config(tiny_folder, pairs, f"losses={fewer}"), classes=8).proxies) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_the_catalogue_is_taken_or_refused_by_name(
    name: str, kind: Kind, tiny_folder: Path, triplets: Path, pairs: Path
) -> None:
    config = _config(tiny_folder, triplets if kind == "triplets" else pairs, f"losses=[{{type: {name}}}]")
    if name in learnable(kind):
        check_parts(config)
        return
    with pytest.raises(UsageError, match=rf"{name}: .* can't learn from {kind} without classes") as refused:
        check_parts(config)
    assert "triplet_margin" in str(refused.value)
    assert set(freed(kind)) == {"proxy_nca", "proxy_nca_plus_plus", "proxy_triplet"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("losses=[{type: contrastive, memory: 64}]",),
            r"CrossBatchMemory\(Contrastive\) can't learn .*leave the memory",
        ),
        (("losses=[{type: n_pair}]",), "Without the column negative the table is one of pairs, from which this loss"),
        (("losses=[{type: proxy_nca}]",), r"its proxies belong to classes \(assignment='dynamic' frees them\)"),
        (("training.hard_classes=true",), "training.hard_classes chooses classes"),
    ],
)
def test_what_needs_classes_is_refused_before_any_image_is_read(
    settings: tuple[str, ...], message: str, triplets: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        train_run(_config(tmp_path / "nowhere", triplets, *settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_miners_choose_among_what_was_said(tiny_folder: Path, triplets: Path) -> None:
    check_parts(_config(tiny_folder, triplets, "losses=[{type: contrastive, miner: hard}]"))


@pytest.mark.parametrize("setting", ["data.root=here", "data.boxes=true", "data.layout=cub"])
def test_options_about_classes_are_refused_beside_relations(tiny_folder: Path, triplets: Path, setting: str) -> None:
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        open_source(_config(tiny_folder, triplets, setting).data, Silence())


def test_a_source_that_is_not_there_is_named(triplets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder or archive at .*nowhere"):
        open_source(_config(tmp_path / "nowhere", triplets).data, Silence())


def test_groups_are_split_and_relations_stay_on_their_side(tiny_folder: Path, triplets: Path) -> None:
    manifest = open_source(_config(tiny_folder, triplets).data, Silence())
    assert len(manifest.classes) == 16
    sides = {item.id: item.split for item in manifest.items}
    assert manifest.relations
    assert all(len({sides[item] for item in relation}) == 1 for relation in manifest.relations)
    assert any("lie on two sides of the split" in note for note in manifest.notes)


def test_builtin_images_take_relations_too(tmp_path: Path) -> None:
    names = open_source(resolve(settings=["data.source=objects"]).data, Silence())
    by_class: dict[str, list[str]] = {}
    for item in names.items[:144]:
        by_class.setdefault(item.label, []).append(item.path)
    rows = [f"{images[0]},{other}" for images in by_class.values() for other in images[1:3]]
    (tmp_path / "pairs.csv").write_text("\n".join(["anchor,positive", *rows]))
    config = resolve(settings=["data.source=objects", f"data.relations={tmp_path / 'pairs.csv'}"])
    manifest = open_source(config.data, Silence())
    assert len(manifest) == 3 * len(by_class)


def test_pairs_have_no_triplet_accuracy_and_triplets_without_a_test_say_so() -> None:
    items = tuple(Item(number, f"{number}.png", str(number // 2), split="train") for number in range(4))
    labelled = Labelled(torch.eye(4), torch.zeros(4, dtype=torch.int64), torch.arange(4))
    assert accuracy_on(labelled, Manifest("", Path(), items, (), ((0, 1), (2, 3)))) is None
    manifest = Manifest("", Path(), items, (), ((0, 1, 2),))
    assert accuracy_on(labelled, manifest) == (0.5, 1)
    notes = relation_notes(manifest)
    assert "other images may belong together without being named" in notes[0]
    assert "no triplet accuracy" in notes[1]
    assert relation_notes(Manifest("", Path(), items)) == []


@pytest.fixture(scope="session")
def related_run(tiny_folder: Path, triplets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the usual recipe for relations; read it, don't change it."""
    out = tmp_path_factory.mktemp("related") / "run"
    train_run(_config(tiny_folder, triplets), out)
    return out


@pytest.mark.slow
@pytest.mark.pretrained
def test_a_run_reports_the_triplet_accuracy_and_what_stands_for_classes(related_run: Path) -> None:
    report = read_report(related_run)
    for part in ("metrics", "baseline", "raw_pixels"):
        assert 0 < report[part]["triplet_accuracy"] <= 1
    data = json.loads((related_run / "data.json").read_text())
    sides = {item["id"]: item["split"] for item in data["items"]}
    tested = [relation for relation in data["relations"] if sides[relation[0]] == "test"]
    assert report["counts"]["triplets"] == len(tested) > 0
    assert any("groups of images said to belong together stand for classes" in note for note in report["notes"])
    validation = json.loads((related_run / "validation.json").read_text())["validation"]
    assert 0 <= validation["triplet_accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.pretrained
def test_a_stopped_run_goes_on_bit_equal(related_run: Path, tiny_folder: Path, triplets: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train_run(_config(tiny_folder, triplets), tmp_path / "stopped", watch=StopAt(4))
    resume_run(tmp_path / "stopped")
    runs = (RunFolder.open(path) for path in (related_run, tmp_path / "stopped"))
    whole, other = (run.load_tensors("model.safetensors")[0] for run in runs)
    assert all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.slow
@pytest.mark.pretrained
def test_a_run_is_evaluated_anew_and_searched(related_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(related_run, tmp_path / "copy"))
    before = read_report(copy)
    assert evaluate_run(copy)["metrics"] == before["metrics"]
    item = load_data(RunFolder.open(copy)).only("test").items[0]
    search = open_search(copy)
    found = search.by_image((tiny_folder / item.path).read_bytes(), 3)
    assert (found[0].path, found[0].label) == (item.path, item.label)
    assert item.id not in [hit.id for hit in search.by_id(item.id, 3)]


@pytest.mark.slow
@pytest.mark.pretrained
@pytest.mark.parametrize("method", [name for name in METHODS if name != "heads"])
def test_a_run_of_relations_is_compressed_by_what_stands_for_its_classes(
    method: str, related_run: Path, tmp_path: Path
) -> None:
    found = compress_run(related_run, method=method, dim=4, out=tmp_path / "small")
    assert found["metrics"]["triplet_accuracy"] > 0.5
    assert found["validation"]["after"]["recall@1"] > 0


@pytest.mark.slow
@pytest.mark.pretrained
def test_pairs_train_without_a_triplet_accuracy(tiny_folder: Path, pairs: Path, tmp_path: Path) -> None:
    report = train_run(_config(tiny_folder, pairs, "losses=[{type: n_pair}]"), tmp_path / "run")
    assert "triplet_accuracy" not in report["metrics"]
    assert report["metrics"]["recall@1"] > 0

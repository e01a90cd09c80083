"""The main job, end to end on a tiny set of real images: what it writes, how it resumes, what it refuses."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

import accord
from accord.errors import AccordError, ArtifactError, DataError
from accord.recipes import evaluate_run, read_report, resolve, resume_run, train_run
from accord.recipes.interrupt import StoppedError
from accord.runs import RunFolder
from accord.types import Json
from stopping import StopAt

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]

TINY = ("model.size=32", "model.dim=16", "training.epochs=2", "training.classes_per_batch=4", "evaluation.nmi_seeds=2")
KEYS = {"recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi", "knn_accuracy"}


def _config(folder: Path, *settings: str, recipe: str = "five_losses"):
    return resolve(recipe=recipe, file={"data": {"source": str(folder)}}, settings=[*TINY, *settings])


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return RunFolder.open(run).load_tensors("model.safetensors")[0]


def test_the_report_has_the_names_other_tools_read(tiny_run: Path) -> None:
    report = json.loads((tiny_run / "report.json").read_text())
    assert set(report["metrics"]) >= KEYS
    assert set(report["baseline"]) >= KEYS
    assert all(0.0 <= report[part][key] <= 1.0 for part in ("metrics", "baseline") for key in KEYS)


def test_the_run_folder_is_complete_and_matches_its_checksums(tiny_run: Path) -> None:
    names = {
        "config.yaml",
        "data.json",
        "log.jsonl",
        "model.safetensors",
        "report.json",
        "report.html",
        "manifest.json",
    }
    assert names <= {path.name for path in tiny_run.iterdir()}
    RunFolder.open(tiny_run).verify()
    listed = json.loads((tiny_run / "manifest.json").read_text())
    digest = hashlib.sha256((tiny_run / "model.safetensors").read_bytes()).hexdigest()
    assert digest in json.dumps(listed)


def test_train_validation_and_test_share_no_class(tiny_run: Path) -> None:
    sides: dict[str, set[str]] = {}
    for item in json.loads((tiny_run / "data.json").read_text())["items"]:
        row = (
            item
            if isinstance(item, dict)
            else dict(zip(("id", "path", "label", "sha256", "split"), item, strict=False))
        )
        sides.setdefault(row["label"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    assert {next(iter(splits)) for splits in sides.values()} == {"train", "validation", "test"}


def test_the_saved_model_embeds_images_by_itself(tiny_run: Path) -> None:
    embedder = accord.load(tiny_run)
    with torch.inference_mode():
        embeddings = embedder(torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8))
    assert embeddings.shape == (3, embedder.dim)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(3))


def test_the_same_seed_gives_the_same_bits(tiny_folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    train_run(_config(tiny_folder), tmp_path / "again")
    first, second = _weights(tiny_run), _weights(tmp_path / "again")
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
def test_a_stopped_run_goes_on_bit_equal(step: int, tiny_folder: Path, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    with pytest.raises(StoppedError, match=f"after step {step} .*\n.*--resume") as stopped:
        train_run(_config(tiny_folder), out, watch=StopAt(step))
    assert stopped.value.exit_code == 130
    state = RunFolder.open(out).load_state()
    assert state is not None
    del state.facts["extra"]["config"]["training"]["hard_share"]  # as a version before that option would have saved it
    with RunFolder.open(out) as run:
        run.save_state(state.tensors, state.facts)
    assert resume_run(out)["seconds"]["training"] > state.facts["extra"]["seconds"] > 0
    first, second = _weights(tiny_run), _weights(out)
    assert all(torch.equal(first[key], second[key]) for key in first)
    steps = [row["step"] for row in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "step" in row]
    assert steps == list(range(1, len(steps) + 1))


def test_mined_classes_are_learnt_from_and_go_on_bit_equal(tiny_folder: Path, tmp_path: Path) -> None:
    mined = ("training.hard_classes=true", "training.classes_per_batch=3", "training.per_class=2")
    # six classes, twelve images to embed at a third of a training image's cost: every other step
    config = _config(tiny_folder, *mined, "training.hard_pool=5", "training.hard_share=0.4", recipe="n_pair")
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(3))
    state = RunFolder.open(tmp_path / "stopped").load_state()
    assert state is not None
    assert int(state.tensors["mined.step"]) == 2
    resume_run(tmp_path / "stopped")
    first, second = _weights(tmp_path / "whole"), _weights(tmp_path / "stopped")
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_evaluating_again_gives_the_same_numbers(tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    again = evaluate_run(copy)
    report = read_report(tiny_run)
    assert again["metrics"] == report["metrics"]
    assert again["baseline"] == report["baseline"]


@pytest.mark.parametrize(
    "recipe", ["contrastive", "triplet", "n_pair", "proxy_nca", "cross_entropy", "multi_similarity"]
)
def test_each_single_loss_has_a_recipe_that_trains(recipe: str, tiny_folder: Path, tmp_path: Path) -> None:
    report = train_run(_config(tiny_folder, "training.epochs=1", recipe=recipe), tmp_path / recipe)
    assert set(report["metrics"]) >= KEYS


def test_a_run_folder_that_exists_is_not_touched(tiny_run: Path, tiny_folder: Path) -> None:
    before = _times(tiny_run)
    with pytest.raises(AccordError, match="resume"):
        train_run(_config(tiny_folder), tiny_run)
    assert _times(tiny_run) == before


def _times(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_training_on_other_images_than_before_is_not_a_resume(tiny_folder: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "run"
    shutil.copytree(tiny_folder, folder)
    with pytest.raises(StoppedError):
        train_run(_config(folder), out, watch=StopAt(1))
    table = json.loads((out / "data.json").read_text())
    (out / "data.json").write_text(json.dumps(_swap_two_labels(table)))
    with pytest.raises(ArtifactError):
        resume_run(out)


def _swap_two_labels(table: Json) -> Json:
    items = table["items"]
    key = "label" if isinstance(items[0], dict) else 2
    last = next(item for item in items if item[key] != items[0][key])
    items[0][key], last[key] = last[key], items[0][key]
    return table


def test_a_model_changed_on_disk_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_run, copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        accord.load(copy)


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        train_run(_config(tmp_path / "nowhere"), tmp_path / "run")
    with pytest.raises(AccordError, match="Did you mean 'objects'"):
        train_run(resolve(file={"data": {"source": "objets"}}), tmp_path / "run")

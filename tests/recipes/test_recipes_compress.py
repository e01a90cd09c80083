"""Compressing a run: a run of its own comes out, fitted without the test classes, judged beside the first."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import accord
from accord.errors import ArtifactError, DataError, UnknownNameError, UsageError
from accord.models import JoinedHead, LinearHead
from accord.recipes import compress_run, evaluate_run, open_search, read_report, resolve, resume_run, train_run
from accord.recipes.artifacts import embed_items, load_config, load_data, load_embedder, load_index, save_data
from accord.recipes.config import LARGEST_SEED
from accord.recipes.resolve import changed, dump
from accord.runs import RunFolder
from accord.types import Json

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]
SMALL = ("model.size=32", "model.dim=16", "training.epochs=1", "training.classes_per_batch=4", "evaluation.nmi_seeds=1")


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, stage: str, done: int, total: int, facts: object = None) -> None: ...


def trained(folder: Path, out: Path, *settings: str, recipe: str | None = None) -> Path:
    train_run(
        resolve(recipe=recipe or "five_losses", file={"data": {"source": str(folder)}}, settings=(*SMALL, *settings)),
        out,
    )
    return out


@pytest.fixture(scope="module")
def compressed(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json, Listener]:
    """The default recipe's run, compressed by whatever does best on validation."""
    out, watch = tmp_path_factory.mktemp("compressed") / "small", Listener()
    return out, compress_run(tiny_run, dim=8, out=out, watch=watch), watch


@pytest.fixture(scope="module")
def closed(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run with its test classes left closed, which spares every test a report."""
    copy = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("closed") / "run"))
    with RunFolder.open(copy) as folder:
        folder.write_text("config.yaml", dump(changed(load_config(folder), evaluation={"test": False})))
        folder.seal()
    return copy


def test_heads_that_fitted_weights_leave_out_are_not_among_those_kept(
    closed: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(
        "accord.recipes.compress.run.fit_shares",
        lambda outputs, labels, start: {name: float(place < 2) / 2 for place, name in enumerate(outputs)},
    )
    found = compress_run(closed, method="heads", fit_weights=True, out=tmp_path / "kept")
    assert found["after"]["numbers"] == load_embedder(RunFolder.open(tmp_path / "kept")).dim == 32
    found = compress_run(closed, method="wccn", fit_weights=True, out=tmp_path / "normalised")
    assert found["dim"] == found["after"]["numbers"] == load_embedder(RunFolder.open(tmp_path / "normalised")).dim == 32
    with pytest.raises(UsageError, match=r"dim=33, but the fitted weights leave only contrastive, triplet_margin"):
        compress_run(closed, dim=33, method="pca", fit_weights=True, out=tmp_path / "more")


def test_before_is_the_whole_run_whichever_heads_are_taken(tiny_run: Path, tmp_path: Path) -> None:
    found = compress_run(tiny_run, method="heads", heads={"n_pair": None}, out=tmp_path / "one")
    assert found["before"]["numbers"] == accord.load(tiny_run).dim == 1360
    assert found["after"]["numbers"] == 16
    whole, one = (read_report(path)["metrics"]["recall@1"] for path in (tiny_run, tmp_path / "one"))
    assert (found["original"]["recall@1"], found["metrics"]["recall@1"]) == (whole, one)


@pytest.fixture(scope="module")
def single(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one loss whose test classes were left closed."""
    out = tmp_path_factory.mktemp("single") / "run"
    return trained(tiny_folder, out, "evaluation.test=false", recipe="contrastive")


def test_a_run_of_one_head_comes_out_that_everything_else_takes(compressed, tiny_folder: Path) -> None:
    out, found, _ = compressed
    embedder = accord.load(out)
    assert (embedder.dim, list(embedder.heads)) == (8, ["compressed"])
    folder = RunFolder.open(out)
    assert folder.verify() == []
    assert folder.read_json("compression.json")["method"] == found["method"]
    how = load_config(folder).compression
    assert how is not None
    assert (how.dim, how.method, how.scale, how.fit_weights) == (8, found["method"], found["scale"], False)
    assert load_index(folder, embedder).labelled.embeddings.shape == (96, 8)
    search = open_search(out)
    hits = search.by_image(search.read(sorted(tiny_folder.rglob("*.jpg"))[0]), 3)
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert any("compressed to 8 numbers" in note for note in read_report(out)["notes"])


def test_it_is_judged_like_the_run_it_came_from(compressed, tiny_run: Path, tmp_path: Path) -> None:
    out, found, _ = compressed
    assert found["original"] == read_report(tiny_run)["metrics"]
    assert found["metrics"] == read_report(out)["metrics"]
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    assert evaluate_run(copy)["metrics"] == pytest.approx(found["metrics"])


def test_the_run_it_came_from_is_not_touched(compressed, tiny_run: Path) -> None:
    assert RunFolder.open(tiny_run).verify() == []


def test_auto_takes_what_does_best_on_validation_and_says_what_it_tried(compressed) -> None:
    _, found, watch = compressed
    tried = found["tried"]
    assert {told["method"] for told in tried} == {"pca", "whiten", "fold", "lda", "wccn", "student", "distil"}
    best = max(told["map@r"] for told in tried)
    chosen = [told for told in tried if (told["method"], told["scale"]) == (found["method"], found["scale"])]
    assert chosen[0]["map@r"] == best == found["validation"]["after"]["map@r"]
    assert all(
        any(line.startswith(f"{told['method']}, scale {told['scale']}") for line in watch.said) for told in tried
    )


def test_the_test_classes_play_no_part_in_what_comes_out(closed: Path, tmp_path: Path) -> None:
    first = compress_run(closed, dim=8, method="lda", fit_weights=True, out=tmp_path / "first")
    # the same run without a single test image of the classes that come last
    other = Path(shutil.copytree(closed, tmp_path / "other"))
    with RunFolder.open(other) as folder:
        manifest = load_data(folder)
        gone = set(manifest.only("test").classes[2:])
        save_data(folder, replace(manifest, items=tuple(item for item in manifest.items if item.label not in gone)))
    second = compress_run(other, dim=8, method="lda", fit_weights=True, out=tmp_path / "second")
    assert second["weights"] == first["weights"]
    one, two = (accord.load(tmp_path / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_fitted_weights_are_shares_of_all_heads(closed: Path, tmp_path: Path) -> None:
    watch = Listener()
    found = compress_run(closed, dim=8, method="pca", fit_weights=True, out=tmp_path / "out", watch=watch)
    own = compress_run(closed, dim=8, method="pca", out=tmp_path / "own")
    assert sum(found["weights"].values()) == pytest.approx(1)
    assert set(found["weights"]) == set(own["weights"]) == set(accord.load(closed).heads)
    assert own["weights"]["trunk"] == pytest.approx(0.75)
    assert found["weights"] != own["weights"]
    assert any("weight of trunk" in line and "(was 0.750)" in line for line in watch.said)
    assert load_config(RunFolder.open(tmp_path / "out")).compression.fit_weights is True  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("method", "kind", "multiply_adds"),
    [("pca", JoinedHead, 1280 * 80 + 1360 * 8), ("fold", LinearHead, 1280 * 8), ("distil", LinearHead, 1280 * 8)],
)
def test_the_cost_is_told_as_it_is(closed: Path, tmp_path: Path, method: str, kind: type, multiply_adds: int) -> None:
    found = compress_run(closed, dim=8, method=method, out=tmp_path / "out")
    assert found["before"] == {"numbers": 1360, "multiply_adds": 1280 * 80, "parameters": 1281 * 80}
    assert (found["after"]["numbers"], found["after"]["multiply_adds"]) == (8, multiply_adds)
    assert isinstance(accord.load(tmp_path / "out").heads["compressed"], kind)
    assert (found["retained"] is None) is (method == "distil")


def test_a_single_loss_folded_to_all_its_numbers_scores_as_before(single: Path, tmp_path: Path) -> None:
    found = compress_run(single, dim=16, method="fold", out=tmp_path / "out")
    assert found["retained"] == 1.0
    assert (found["metrics"], found["original"]) == (None, None)
    manifest = load_data(RunFolder.open(single)).only("validation")
    before, after = (
        embed_items(accord.load(path), manifest, device=torch.device("cpu")).embeddings
        for path in (single, tmp_path / "out")
    )
    torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-5, rtol=1e-5)


def test_unseen_classes_that_were_left_closed_stay_closed(single: Path, tmp_path: Path) -> None:
    watch, out = Listener(), tmp_path / "out"
    found = compress_run(single, dim=4, method="pca", out=out, watch=watch)
    assert any("stay closed" in line for line in watch.said)
    folder = RunFolder.open(out)
    assert folder.is_sealed()
    assert not folder.exists("report.json")
    assert folder.read_json("validation.json")["validation"] == found["validation"]["after"]
    assert evaluate_run(Path(shutil.copytree(out, tmp_path / "copy")))["metrics"]["recall@1"] >= 0


def test_a_compressed_run_can_be_compressed_again(compressed, tmp_path: Path) -> None:
    found = compress_run(compressed[0], dim=4, method="pca", out=tmp_path / "again")
    assert accord.load(tmp_path / "again").dim == 4
    assert found["before"]["numbers"] == 8
    if isinstance(accord.load(compressed[0]).heads["compressed"], JoinedHead):
        with pytest.raises(UsageError, match="was compressed before"):
            compress_run(compressed[0], dim=4, method="fold", out=tmp_path / "no")


def test_without_validation_classes_pca_is_taken_and_weights_come_from_training(closed: Path, tmp_path: Path) -> None:
    copy, watch = Path(shutil.copytree(closed, tmp_path / "copy")), Listener()
    with RunFolder.open(copy) as folder:
        manifest = load_data(folder)
        items = tuple(item for item in manifest.items if item.split != "validation")
        save_data(folder, replace(manifest, items=items))
    found = compress_run(copy, dim=8, fit_weights=True, out=tmp_path / "out", watch=watch)
    assert (found["method"], found["validation"]) == ("pca", None)
    assert ["fitted on the training classes" in watch.warnings[0], "taking pca" in watch.warnings[1]] == [True, True]


def test_by_default_there_are_the_numbers_of_one_head_beside_the_run(
    closed: Path, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(closed, tmp_path / "copy"))
    found = compress_run(copy, method="fold")
    assert found["run"] == str(tmp_path / "copy-16")
    assert accord.load(tmp_path / "copy-16").dim == 16
    monkeypatch.chdir(copy)
    with pytest.raises(UsageError, match="copy-16 holds a run already"):
        compress_run(Path(), method="fold")
    with pytest.raises(UsageError, match=r"have 16 numbers; say how few: --dim"):
        compress_run(single, out=tmp_path / "no")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dim": 0}, UsageError, "dim must be a whole number of at least 1"),
        ({"dim": 1361}, UsageError, "dim=1361, but this run's embeddings have 1360 numbers"),
        ({"dim": 36}, DataError, r"there are 36 training images.*\n.*--dim 35 or less"),
        ({"dim": 8, "seed": -1}, UsageError, "seed must be a whole number of at least 0"),
        ({"dim": 8, "seed": 10**30}, UsageError, "seed must be a whole number of at least 0 and at most"),
        ({"dim": 8, "method": "pcaa"}, UnknownNameError, "Did you mean 'pca'"),
        ({"dim": 8, "scale": "lenght"}, UnknownNameError, "Did you mean 'length'"),
        ({"dim": 8, "method": "fold", "scale": "unit"}, UsageError, "--scale length or distance"),
    ],
)
def test_mistakes_are_refused_before_anything_is_written(
    closed: Path, tmp_path: Path, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        compress_run(closed, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_any_seed_of_a_study_will_do(closed: Path, tmp_path: Path) -> None:
    assert (
        compress_run(closed, dim=8, method="student", seed=LARGEST_SEED, out=tmp_path / "out")["seed"] == LARGEST_SEED
    )


def test_a_run_is_never_written_over(tiny_run: Path, compressed) -> None:
    with pytest.raises(UsageError, match="run of its own"):
        compress_run(tiny_run, dim=8, out=tiny_run, overwrite=True)
    with pytest.raises(UsageError, match="holds a run already"):
        compress_run(tiny_run, dim=8, out=compressed[0])


def test_weights_of_a_lone_head_cannot_be_fitted(single: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this run has one"):
        compress_run(single, dim=4, fit_weights=True, out=tmp_path / "out")


def test_a_run_that_is_not_finished_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_run, tmp_path / "copy"))
    (copy / "manifest.json").unlink()
    (copy / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"training has not ended.*--resume"):
        compress_run(copy, dim=8, out=tmp_path / "out")


def test_a_compressed_run_that_was_stopped_is_not_trained_on(compressed, tiny_run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(compressed[0], tmp_path / "copy"))
    (copy / "manifest.json").unlink()
    anew = rf"compressed from another run.*\n.*accord compress {re.escape(str(tiny_run))} --out .*copy --overwrite"
    with pytest.raises(UsageError, match=anew):
        resume_run(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=anew):
        accord.load(copy)


def test_a_configuration_cannot_ask_for_compression(compressed) -> None:
    raw = json.loads(json.dumps(load_config(RunFolder.open(compressed[0])).model_dump(mode="json")))
    with pytest.raises(UsageError, match="accord compress RUN"):
        resolve(file=raw)
    assert "compression" not in resolve().model_dump(mode="json")


def test_mlp_heads_are_compressed_from_on_top_of_them(tiny_folder: Path, tmp_path: Path) -> None:
    run = trained(tiny_folder, tmp_path / "run", "model.head=mlp", "evaluation.test=false")
    with pytest.raises(UsageError, match=r"head 'contrastive' has a hidden layer.*\n.*--method pca"):
        compress_run(run, dim=8, method="fold", out=tmp_path / "out")
    found = compress_run(run, dim=8, out=tmp_path / "out")
    assert {told["method"] for told in found["tried"]} == {"pca", "whiten", "lda", "wccn", "student", "distil"}

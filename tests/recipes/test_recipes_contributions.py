"""What each head of a run contributes: from the validation classes alone, in heads.json and in the report."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from accord.evaluation import head_contributions
from accord.models import Embedder, LinearHead, TrunkHead, build_pool
from accord.recipes import evaluate_run, read_report, resolve, summary, train_run
from accord.recipes.artifacts import embed_items, load_data, load_embedder
from accord.recipes.contributions import HEADS, some_of, tell_heads
from accord.recipes.watch import Silence
from accord.runs import RunFolder
from accord.types import Item, Labelled, Manifest, Preprocessing
from patches import Patches


class _Listen(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def _embedder(**weights: float) -> Embedder:
    heads = {
        "one": LinearHead(6, 3, normalise=False, generator=torch.Generator().manual_seed(0)),
        "two": LinearHead(6, 2, generator=torch.Generator().manual_seed(1)),
        "trunk": TrunkHead(6),
    }
    weights = {"one": 1.0, "two": 1.0, "trunk": 2.0, **weights}
    return Embedder(Patches(), build_pool("average"), heads, preprocessing=Preprocessing(8), weights=weights)


def _manifest(**counts: int) -> Manifest:
    """Classes of four images, so many in each split."""
    labels = [(split, f"{split}{place}") for split, count in counts.items() for place in range(count)]
    items = [
        Item(10 * row + 3, f"{label}/{row}.jpg", label, f"{row:064x}", split)
        for row, (split, label) in enumerate(pair for pair in labels for _ in range(4))
    ]
    return Manifest("made", Path("made"), tuple(items))


def _embedded(embedder: Embedder, manifest: Manifest, seed: int = 0) -> tuple[Labelled, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(manifest), 6, generator=generator)
    outputs = {name: head(features).detach() for name, head in embedder.heads.items()}
    ids = torch.tensor([item.id for item in manifest.items])
    return Labelled(embedder.join(outputs), torch.zeros(len(ids), dtype=torch.int64), ids), outputs


def _told(tmp_path: Path, embedder: Embedder, manifest: Manifest, watch: Silence | None = None) -> dict[str, object]:
    with RunFolder.create(tmp_path / "run", overwrite=True) as run:
        return tell_heads(run, embedder, _embedded(embedder, manifest)[0], manifest, watch or Silence())


def test_only_the_validation_classes_are_looked_at(tmp_path: Path) -> None:
    embedder, manifest = _embedder(), _manifest(train=3, validation=5, test=4)
    told = _told(tmp_path, embedder, manifest)
    outputs = _embedded(embedder, manifest)[1]
    rows = torch.tensor([item.split == "validation" for item in manifest.items])
    labels = torch.arange(5).repeat_interleave(4)
    found = head_contributions(
        {name: output[rows] for name, output in outputs.items()},
        labels,
        shares={"one": 1.0, "two": 1.0, "trunk": 2.0},
    )
    assert (told["images"], told["of_images"], told["classes"], told["queries"]) == (20, 20, 5, 20)
    for key in ("recall@1", "map@r"):
        assert told["metrics"][key] == pytest.approx(found.whole.metrics[key])
        for head in told["heads"]:
            assert head["alone"][key] == pytest.approx(found.alone[head["name"]].metrics[key])
            assert head["without"][key] == pytest.approx(found.without[head["name"]].metrics[key])
            assert head["lost"][key] == pytest.approx(told["metrics"][key] - head["without"][key])
            low, high = head["lost_intervals"][key]
            assert low <= head["lost"][key] <= high
    assert [head["share"] for head in told["heads"]] == pytest.approx([0.25, 0.25, 0.5])
    assert [head["numbers"] for head in told["heads"]] == [3, 2, 6]
    assert [(pair["first"], pair["second"]) for pair in told["agreement"]] == [
        ("one", "two"),
        ("one", "trunk"),
        ("two", "trunk"),
    ]
    for pair, expected in zip(told["agreement"], found.agreement, strict=True):
        assert tuple(pair.values())[2:] == pytest.approx(expected[2:], abs=1e-4)


def test_it_is_kept_in_the_run_as_it_is_told(tmp_path: Path) -> None:
    told = _told(tmp_path, _embedder(), _manifest(validation=4))
    kept = json.loads((tmp_path / "run" / HEADS).read_text())
    assert kept == json.loads(json.dumps(told))
    assert kept["schema_version"] == 1


def test_a_head_that_counts_for_nothing_is_named_and_left_out(tmp_path: Path) -> None:
    told = _told(tmp_path, _embedder(two=0.0), _manifest(validation=4))
    assert [head["name"] for head in told["heads"]] == ["one", "trunk"]
    assert told["silent"] == ["two"]


def test_a_lone_head_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    assert _told(tmp_path, _embedder(one=0.0, two=0.0), _manifest(validation=4)) == {}
    assert not (tmp_path / "run" / HEADS).exists()


@pytest.mark.parametrize("validation", [0, 1])
def test_without_validation_classes_it_says_so(tmp_path: Path, validation: int) -> None:
    watch = _Listen()
    told = _told(tmp_path, _embedder(), _manifest(train=3, validation=validation), watch)
    assert "no validation classes" in told["left_out"]
    assert watch.said == ["what each head contributes is left out: no validation classes to measure it on"]
    assert not (tmp_path / "run" / HEADS).exists()


def test_a_small_set_is_taken_whole() -> None:
    assert some_of(torch.tensor([4, 0, 4]), most=3).tolist() == [0, 1, 2]


def test_of_a_large_set_whole_classes_are_drawn() -> None:
    labels = torch.arange(100).repeat_interleave(5)[torch.randperm(500, generator=torch.Generator().manual_seed(4))]
    rows = some_of(labels, most=50)
    assert len(rows) == 50
    assert labels[rows].bincount().unique().tolist() == [0, 5]
    assert torch.equal(rows, rows.sort().values)
    assert torch.equal(rows, some_of(labels, most=50))
    assert labels[rows].unique().tolist() != list(range(10)), "drawn, not the first ones"


def test_of_large_classes_some_images_are_drawn() -> None:
    labels = torch.arange(3).repeat_interleave(100)
    rows = some_of(labels, most=50, of_class=20)
    assert labels[rows].bincount().tolist() == [20, 20, 20]
    assert not torch.equal(rows[:20], torch.arange(20))


TINY = ("model.size=32", "model.dim=16", "training.classes_per_batch=4", "evaluation.nmi_seeds=2", "training.steps=4")


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heads") / "run"
    settings = (*TINY, "data.validation=0.4")
    train_run(resolve(recipe="five_losses", file={"data": {"source": str(tiny_folder)}}, settings=settings), out)
    return out


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_tells_it_in_report_page_and_summary(run: Path) -> None:
    report, told = read_report(run), json.loads((run / HEADS).read_text())
    names = ["contrastive", "triplet_margin", "n_pair", "proxy_nca", "smoothed_cross_entropy", "trunk"]
    assert [head["name"] for head in report["heads"]["heads"]] == names
    assert report["heads"]["metrics"] == pytest.approx(told["metrics"])
    assert "heads" in report["seconds"]
    page = (run / "report.html").read_text()
    assert '<section id="heads"' in page
    text = summary(report)
    assert "What each head contributes, on" in text
    assert all(f"\n{name} " in text for name in names)


@pytest.mark.pretrained
@pytest.mark.slow
def test_the_whole_is_what_the_model_scores_on_validation(run: Path) -> None:
    folder = RunFolder.open(run)
    manifest = load_data(folder).only("validation")
    embedded = embed_items(load_embedder(folder), manifest, device=torch.device("cpu"))
    told = json.loads((run / HEADS).read_text())
    validated = json.loads((run / "validation.json").read_text())["validation"]
    assert told["images"] == len(embedded.ids)
    assert told["metrics"] == pytest.approx({key: validated[key] for key in told["metrics"]}, abs=1e-6)


@pytest.mark.pretrained
@pytest.mark.slow
def test_judging_an_older_run_adds_it(run: Path, tmp_path: Path) -> None:
    older = Path(shutil.copytree(run, tmp_path / "older"))
    with RunFolder.open(older) as folder:
        (older / HEADS).unlink()
        report = read_report(older)
        del report["heads"]
        folder.write_json("report.json", report)
        folder.seal()
    assert "What each head contributes" not in summary(read_report(older))
    evaluate_run(older)
    assert json.loads((older / HEADS).read_text()) == json.loads((run / HEADS).read_text())


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_whose_unseen_classes_stay_closed_tells_it_too(run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    settings = (*TINY, "data.validation=0.4", "evaluation.test=false")
    train_run(
        resolve(recipe="five_losses", file={"data": {"source": str(tiny_folder)}}, settings=settings),
        tmp_path / "closed",
    )
    told, other = (json.loads((path / HEADS).read_text()) for path in (tmp_path / "closed", run))
    for head, twin in zip(told["heads"], other["heads"], strict=True):
        assert head["alone"] == pytest.approx(twin["alone"], abs=1e-6)
    assert not (tmp_path / "closed" / "report.json").exists()


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_of_one_loss_tells_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    settings = (*TINY, "evaluation.test=false")
    config = resolve(recipe="triplet", file={"data": {"source": str(tiny_folder)}}, settings=settings)
    train_run(config, tmp_path / "one")
    assert not (tmp_path / "one" / HEADS).exists()

"""The metric of a trained run: what its one head is, where it can't be had, and that everything after it goes on."""

from collections import Counter
from pathlib import Path

import pytest
import torch

import accord
from accord.ensembles import wccn
from accord.errors import UsageError
from accord.geometry import normalise
from accord.models import Embedder
from accord.recipes import compress_run, metric, resolve, resume_run, train_run
from accord.recipes.artifacts import embed_items, load_data
from accord.recipes.build import build_embedder, deployed
from accord.recipes.compress.methods import SHRINKAGE
from accord.recipes.config import RunConfig
from accord.recipes.features import Features
from accord.recipes.head_names import member_names
from accord.recipes.interrupt import StoppedError
from accord.recipes.metric import METRIC, with_metric
from accord.recipes.per_query import config_fingerprint
from accord.recipes.session import can_be_judged
from accord.recipes.source import open_source
from accord.recipes.study.ablation import Ablation
from accord.recipes.watch import Silence
from accord.runs import RunFolder
from accord.types import Item, Manifest
from stopping import StopAt

TINY = ("model.size=32", "model.dim=8", "training.steps=4", "training.classes_per_batch=4", "evaluation.nmi_seeds=1")


class Heard(Silence):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def _config(folder: Path, *settings: str) -> RunConfig:
    file = {"data": {"source": str(folder)}}
    return resolve(recipe="five_losses", file=file, settings=[*TINY, "model.backbone=resnet10", *settings])


def _embedder(config: RunConfig) -> Embedder:
    built = build_embedder(config)
    shares = {name: (place + 1) / 15 for place, name in enumerate(built.heads)}
    return deployed(built, config, shares).eval()


def test_it_is_wccn_of_the_joined_embedding_of_training_images(tiny_folder: Path) -> None:
    config = _config(tiny_folder)
    embedder, train = _embedder(config), open_source(config.data, Silence()).only("train")
    before = embed_items(embedder, train, device=torch.device("cpu"))
    found = with_metric(embedder, train, Features(), Silence())
    assert (list(found.heads), found.dim) == ([METRIC], embedder.dim)
    after = embed_items(found, train, device=torch.device("cpu"))
    wanted = wccn(before.embeddings, before.labels, shrinkage=SHRINKAGE)(before.embeddings)
    torch.testing.assert_close(after.embeddings.double(), normalise(wanted), atol=1e-4, rtol=1e-4)


def test_where_no_class_has_two_images_the_embedding_stays_and_that_is_said(tiny_folder: Path) -> None:
    config, heard = _config(tiny_folder), Heard()
    embedder, train = _embedder(config), open_source(config.data, Silence()).only("train")
    one_each = {item.label: item for item in train.items}
    found = with_metric(embedder, Manifest(train.name, train.root, tuple(one_each.values())), Features(), heard)
    assert found is embedder
    assert "no class has two items" in heard.warnings[0]


def test_of_many_images_it_takes_so_many_as_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric, "MOST", 40)
    monkeypatch.setattr(metric, "EACH", 8)
    items = tuple(Item(n, f"{n}.png", f"class {n % 7}" if n < 70 else "many") for n in range(100))
    found = metric.enough(Manifest("things", Path(), items))
    counts = Counter(item.label for item in found.items)
    assert set(counts.values()) == {8}, "of each class no more than its share"
    assert len(found) == 40
    assert found == metric.enough(Manifest("things", Path(), items)), "the same each time"
    few = Manifest("things", Path(), items[:40])
    assert metric.enough(few) is few


def test_a_configuration_without_it_is_what_it_was_before(tiny_folder: Path) -> None:
    plain, given = _config(tiny_folder), _config(tiny_folder, "model.metric=wccn")
    assert "metric" not in plain.model_dump(mode="json")["model"]
    assert config_fingerprint(plain) != config_fingerprint(given)
    with pytest.raises(UsageError, match=r"(?s)ablate: .*-wccn.*Set model\.metric: none"):
        Ablation(given, ["members"])


@pytest.mark.slow
def test_such_a_run_goes_on_bit_equal_is_judged_by_its_metric_and_compressed(tiny_folder: Path, tmp_path: Path) -> None:
    config = _config(tiny_folder, "model.metric=wccn", "data.validation=0.4", "training.keep=last")
    report = train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(2))
    assert resume_run(tmp_path / "stopped")["metrics"] == report["metrics"]
    whole, stopped = (accord.load(tmp_path / name) for name in ("whole", "stopped"))
    assert list(whole.heads) == [METRIC]
    torch.testing.assert_close(whole.state_dict(), stopped.state_dict(), rtol=0, atol=0)

    run = RunFolder.open(tmp_path / "whole")
    heads = [head["name"] for head in run.read_json("heads.json")["heads"]]
    assert heads == [*member_names(config), "trunk"], "what each head contributed before they became one"
    assert [head["name"] for head in report["heads"]["heads"]] == heads
    told = run.read_json("validation.json")["validation"]
    trained = [entry["validation"] for entry in run.read_log() if "validation" in entry][-1]
    assert can_be_judged(load_data(run).only("validation"))
    assert (told["step"], told.keys()) == (trained["step"], trained.keys())
    assert told["map@r"] != trained["map@r"]  # that of the model, and not of the training

    small = compress_run(tmp_path / "whole", dim=4, method="distil", out=tmp_path / "small")
    assert small["after"]["numbers"] == 4
    plain = train_run(_config(tiny_folder, "data.validation=0.4", "training.keep=last"), tmp_path / "plain")
    later = compress_run(tmp_path / "plain", method="wccn", out=tmp_path / "later")
    assert later["metrics"] == report["metrics"] != plain["metrics"]

    both = [
        compress_run(tmp_path / name, dim=6, method="pca", out=tmp_path / f"{name}-6") for name in ("whole", "plain")
    ]
    assert both[0]["metrics"] == both[1]["metrics"], "made of what was there before the metric"
    assert both[0]["validation"]["before"]["map@r"] == pytest.approx(told["map@r"])
    one = compress_run(tmp_path / "whole", method="heads", heads={"n_pair": None}, out=tmp_path / "one")
    assert one["after"]["numbers"] == 8

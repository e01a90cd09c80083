"""Losses that learn on the pooled feature itself: what they see, what counts in use, and what they can't have."""

from pathlib import Path

import pytest
import torch

from accord.errors import UsageError
from accord.models import LinearHead, TrunkHead
from accord.recipes import compress_run, resolve, train_run
from accord.recipes.artifacts import load_config, load_embedder
from accord.recipes.build import build_embedder, build_objective, deployed
from accord.recipes.config import RunConfig
from accord.recipes.head_names import head_names, own_heads, used_names
from accord.recipes.resolve import dump
from accord.recipes.study.ablation import Ablation
from accord.recipes.study.config import PARTS
from accord.runs import RunFolder

LOSSES = "losses=[{type: contrastive}, {type: proxy_nca, sees: trunk}, {type: n_pair}]"
SMALL = ("model.size=32", "model.dim=8", "model.backbone=resnet10", "model.pretrained=false")


def _config(*settings: str) -> RunConfig:
    return resolve(recipe="contrastive", settings=[*SMALL, *settings])


def test_the_loss_sees_the_pooled_feature_and_is_made_for_its_width() -> None:
    config = _config(LOSSES)
    embedder = build_embedder(config).eval()
    assert [type(head) for head in embedder.heads.values()] == [LinearHead, TrunkHead, LinearHead]
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    outputs = embedder.outputs(images)
    assert torch.equal(outputs["proxy_nca"], embedder.features(images))
    objective = build_objective(config, classes=5, width=embedder.width)
    assert objective.members["proxy_nca"].proxies.shape == (5, embedder.width)
    assert (head_names(config), own_heads(config)) == (
        ["contrastive", "proxy_nca", "n_pair"],
        ["contrastive", "n_pair"],
    )
    plain = build_embedder(_config(LOSSES.replace(", sees: trunk", "")))
    same = torch.equal(plain.heads["contrastive"].linear.weight, embedder.heads["contrastive"].linear.weight)
    assert same, "the heads are drawn as without it"


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_in_use_the_trunk_stands_for_it_and_has_its_share(part: float) -> None:
    config = _config(LOSSES, f"model.trunk_share={part}")
    trained = build_embedder(config).eval()
    shares = {"contrastive": 0.5, "proxy_nca": 0.3, "n_pair": 0.2}
    used = deployed(trained, config, shares)
    assert list(used.heads) == used_names(config) == ["contrastive", "n_pair", "trunk"]
    assert used.weights["trunk"] == pytest.approx(part + (1 - part) * 0.3)
    assert sum(used.weights.values()) == pytest.approx(1.0)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        outputs = {name: torch.nn.functional.normalize(out) for name, out in trained.outputs(images).items()}
        unit = torch.nn.functional.normalize(trained.features(images))
        cosines = {name: out @ out.T for name, out in outputs.items()}
        want = (1 - part) * sum(shares[name] * cosines[name] for name in shares) + part * unit @ unit.T
        found = used(images)
    torch.testing.assert_close(found @ found.T, want)


def test_a_loss_called_as_the_pooled_feature_is_refused() -> None:
    for settings in (["model.trunk_share=0.5"], ["losses.0.sees=trunk"]):
        with pytest.raises(UsageError, match="one is called 'trunk', and that is the name of the pooled feature"):
            resolve(settings=["losses=[{type: contrastive}, {type: 'mine:trunk'}]", *settings])


def test_one_that_is_left_out_has_no_share_of_the_trunk() -> None:
    config = _config(LOSSES, "model.trunk_share=0.5")
    used = deployed(build_embedder(config), config, {"contrastive": 0.6, "proxy_nca": 0.0, "n_pair": 0.4})
    assert used.weights == pytest.approx({"contrastive": 0.3, "n_pair": 0.2, "trunk": 0.5})


def test_where_all_losses_learn_on_it_the_trunk_is_the_embedding() -> None:
    config = _config("losses=[{type: contrastive, sees: trunk}, {type: n_pair, sees: trunk}]")
    embedder = build_embedder(config)
    used = deployed(embedder, config, {"contrastive": 0.5, "n_pair": 0.5})
    assert (used.weights, used.dim) == ({"trunk": 1.0}, embedder.width)
    assert used_names(config) == ["trunk"]
    assert own_heads(config) == []


def test_a_configuration_without_one_is_written_as_before_there_was_a_choice() -> None:
    assert "sees" not in dump(_config())
    assert "sees: trunk" in dump(_config(LOSSES))
    assert resolve(recipe="contrastive", settings=[LOSSES, "model.total_dim=32"]).model.dim == 16


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((LOSSES.replace("sees: trunk", "sees: trunk, unit: true"),), "proxy_nca sees the pooled feature"),
        ((LOSSES.replace("sees: trunk", "sees: trnuk"),), "losses.1.sees"),
        ((LOSSES, "ensemble.diversity=cka"), "cka compares heads, and proxy_nca"),
        ((LOSSES, "ensemble.student=stress"), "a network on top is taught by heads"),
        (("losses.0.sees=trunk", "model.trunk_share=0.5"), "model.trunk_share: all losses learn on the pooled feature"),
        (("losses.0.sees=trunk", "model.total_dim=16"), "model.total_dim: all losses learn on the pooled feature"),
    ],
)
def test_what_has_no_meaning_there_is_refused(settings: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        resolve(recipe="contrastive", settings=settings)


def test_an_ablation_tries_each_loss_alone_there_too() -> None:
    found = Ablation(_config(LOSSES), PARTS)
    assert [arm for arm in found.arms if arm.endswith("on-trunk")] == [
        f"{name}-on-trunk" for name in ("contrastive", "proxy_nca", "n_pair")
    ]
    assert found.arms["contrastive-on-trunk"]["losses"] == [{"type": "contrastive", "sees": "trunk"}]
    assert found.arms["n_pair-wide"]["model.dim"] == 2 * 8
    assert found.arms["proxy_nca"]["losses"] == [{"type": "proxy_nca"}]
    assert [loss.get("sees") for loss in found.arms["n_pair-x3"]["losses"]] == [None, "trunk", None]
    assert not [loss for loss in found.arms["published"]["losses"] if "sees" in loss]
    assert found.compress["ours-heads"].heads == {"contrastive": None, "n_pair": None}
    assert {"proxy_nca-on-trunk", "proxy_nca-on-trunk-distil", "contrastive-trunk"} <= set(found.references)


def test_an_ablation_of_losses_that_all_see_the_trunk_has_no_arm_twice() -> None:
    found = Ablation(_config("losses=[{type: sup_con, sees: trunk}, {type: n_pair, sees: trunk}]"), PARTS)
    assert list(found.arms) == [
        *("ours", "sup_con-on-trunk", "sup_con", "n_pair-on-trunk", "n_pair", "sup_con-wide", "n_pair-wide"),
        *("random", "published"),
    ]
    assert found.arms["n_pair-wide"]["model.dim"] == 2 * 8
    assert not {"ours-heads", "ours-trunk", "ours-trunk-pca", "ours-fold", "sup_con-distil"} & set(found.compress)
    assert found.compress["sup_con-trunk-distil"].heads == {"trunk": None}
    assert {"ours-pca", "ours-whiten", "ours-distil", "sup_con-trunk", "sup_con-on-trunk-pca"} <= set(found.compress)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("losses", [LOSSES, "losses.0.sees=trunk"])
def test_such_a_run_trains_and_is_compressed(losses: str, tiny_folder: Path, tmp_path: Path) -> None:
    settings = ("model.size=32", "model.dim=8", "training.epochs=1", "training.classes_per_batch=4", losses)
    more = ("evaluation.nmi_seeds=1", "evaluation.map=pca")
    config = resolve(recipe="contrastive", file={"data": {"source": str(tiny_folder)}}, settings=[*settings, *more])
    train_run(config, tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    assert list(load_embedder(run).heads) == used_names(load_config(run))
    found = compress_run(tmp_path / "run", dim=4, method="pca", out=tmp_path / "small")
    assert found["after"]["numbers"] == 4


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_student_learns_beside_losses_that_all_see_it_and_is_what_is_used(tiny_folder: Path, tmp_path: Path) -> None:
    settings = ("model.size=32", "model.dim=8", "training.steps=3", "training.classes_per_batch=4")
    more = ("evaluation.nmi_seeds=1", "ensemble.student=distil")
    config = resolve(recipe="accord", file={"data": {"source": str(tiny_folder)}}, settings=[*settings, *more])
    assert used_names(config) == ["student"]
    train_run(config, tmp_path / "run")
    embedder = load_embedder(RunFolder.open(tmp_path / "run"))
    assert (list(embedder.heads), embedder.dim) == (["metric"], 8), "the student's numbers, normalised within classes"
    found = compress_run(tmp_path / "run", dim=4, method="pca", out=tmp_path / "small")
    assert found["before"]["numbers"] == 8

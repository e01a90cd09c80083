"""Building what a configuration names: backbones of all kinds, heads, proxies, batches."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import accord
from accord.errors import AccordError, ArtifactError, UnknownNameError, UsageError
from accord.losses import CrossBatchMemory, Mined
from accord.models import build_backbone
from accord.recipes import evaluate_run, resolve, resume_run, train_run
from accord.recipes.build import (
    ask_before_imports,
    build_baseline,
    build_embedder,
    build_objective,
    check_parts,
    warm_proxies,
)
from accord.recipes.config import RunConfig
from accord.recipes.head_names import member_names
from accord.recipes.session import open_session, seconds_per_step
from accord.recipes.source import open_source
from accord.recipes.watch import Silence

OWN = """
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.ReLU())

def noisy():
    return nn.Sequential(*tiny(), nn.BatchNorm2d(12), nn.Dropout())
"""


def _config(*settings: str, recipe: str = "five_losses") -> RunConfig:
    return resolve(recipe=recipe, settings=["model.size=32", "model.dim=8", "model.backbone=resnet10", *settings])


def test_each_loss_has_its_head() -> None:
    config = _config()
    assert list(build_embedder(config).heads) == member_names(config)


def test_a_loss_used_twice_gets_two_heads() -> None:
    config = _config("losses=[{type: contrastive}, {type: contrastive, options: {margin: 0.8}}, {type: n_pair}]")
    assert member_names(config) == ["contrastive_1", "contrastive_2", "n_pair"]


def test_heads_are_drawn_from_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (build_embedder(_config(f"training.seed={seed}")) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.heads["n_pair"].linear.weight, other.heads["n_pair"].linear.weight)


def test_a_head_is_of_unit_length_only_where_the_recipe_says_so() -> None:
    embedder = build_embedder(_config("losses.0.unit=true")).eval()
    outputs = embedder.outputs(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8))
    assert torch.allclose(outputs["contrastive"].norm(dim=1), torch.ones(4), atol=1e-5)
    assert not torch.allclose(outputs["n_pair"].norm(dim=1), torch.ones(4), atol=1e-2)


def test_mlp_heads_have_a_hidden_layer() -> None:
    embedder = build_embedder(_config("model.head=mlp", "model.hidden=20", recipe="contrastive"))
    assert embedder.heads["contrastive"].hidden == 20


def test_warm_proxies_point_where_their_classes_are() -> None:
    config = _config(recipe="proxy_nca")
    objective = build_objective(config, classes=2)
    points = torch.tensor([[1.0] + [0.0] * 7, [0.0, 1.0] + [0.0] * 6])
    lengths = objective.proxies.norm(dim=1)
    assert warm_proxies(objective, {"proxy_nca": points}, torch.tensor([0, 1])) == ["proxy_nca"]
    assert torch.allclose(torch.nn.functional.normalize(objective.proxies, dim=1), points, atol=1e-6)
    assert torch.allclose(objective.proxies.norm(dim=1), lengths)


@pytest.mark.parametrize("options", ["proxies_per_class: 0.5", "proxies_per_class: 2", "assignment: dynamic"])
def test_warm_proxies_follow_their_assignment(options: str) -> None:
    config = _config(f"losses.0.options={{{options}}}", recipe="proxy_nca")
    objective = build_objective(config, classes=4)
    points = torch.eye(8)[:4].repeat_interleave(3, dim=0)
    labels = torch.arange(4).repeat_interleave(3)
    assert warm_proxies(objective, {"proxy_nca": points}, labels) == ["proxy_nca"]
    own = objective.proxies.detach()[objective.assigned(points, labels)]
    # each item's proxy looks its way: one half of a shared proxy at the least
    assert float(torch.cosine_similarity(own, points, dim=1).min()) > 0.5


def test_a_loss_may_be_mined_remember_and_take_a_preset() -> None:
    named = {"type": "contrastive", "miner": "multi_similarity", "miner_options": {"epsilon": 0.2}, "memory": 64}
    config = resolve(file={"losses": [named, {"type": "proxy_nca", "preset": "cub"}]}, settings=("model.dim=8",))
    objective = build_objective(config, classes=3)
    memory = objective.members["contrastive"]
    assert isinstance(memory, CrossBatchMemory)
    assert isinstance(memory.loss, Mined)
    assert memory.loss.miner.epsilon == 0.2
    assert memory.memory.shape == (64, 8)
    lone = resolve(
        file={"losses": [{"type": "contrastive", "miner_options": {"epsilon": 0.2}}]}, settings=("model.dim=8",)
    )
    with pytest.raises(UsageError, match="no use without a miner"):
        build_objective(lone, classes=3)
    wrong = resolve(file={"losses": [{"type": "contrastive", "miner": "semi_hrd"}]}, settings=("model.dim=8",))
    with pytest.raises(UnknownNameError, match="Did you mean"):
        build_objective(wrong, classes=3)
    table = resolve(file={"losses": [{"type": "proxy_nca", "miner": "hard"}]}, settings=("model.dim=8",))
    with pytest.raises(UsageError, match="compares items with learned vectors"):
        build_objective(table, classes=3)


def test_a_foreign_loss_is_a_member_and_is_imported_again_only_with_consent() -> None:
    config = resolve(
        file={"losses": [{"type": "pytorch_metric_learning.losses:ProxyAnchorLoss"}]}, settings=("model.dim=8",)
    )
    objective = build_objective(config, classes=3)
    assert [tuple(parameter.shape) for parameter in objective.parameters()] == [(3, 8)]
    with pytest.raises(
        UsageError, match=r"run's loss is code of another package, pytorch_metric(.|\n)*--allow-imports"
    ):
        ask_before_imports(config, allow_imports=False)
    ask_before_imports(config, allow_imports=True)


def test_proxies_are_drawn_from_the_seed() -> None:
    first, second, other = (
        build_objective(_config(f"training.seed={seed}", recipe="proxy_nca"), classes=3).proxies for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["name", "dim", "classes", "generator"])
def test_what_follows_from_the_data_is_no_option_of_a_loss(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is no option"):
        check_parts(_config(f"losses.0.options.{name}=3", recipe="proxy_nca"))


@pytest.mark.slow
def test_a_run_with_own_weights_is_evaluated_from_any_folder(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(build_backbone("resnet10").state_dict(), tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    settings = [f"data.source={tiny_folder}", "model.weights=own.safetensors", "training.epochs=1"]
    report = train_run(_config(*settings, recipe="triplet"), tmp_path / "run")
    monkeypatch.chdir("/")
    assert evaluate_run(tmp_path / "run")["baseline"] == report["baseline"]


def test_own_weights_are_loaded_and_others_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    weights = build_backbone("resnet10").state_dict()
    save_file(weights, tmp_path / "own.safetensors")
    loaded = build_embedder(_config(f"model.weights={tmp_path / 'own.safetensors'}")).backbone.state_dict()
    assert all(torch.equal(loaded[key], weights[key]) for key in weights)
    with pytest.raises(ArtifactError, match="do not fit resnet18"):
        build_embedder(_config("model.backbone=resnet18", f"model.weights={tmp_path / 'own.safetensors'}"))
    with pytest.raises(AccordError, match="missing"):
        build_embedder(_config(f"model.weights={tmp_path / 'missing.safetensors'}"))


@pytest.mark.slow
def test_a_backbone_of_your_own_trains_and_is_imported_again_only_with_consent(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = resolve(
        recipe="triplet",
        file={"data": {"source": str(tiny_folder)}},
        settings=["model.backbone=own_network:tiny", "model.size=32", "model.dim=8", "training.epochs=1"],
    )
    train_run(config, tmp_path / "run")
    with pytest.raises(UsageError, match="own_network:tiny"):
        accord.load(tmp_path / "run")
    assert accord.load(tmp_path / "run", allow_imports=True).dim == 8
    with pytest.raises(UsageError, match="--allow-imports"):
        evaluate_run(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()  # as if it had been stopped
    with pytest.raises(UsageError, match="--allow-imports"):
        resume_run(tmp_path / "run")
    resume_run(tmp_path / "run", allow_imports=True)
    assert "own_network" in sys.modules
    with pytest.raises(UsageError, match="--allow-imports"):
        evaluate_run(tmp_path / "run")


@pytest.mark.slow
def test_a_backbone_with_dropout_trains_to_the_same_bits_whatever_was_drawn_before(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = ["model.backbone=noisy_network:noisy", "model.size=32", "model.dim=8", "training.epochs=1"]
    for run in ("one", "two"):
        torch.rand(7)
        before = torch.get_rng_state()
        train_run(
            resolve(recipe="triplet", file={"data": {"source": str(tiny_folder)}}, settings=settings), tmp_path / run
        )
        assert torch.equal(torch.get_rng_state(), before)
    first, second = (accord.load(tmp_path / run, allow_imports=True).state_dict() for run in ("one", "two"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_baseline_is_the_trunk_that_training_starts_from() -> None:
    config = _config()
    start, frozen = build_embedder(config).backbone, build_baseline(config).backbone
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), frozen.parameters(), strict=True))


def test_timing_a_step_moves_nothing(tiny_folder: Path) -> None:
    config = _config(f"data.source={tiny_folder}", "model.freeze_batch_norm=false", "training.classes_per_batch=2")
    session = open_session(config, open_source(config.data, Silence()))
    before = {key: value.clone() for key, value in session.embedder.state_dict().items()}
    assert seconds_per_step(session) > 0
    assert all(torch.equal(before[key], value) for key, value in session.embedder.state_dict().items())


def test_validation_classes_with_nothing_to_find_are_not_judged(tiny_folder: Path) -> None:
    config = _config(f"data.source={tiny_folder}", "training.classes_per_batch=2")
    manifest = open_source(config.data, Silence())
    seen: set[str] = set()
    alone = []
    for item in manifest.items:
        if item.split != "validation" or item.label not in seen:
            alone.append(item)
        seen.add(item.label)
    session = open_session(config, dataclasses.replace(manifest, items=tuple(alone)))
    assert session.validate(Silence()) is None

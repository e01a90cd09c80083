"""All losses of a run on one embedding: what is built, what is refused, and that everything after it goes on."""

import json
from pathlib import Path

import pytest
import torch

import accord
from accord.ensembles import Ensemble, FixedWeights, GradientBalance, PCGrad
from accord.errors import UsageError
from accord.losses import Contrastive
from accord.models import LinearHead, MaskedLinearHead
from accord.recipes import compress_run, plan_study, read_report, resolve, resume_run, train_run
from accord.recipes.build import (
    build_embedder,
    build_objective,
    build_optimizer,
    deployed,
    warm_proxies,
)
from accord.recipes.config import ModelConfig, RunConfig
from accord.recipes.ensembles import attach_balance
from accord.recipes.head_names import SHARED, head_names, member_names, used_names
from accord.recipes.interrupt import StoppedError
from accord.recipes.per_query import config_fingerprint
from accord.recipes.resolve import dump, filled, read_yaml, validate
from accord.runs import RunFolder
from made_runs import logged_steps
from stopping import StopAt

ONE = "model.heads=shared"
IMAGES = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 4


def _config(*settings: str) -> RunConfig:
    return resolve(
        recipe="five_losses", settings=["model.size=32", "model.dim=8", "model.backbone=resnet10", ONE, *settings]
    )


def test_there_is_one_head_for_all_losses() -> None:
    config = _config()
    assert head_names(config) == [SHARED]
    assert len(member_names(config)) == 5
    embedder, objective = build_embedder(config), build_objective(config, classes=4)
    assert list(embedder.heads) == [SHARED]
    outputs = embedder.train().outputs(IMAGES)
    total = objective(outputs[SHARED], LABELS)
    total.backward()
    assert list(objective.terms) == member_names(config)
    separate = {name: member(outputs[SHARED].detach(), LABELS) for name, member in objective.members.items()}
    for name, value in separate.items():
        torch.testing.assert_close(objective.terms[name], value.detach())
    assert bool(embedder.heads[SHARED].linear.weight.grad.any())


def test_a_loss_called_as_the_shared_head_is_refused() -> None:
    with pytest.raises(UsageError, match="one is called 'shared', and that is the name of the head that all share"):
        _config("losses=[{type: contrastive}, {type: 'mine:shared'}]")


def test_it_starts_as_the_first_head_of_its_own_would() -> None:
    own = build_embedder(
        resolve(recipe="five_losses", settings=["model.size=32", "model.dim=8", "model.backbone=resnet10"])
    )
    first = next(iter(own.heads.values()))
    assert torch.equal(build_embedder(_config()).heads[SHARED].linear.weight, first.linear.weight)


@pytest.mark.parametrize(("share", "weights"), [(0.0, {SHARED: 1.0}), (0.75, {SHARED: 0.25, "trunk": 0.75})])
def test_it_is_all_there_is_at_test_time_but_for_the_trunks_share(share: float, weights: dict[str, float]) -> None:
    config = _config(f"model.trunk_share={share}")
    used = deployed(build_embedder(config), config, {SHARED: 1.0})
    assert used.weights == weights


def test_masks_and_unit_length_are_as_configured() -> None:
    unit = "losses=[{type: contrastive, unit: true}, {type: proxy_nca, unit: true}]"
    config = _config("model.head=masked", unit)
    embedder = build_embedder(config)
    assert isinstance(embedder.heads[SHARED], MaskedLinearHead)
    torch.testing.assert_close(embedder.eval().outputs(IMAGES)[SHARED].norm(dim=1), torch.ones(8))
    assert isinstance(deployed(embedder, config, {SHARED: 1.0}).heads[SHARED], LinearHead)


def test_proxies_of_all_losses_start_at_the_class_means_of_the_embedding() -> None:
    two = "losses=[{type: contrastive}, {type: proxy_nca}, {type: proxy_anchor}]"
    objective = build_objective(_config(two), classes=4)
    points = torch.eye(8)[:4].repeat(2, 1)
    assert warm_proxies(objective, {SHARED: points}, LABELS) == ["proxy_nca", "proxy_anchor"]
    proxies = torch.nn.functional.normalize(objective.members["proxy_nca"].proxies.detach(), dim=1)
    torch.testing.assert_close(proxies, torch.eye(8)[:4])


@pytest.mark.parametrize("balance", ["pcgrad", "nash_mtl"])
def test_gradients_are_balanced_at_the_embedding(balance: str) -> None:
    config = _config(f"ensemble.balance={balance}")
    embedder, objective = build_embedder(config).train(), build_objective(config, classes=4)
    attach_balance(embedder, objective)
    assert embedder.splitter is None
    objective(embedder.outputs(IMAGES)[SHARED], LABELS).backward()
    assert list(objective.balance.norms) == member_names(config)
    build_optimizer(config, embedder, objective)


def test_weights_and_labels_of_the_losses_are_their_own() -> None:
    config = _config("ensemble.weighting=published", "ensemble.prior=[1,1,1,1,1]", "ensemble.labels=partition")
    objective = build_objective(config, classes=6)
    assert isinstance(objective, Ensemble)
    tables = [member.table for member in objective.members.values()]
    assert not torch.equal(tables[0], tables[1])
    objective(build_embedder(config).outputs(IMAGES)[SHARED], LABELS).backward()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("losses=[{type: contrastive}]",), r"model\.heads: a single loss has no other .* Leave it out"),
        (
            ("losses=[{type: contrastive}, {type: n_pair}, {type: proxy_nca, unit: true}]",),
            r"(?s)losses\.2\.unit: with model\.heads=shared .* Give all of them the same `unit`",
        ),
        (("ensemble.diversity=cka",), r"ensemble\.diversity: cka compares heads, .* there is one\. Leave one"),
        (
            ("losses=[{type: contrastive, sees: trunk}, {type: n_pair, sees: trunk}]", "model.trunk_share=0"),
            "none the head",
        ),
        (
            ("losses=[{type: contrastive, sees: trunk}, {type: n_pair}]", "ensemble.balance=pcgrad"),
            r"(?s)weighed at the one embedding, and contrastive sees the pooled feature.*leave out ensemble\.balance",
        ),
        (
            ("losses=[{type: contrastive, sees: trunk}, {type: n_pair}]", "ensemble.weighting=grad_norm"),
            "weighed at the one embedding",
        ),
        (("model.heads=sharde",), r"model\.heads: Input should be 'own' or 'shared'"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _config(*settings)


WEL = "losses=[{type: smoothed_cross_entropy, sees: trunk}, {type: contrastive}, {type: triplet_margin, unit: false}]"


def test_a_classifier_may_see_the_trunk_past_the_embedding() -> None:
    config = _config(WEL, "model.trunk_share=0", "ensemble.weighting=published", "ensemble.prior=[1,1,1]")
    assert head_names(config) == [SHARED, "smoothed_cross_entropy"]
    embedder, objective = build_embedder(config).train(), build_objective(config, classes=4, width=512)
    outputs = embedder.outputs(IMAGES)
    assert outputs["smoothed_cross_entropy"].shape == (8, embedder.width)
    total = objective(outputs, LABELS)
    apart = {
        name: member(outputs[name if name in outputs else SHARED].detach(), LABELS)
        for name, member in objective.members.items()
    }
    torch.testing.assert_close(objective.terms, {name: value.detach() for name, value in apart.items()})
    head = embedder.heads[SHARED].linear.weight
    (of_all,) = torch.autograd.grad(total, head, retain_graph=True)
    weights = objective.weights()
    others = sum(weights[n] * objective.members[n](outputs[SHARED], LABELS) for n in ("contrastive", "triplet_margin"))
    (of_others,) = torch.autograd.grad(others, head)
    torch.testing.assert_close(of_all, of_others)  # the classifier teaches the trunk alone
    used = deployed(embedder, config, {SHARED: 1.0})
    assert used.weights == {SHARED: 1.0}
    assert used_names(config) == [SHARED]


def test_proxies_of_the_pooled_feature_and_of_the_embedding_start_where_their_loss_looks() -> None:
    config = _config("losses=[{type: proxy_anchor, sees: trunk}, {type: contrastive}, {type: proxy_nca}]")
    objective = build_objective(config, classes=4, width=16)
    points, features = torch.eye(8)[:4].repeat(2, 1), torch.eye(16)[4:8].repeat(2, 1)
    assert warm_proxies(objective, {SHARED: points, "proxy_anchor": features}, LABELS) == ["proxy_anchor", "proxy_nca"]
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(objective.members["proxy_anchor"].proxies.detach(), dim=1), torch.eye(16)[4:8])
    torch.testing.assert_close(unit(objective.members["proxy_nca"].proxies.detach(), dim=1), torch.eye(8)[:4])


def test_there_is_no_one_place_to_balance_where_one_loss_sees_the_trunk() -> None:
    objective = Ensemble(
        {"a": Contrastive(), "b": Contrastive(), "c": Contrastive()},
        weighting=FixedWeights(),
        balance=GradientBalance(PCGrad()),
    )
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="no one place where their gradients"):
        objective({"shared": rows, "a": rows}, LABELS)


def test_a_run_whose_classifier_sees_the_trunk_is_its_one_embedding_and_goes_on(
    tiny_folder: Path, tmp_path: Path
) -> None:
    told = ("model.size=32", "model.dim=8", "training.steps=4", "training.classes_per_batch=4", ONE, WEL)
    settings = (
        *told,
        "model.trunk_share=0",
        "evaluation.nmi_seeds=1",
        "ensemble.weighting=published",
        "ensemble.prior=[1,1,1]",
    )
    config = resolve(recipe="five_losses", file={"data": {"source": str(tiny_folder)}}, settings=settings)
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(2))
    resume_run(tmp_path / "stopped")
    whole, stopped = (accord.load(tmp_path / name) for name in ("whole", "stopped"))
    assert list(whole.heads) == [SHARED]
    torch.testing.assert_close(whole.state_dict(), stopped.state_dict(), rtol=0, atol=0)


def test_a_configuration_without_it_is_what_it_was_before() -> None:
    plain = resolve(recipe="five_losses", settings=["model.size=32", "model.dim=8"])
    assert "heads" not in plain.model_dump(mode="json")["model"]
    assert "heads" not in read_yaml(dump(plain), source="it")["model"]
    assert plain.model.heads == ModelConfig().heads == "own"
    own = resolve(recipe="five_losses", settings=["model.size=32", "model.dim=8", "model.heads=own"])
    assert config_fingerprint(own) == config_fingerprint(plain)
    assert filled(plain.model_dump(mode="json")) == plain.model_dump(mode="json")


def test_a_configuration_with_it_comes_back_from_its_file() -> None:
    config = _config()
    assert validate(read_yaml(dump(config), source="it")) == config
    assert config_fingerprint(config) != config_fingerprint(
        resolve(recipe="five_losses", settings=["model.size=32", "model.dim=8", "model.backbone=resnet10"])
    )


def _study(folder: Path, **more: object) -> dict[str, object]:
    arms = {"own": {}, "one": {"model.heads": "shared"}}
    base = {"recipe": "five_losses", "model": {"size": 32, "dim": 8, "trunk_share": 0.0}}
    return {"name": "heads", "data": str(folder), "seeds": 1, "steps": 2, "base": base, "arms": arms, **more}


def _planned(tmp_path: Path, study: dict[str, object]) -> object:
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(study))
    return plan_study(file)


def test_a_study_finds_that_the_embeddings_are_of_other_sizes(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)embedding_size .* differs.*own: heads 5.*one: heads 1"):
        _planned(tmp_path, _study(tiny_folder))
    _planned(tmp_path, _study(tiny_folder, allow=["embedding_size"]))


def test_an_ablation_wants_a_head_for_each_loss(tiny_folder: Path, tmp_path: Path) -> None:
    study = _study(tiny_folder, ablate=["members"], allow=["embedding_size"])
    study["base"] = {"recipe": "five_losses", "model": {"size": 32, "dim": 8, "heads": "shared"}}
    with pytest.raises(UsageError, match=r"(?s)ablate: .*head per loss.*arms: \{one_head: \{model\.heads: shared\}\}"):
        _planned(tmp_path, study)


TINY = (
    *("model.size=32", "model.dim=16", "training.classes_per_batch=4", "evaluation.nmi_seeds=2"),
    *("training.steps=4", "training.keep=last", ONE),
)


def _run_config(folder: Path, *settings: str) -> RunConfig:
    return resolve(recipe="five_losses", file={"data": {"source": str(folder)}}, settings=[*TINY, *settings])


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_run_trains_reports_and_folds_to_what_it_was(tiny_folder: Path, tmp_path: Path) -> None:
    config = _run_config(tiny_folder, "model.trunk_share=0.0")
    report = train_run(config, tmp_path / "run")
    embedder = accord.load(tmp_path / "run")
    assert embedder.weights == {SHARED: 1.0}
    assert embedder.dim == 16
    row = logged_steps(tmp_path / "run")[0]
    assert list(row["terms"]) == list(row["weights"]) == member_names(config)
    assert read_report(tmp_path / "run")["heads"] == {}, "one head is the whole embedding"
    assert not (tmp_path / "run" / "heads.json").exists()
    proxies = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("proxy_nca" in line.get("proxies", {}) for line in proxies)
    found = compress_run(tmp_path / "run", dim=16, method="fold", out=tmp_path / "folded")
    assert found["retained"] == pytest.approx(1)
    assert found["after"]["multiply_adds"] == found["before"]["multiply_adds"]
    assert found["metrics"]["map@r"] == pytest.approx(report["metrics"]["map@r"], abs=1e-6)


@pytest.mark.pretrained
@pytest.mark.slow
def test_beside_the_trunk_it_counts_as_a_head(tiny_folder: Path, tmp_path: Path) -> None:
    config = _run_config(tiny_folder, "data.validation=0.3", "evaluation.test=false", "ensemble.weighting=grad_norm")
    train_run(config, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "heads.json").read_text())
    assert [(head["name"], head["share"]) for head in told["heads"]] == [(SHARED, 0.25), ("trunk", 0.75)]
    small = compress_run(tmp_path / "run", dim=8, method="pca", out=tmp_path / "small")
    assert sorted(small["weights"]) == [SHARED, "trunk"]


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_stopped_run_goes_on_bit_equal(tiny_folder: Path, tmp_path: Path) -> None:
    config = _run_config(tiny_folder, "evaluation.test=false", "ensemble.balance=pcgrad", "model.trunk_share=0.0")
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(2))
    resume_run(tmp_path / "stopped")
    first, second = (
        RunFolder.open(tmp_path / run).load_tensors("model.safetensors")[0] for run in ("whole", "stopped")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [row["terms"] for row in logged_steps(tmp_path / "whole")] == [
        row["terms"] for row in logged_steps(tmp_path / "stopped")
    ]

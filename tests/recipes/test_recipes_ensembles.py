"""Weighting and balance as a configuration names them: refused, built, and learnt by in whole runs."""

import json
from pathlib import Path

import pytest
import torch

import accord
from accord.ensembles import Ensemble, FixedWeights, NashMTL, PlainSum, PublishedWeights
from accord.errors import UsageError
from accord.losses import BinomialDeviance, ProxyNCA, SmoothedCrossEntropy, TripletMargin
from accord.recipes import resolve, resume_run, train_run
from accord.recipes.build import build_embedder, build_objective, build_optimizer, check_parts
from accord.recipes.config import EnsembleConfig, RunConfig
from accord.recipes.ensembles import RULES, WATCHED, WEIGHT_RATES, attach_balance, build_balance
from accord.recipes.interrupt import StoppedError
from accord.recipes.log_entry import step_entry
from accord.runs import RunFolder
from accord.types import Step
from made_runs import logged_steps
from stopping import StopAt

EQUAL = "ensemble.prior=[1,1,1,1,1]"
SMALL = ("model.size=32", "model.dim=8", "model.backbone=resnet10")
TINY = ("model.size=32", "model.dim=16", "training.epochs=3", "training.classes_per_batch=4", "evaluation.nmi_seeds=2")
WEIGHTINGS = ("published", "uncertainty", "dynamic_average", "grad_norm", "random")


def _config(*settings: str, recipe: str = "five_losses") -> RunConfig:
    return resolve(recipe=recipe, settings=[*SMALL, *settings])


def _objective(*settings: str) -> Ensemble:
    built = build_objective(_config(*settings), classes=4, steps_per_epoch=3)
    assert isinstance(built, Ensemble)
    return built


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("triplet", ["ensemble.weighting=random"], "ensemble.weighting: a single loss has no other"),
        ("triplet", ["ensemble.balance=pcgrad"], "ensemble.balance: a single loss has no other"),
        ("triplet", ["ensemble.prior=[1]"], "ensemble.prior: a single loss has no other"),
        ("triplet", ["ensemble.normalise=false"], "ensemble.normalise: a single loss has no other"),
        (
            "five_losses",
            ["ensemble.weighting=random", "ensemble.normalise=false"],
            "belongs to ensemble.weighting=fixed",
        ),
        ("five_losses", [EQUAL], "ensemble.prior: with ensemble.weighting=fixed set losses.0.weight"),
        ("five_losses", ["ensemble.weighting=random", "ensemble.prior=[1,2]"], "has 2 numbers, but there are 5 losses"),
        ("five_losses", ["ensemble.weighting=random", "ensemble.prior=[1,1,1,1,0]"], "ensemble.prior.4: "),
        (
            "five_losses",
            ["training.rates.weights=0.1"],
            "fixed learns no weights; published, uncertainty, grad_norm do",
        ),
        ("five_losses", ["ensemble.weighting=random", "training.rates.weights=0.1"], "random learns no weights"),
        (
            "five_losses",
            ["ensemble.weighting=dynamic_average", "training.epochs=2"],
            "dynamic_average compares two epochs",
        ),
        ("five_losses", ["ensemble.weighting=kendall"], "ensemble.weighting: "),
        ("five_losses", ["ensemble.balance=mgda"], "ensemble.balance: "),
    ],
)
def test_refuses_what_is_wrong_or_would_do_nothing(recipe: str, settings: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        _config(*settings, recipe=recipe)
    assert message in str(refused.value)


def test_refuses_a_prior_below_the_floor_before_any_image_is_read() -> None:
    with pytest.raises(UsageError, match=r"(?s)of n_pair \(0.0244\) is.*Set ensemble.prior.*\[1, 1, 1, 1, 1\]"):
        check_parts(_config("ensemble.weighting=published"))
    check_parts(_config("ensemble.weighting=published", EQUAL))
    with pytest.raises(UsageError, match=r"(?s)at most 1e6.*Set losses\.0\.weight and so on"):
        check_parts(_config("losses.0.weight=1e7"))


def test_nothing_changes_where_nothing_is_asked_for() -> None:
    assert EnsembleConfig().weighting == "fixed"
    assert EnsembleConfig().balance == "none"
    objective = _objective()
    assert isinstance(objective.weighting, FixedWeights)
    assert isinstance(objective.balance.rule, PlainSum)
    assert objective.balance.every == WATCHED, "looks, and changes nothing"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_can_be_had(rule: str) -> None:
    objective = _objective(f"ensemble.balance={rule}", "training.seed=4")
    assert type(objective.balance.rule).__name__.lower() == rule.replace("_", "")
    assert objective.balance.seed == 4


def test_the_prior_is_that_of_the_ensemble_or_else_of_the_losses() -> None:
    own = _objective("ensemble.weighting=random").weighting.shares()
    assert own.tolist() == pytest.approx([1 / 4.1, 1 / 4.1, 0.1 / 4.1, 1 / 4.1, 1 / 4.1])
    given = _objective("ensemble.weighting=published", "ensemble.prior=[1,1,2,3,1]").weighting
    assert isinstance(given, PublishedWeights)
    assert given.shares().tolist() == pytest.approx([1 / 8, 1 / 8, 1 / 4, 3 / 8, 1 / 8])


@pytest.mark.parametrize("weighting", WEIGHT_RATES)
def test_learned_weights_have_a_group_of_their_own(weighting: str) -> None:
    config = _config(f"ensemble.weighting={weighting}", EQUAL)
    objective = build_objective(config, classes=4)
    groups = {group["name"]: group for group in build_optimizer(config, build_embedder(config), objective).param_groups}
    assert groups["loss_weights"]["params"] == [objective.weighting.loss_weights]
    assert groups["loss_weights"]["lr"] == WEIGHT_RATES[weighting]
    assert groups["loss_weights"]["weight_decay"] == 0
    faster = _config(f"ensemble.weighting={weighting}", EQUAL, "training.rates.weights=0.3")
    groups = build_optimizer(faster, build_embedder(faster), build_objective(faster, classes=4)).param_groups
    assert [group["lr"] for group in groups if group["name"] == "loss_weights"] == [0.3]


def test_the_log_tells_weights_scales_and_gradients() -> None:
    config = _config("ensemble.balance=nash_mtl")
    objective, embedder = _objective("ensemble.balance=nash_mtl"), build_embedder(config).train()
    assert isinstance(objective.balance.rule, NashMTL)
    attach_balance(embedder, objective)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    loss = objective(embedder.outputs(images), torch.arange(8) // 2)
    loss.backward()
    entry = step_entry(Step(0, 0, loss.detach(), objective.terms, {}, torch.ones(())), objective)
    names = set(objective.names)
    assert set(entry["weights"]) == set(entry["scales"]) == set(entry["gradients"]["norms"]) == names
    assert len(entry["gradients"]["cosines"]) == 10
    assert all(-1.0001 <= value <= 1.0001 for value in entry["gradients"]["cosines"].values())
    json.dumps(entry)
    plain = step_entry(Step(0, 0, loss.detach(), objective.terms, {}, torch.ones(())), torch.nn.Identity())
    assert "scales" not in plain
    assert "gradients" not in plain


@pytest.mark.parametrize("recipe", ["accord", "five_losses"])
def test_the_losses_of_a_recipe_are_watched_wherever_their_gradients_meet(recipe: str) -> None:
    config = resolve(recipe=recipe, file={"data": {"source": "objects"}})
    balance = build_balance(config)
    assert isinstance(balance.rule, PlainSum)
    assert balance.every == WATCHED
    grad_norm = resolve(recipe=recipe, file={"data": {"source": "objects"}}, settings=["ensemble.weighting=grad_norm"])
    assert build_balance(grad_norm) is None, "it brings its own, of every step"


def test_a_splitter_serves_training_alone_and_is_not_saved() -> None:
    config = _config("ensemble.balance=pcgrad")
    objective, embedder = _objective("ensemble.balance=pcgrad"), build_embedder(config)
    before = set(embedder.state_dict())
    attach_balance(embedder, objective)
    assert set(embedder.state_dict()) == before
    calls = []
    split = objective.balance.split
    embedder.splitter = lambda features, names: calls.append(names) or split(features, names)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    embedder.eval().outputs(images)
    with torch.no_grad():
        embedder.train().outputs(images)
    assert not calls
    embedder.outputs(images)
    assert calls == [objective.names]


# --- whole runs


def _run(folder: Path, *settings: str) -> RunConfig:
    return resolve(recipe="five_losses", file={"data": {"source": str(folder)}}, settings=[*TINY, *settings])


def _same(one: Path, other: Path) -> bool:
    first, second = (RunFolder.open(run).load_tensors("model.safetensors")[0] for run in (one, other))
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_run_learns_under_every_weighting(weighting: str, tiny_folder: Path, tmp_path: Path) -> None:
    report = train_run(_run(tiny_folder, f"ensemble.weighting={weighting}", EQUAL), tmp_path / "run")
    steps = logged_steps(tmp_path / "run")
    assert report["metrics"]["recall@1"] > 2 * report["chance"]["recall@1"]
    assert not any(step["skipped"] for step in steps)
    first, last = steps[0]["weights"], steps[-1]["weights"]
    assert all(value is not None and value > 0 for value in last.values())
    assert first != last, "the weights move"
    told = [number for number, step in enumerate(steps) if "gradients" in step]
    assert told == list(range(0, len(steps), 1 if weighting == "grad_norm" else WATCHED))
    assert ("scales" in steps[-1]) == (weighting == "published")


@pytest.mark.pretrained
@pytest.mark.slow
def test_heads_of_a_run_are_weighed_by_what_was_learned(tiny_folder: Path, tmp_path: Path) -> None:
    settings = (*TINY, "training.rates.weights=0.1", "training.keep=last", "evaluation.test=false")
    config = resolve(recipe="wedl", file={"data": {"source": str(tiny_folder)}}, settings=settings)
    train_run(config, tmp_path / "run")
    last = logged_steps(tmp_path / "run")[-1]
    weights = {name: factor * last["scales"][name] for name, factor in last["weights"].items()}
    learned = [weight / sum(weights.values()) for weight in weights.values()]
    assert learned != pytest.approx([0.25, 0.125, 0.25, 0.375], abs=3e-3)
    found = accord.load(tmp_path / "run").weights
    # the last step's own change, at a rate that has fallen to nearly nothing, is not in the log
    assert [found[name] / sum(found.values()) for name in weights] == pytest.approx(learned, abs=1e-3)


def test_the_published_method_is_a_recipe() -> None:
    config = resolve(recipe="wedl", settings=SMALL)
    embedder = build_embedder(config)
    objective = build_objective(config, classes=10, steps_per_epoch=3)
    assert isinstance(objective, Ensemble)
    assert isinstance(objective.weighting, PublishedWeights)
    weights = objective.weighting.loss_weights.detach().square() + 1 / 16
    assert weights.tolist() == pytest.approx([0.25, 0.125, 0.25, 0.375])
    assert set(embedder.heads) == set(objective.names)
    rules = {name: member.rule for name, member in objective.members.items()}
    assert rules == {
        "smoothed_cross_entropy": SmoothedCrossEntropy(8, 10, smoothing=0.15, spread="others").rule,
        "triplet_margin": TripletMargin(margin=1.0, mining="all_semi_hard", band=0.1, squared=False).rule,
        "binomial_deviance": BinomialDeviance(alpha=25.0, beta=2.0, margin=0.5).rule,
        "proxy_nca": ProxyNCA(8, 10, scale=3**0.5, positive="included", smoothing=0.1).rule,
    }
    # λ of the best run in full
    assert (config.ensemble.diversity, config.ensemble.diversity_weight) == ("distance_hinge", 0.1)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_a_run_learns_under_every_balance(rule: str, tiny_folder: Path, tmp_path: Path) -> None:
    report = train_run(_run(tiny_folder, f"ensemble.balance={rule}"), tmp_path / "run")
    steps = logged_steps(tmp_path / "run")
    assert report["metrics"]["recall@1"] > 2 * report["chance"]["recall@1"]
    assert not any(step["skipped"] for step in steps)
    assert all(len(step["gradients"]["norms"]) == 5 for step in steps)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [("ensemble.weighting=published", EQUAL, "ensemble.balance=pcgrad"), ("ensemble.weighting=grad_norm", EQUAL)],
    ids=["published and pcgrad", "grad_norm"],
)
def test_a_stopped_run_goes_on_bit_equal(settings: tuple[str, ...], tiny_folder: Path, tmp_path: Path) -> None:
    config = _run(tiny_folder, "evaluation.test=false", *settings)
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(4))
    resume_run(tmp_path / "stopped")
    assert _same(tmp_path / "whole", tmp_path / "stopped")
    assert [row["weights"] for row in logged_steps(tmp_path / "whole")] == [
        row["weights"] for row in logged_steps(tmp_path / "stopped")
    ]

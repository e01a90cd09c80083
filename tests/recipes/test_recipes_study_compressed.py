"""Arms that are made of other arms' finished runs, and the arms that take an ensemble apart."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.errors import UnknownNameError, UsageError
from accord.recipes import resolve
from accord.recipes.artifacts import load_config, load_embedder
from accord.recipes.compress.heads import pick_heads, read_heads
from accord.recipes.features import FEATURES
from accord.recipes.study.ablation import Ablation
from accord.recipes.study.config import PARTS, CompressArm, StudyConfig, make_study, read_study
from accord.recipes.study.plan import Plan, check_plan
from accord.recipes.study.run import plan_study, run_study
from accord.recipes.study.schedule import FAILED, FINISHED, Outcome, Schedule
from accord.runs import RunFolder
from accord.types import Json

LOSSES = [{"type": "contrastive"}, {"type": "n_pair", "weight": 0.1}, {"type": "proxy_nca"}]
BASE = {"model": {"size": 32, "dim": 8, "trunk_share": 0.5}, "losses": LOSSES}


def _study(**more: object) -> StudyConfig:
    raw = {"name": "s", "data": "objects", "base": BASE, "arms": {"plain": {}}, "epochs": 1, "seeds": 2}
    return make_study({**raw, "allow": ["embedding_size"], **more})


def _plan(**more: object) -> Plan:
    plan = Plan(_study(**more))
    check_plan(plan)
    return plan


SMALL = {"small": {"of": "plain", "method": "pca", "dim": 4}}


def test_an_arm_that_is_made_follows_the_one_it_is_made_of() -> None:
    plan = _plan(arms={"plain": {}, "other": {"training.warmup": 0.1}}, compress=SMALL)
    assert plan.names == ["plain", "small", "other"]
    schedule = Schedule(plan, {"objects": 0})
    assert schedule.count == 6
    run = "runs/objects/plain/seed-1"
    assert {job.arm for job in schedule.jobs({})} == {"plain", "other"}
    jobs = schedule.jobs({run: Outcome(FINISHED)})
    (made,) = [job for job in jobs if job.arm == "small"]
    assert (made.name, made.of, made.seed) == ("runs/objects/small/seed-1", run, 1)
    assert made.compress == CompressArm(of="plain", method="pca", dim=4)
    assert made.planned["compression"]["method"] == "pca"
    assert made.planned["training"]["seed"] == 1


def test_a_run_that_others_are_made_of_keeps_what_they_need() -> None:
    schedule = Schedule(_plan(arms={"plain": {}, "other": {"training.warmup": 0.1}}, compress=SMALL), {"objects": 0})
    assert {job.name for job in schedule.jobs({}) if job.is_source} == {f"runs/objects/plain/seed-{n}" for n in (0, 1)}
    assert dict(schedule.sources()) == {
        f"runs/objects/plain/seed-{n}": [f"runs/objects/small/seed-{n}"] for n in (0, 1)
    }


def test_what_it_is_made_of_may_fail() -> None:
    schedule = Schedule(_plan(compress=SMALL), {"objects": 0})
    outcomes = {"runs/objects/plain/seed-0": Outcome(FAILED)}
    assert "small" not in {job.arm for job in schedule.jobs(outcomes)}
    assert schedule.blocked("objects", "small", 0, outcomes) == "runs/objects/plain/seed-0, which it is made of, failed"
    assert schedule.blocked("objects", "small", 1, outcomes) == ""


def test_only_arms_that_are_trained_are_tuned() -> None:
    tune = {"trials": 2, "folds": 2, "search": {"training.weight_decay": {"uniform": [0.0, 1.0]}}}
    schedule = Schedule(_plan(compress=SMALL, tune=tune), {"objects": 2})
    assert schedule.count == 2 * 2 + 2 * 2
    assert schedule.trials("objects", "small", {}) == []
    assert not schedule.is_tuned("objects", "small", {})
    assert not [name for name in schedule.names() if name.startswith("tuning/objects/small")]
    lost = {name: Outcome(FAILED) for name in schedule.names()}
    assert schedule.blocked("objects", "small", 0, lost).startswith("the tuning found nothing")


@pytest.mark.parametrize(
    ("more", "kind", "told"),
    [
        ({"compress": {"small": {"of": "plian"}}}, UnknownNameError, "Did you mean 'plain'"),
        ({"compress": {"plain": {"of": "plain"}}}, UsageError, "'plain' is an arm that is trained, too"),
        ({"compress": {"small": {"of": "plain", "method": "pac"}}}, UsageError, "'small' does not fit.*\n.*pca"),
        ({"compress": {"small": {"of": "plain", "heads": ["n_piar"]}}}, UsageError, "'small' does not fit.*\n.*n_pair"),
        ({"compress": {"small": {"of": "plain", "heads": []}}}, UsageError, "'small' does not fit.*\n.*names no head"),
        ({"compress": {"small": {"of": "plain", "method": "fold", "scale": "unit"}}}, UsageError, "can't be folded"),
        ({"compress": {"small": {"of": "plain", "dim": 500, "heads": "n_pair"}}}, UsageError, "500, .* have 8 numbers"),
        (
            {"compress": {"small": {"of": "plain", "dim": 3, "method": "heads", "heads": "n_pair"}}},
            UsageError,
            "the method heads makes no fewer",
        ),
        (
            {"compress": {"small": {"of": "plain", "heads": "n_pair", "fit_weights": True}}},
            UsageError,
            "there is one, n_pair",
        ),
        ({"compress": {"small": {"of": "plain", "heads": {"trunk": 0.0}}}}, UsageError, "small.heads.trunk"),
        ({"compress": {"a/b": {"of": "plain"}}}, UsageError, "compress: 'a/b' can't name a folder"),
        ({"compress": SMALL, "allow": []}, UsageError, "allow: .embedding_size."),
        ({"against": ["nobody"]}, UnknownNameError, "nobody"),
        ({"ablate": ["membres"]}, UsageError, "ablate"),
        ({"ablate": True, "arms": {"ours": {}}}, UsageError, "'ours' is the name of an arm that `ablate` adds"),
        ({"ablate": True, "base": "triplet"}, UsageError, "the base has one loss, and nothing to take apart"),
        ({"ablate": True, "base": "five_losses"}, UsageError, "write model.dim"),
        (
            {"ablate": True, "base": {**BASE, "model": {"total_dim": 24}}},
            UsageError,
            "divide model.total_dim differently",
        ),
        ({"ablate": True, "base": {**BASE, "ensemble": {"student": "distil"}}}, UsageError, "only its student is kept"),
        ({"ablate": True, "base": {**BASE, "model": {"dim": 8, "heads": "shared"}}}, UsageError, "heads=shared"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_training(more: Json, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        _plan(**more)


def test_an_ablation_has_an_arm_for_every_question() -> None:
    plan = _plan(arms={}, ablate=True)
    assert list(plan.arms) == [
        "ours",
        *("contrastive", "n_pair", "proxy_nca"),
        *("contrastive-wide", "n_pair-wide", "proxy_nca-wide"),
        *("contrastive-x3", "n_pair-x3", "proxy_nca-x3"),
        *("uniform", "random", "published"),
        *("without-contrastive", "without-n_pair", "without-proxy_nca"),
    ]
    configs = {arm: plan.final("objects", arm, 0, None, {}) for arm in plan.arms}
    losses = {arm: [(loss.type, loss.weight) for loss in config.losses] for arm, config in configs.items()}
    assert losses["n_pair"] == losses["n_pair-wide"] == [("n_pair", 1.0)]
    assert losses["n_pair-x3"] == [("n_pair", 0.1)] * 3
    assert losses["uniform"] == [("contrastive", 1.0), ("n_pair", 1.0), ("proxy_nca", 1.0)]
    assert losses["without-contrastive"] == [("n_pair", 0.1), ("proxy_nca", 1.0)]
    assert configs["n_pair-wide"].model.dim == 24
    assert configs["published"].ensemble.weighting == "published"
    assert configs["published"].ensemble.diversity == "distance_hinge"
    assert plan.compressed["ours-student-2d"].dim == 16
    assert plan.compressed["n_pair-wide-pca"].dim == 8
    assert {arm.of for arm in plan.compressed.values()} <= set(plan.arms)
    assert "n_pair-distil" in plan.against
    assert not {"ours", "ours-distil", "published"} & set(plan.against)


def test_equal_weights_are_no_arm_where_the_base_has_them() -> None:
    plan = _plan(arms={}, ablate=["rules"], base={**BASE, "losses": [{"type": "contrastive"}, {"type": "n_pair"}]})
    assert list(plan.arms) == ["ours", "random", "published"]
    assert "uniform-distil" not in plan.compressed


def test_an_ablation_of_a_prior_takes_each_loss_s_part_with_it() -> None:
    ensemble = {"weighting": "published", "prior": [2.0, 1.0, 3.0], "balance": "pcgrad"}
    plan = _plan(arms={}, ablate=True, base={**BASE, "ensemble": ensemble})
    prior = {arm: plan.final("objects", arm, 0, None, {}).ensemble.prior for arm in plan.arms}
    assert prior["ours"] == (2.0, 1.0, 3.0)
    assert prior["without-n_pair"] == (2.0, 3.0)
    assert prior["n_pair-x3"] == (1.0, 1.0, 1.0)
    assert prior["n_pair"] is None
    assert plan.final("objects", "n_pair", 0, None, {}).ensemble.balance == "none"


def test_a_loss_that_is_there_twice_goes_by_its_own_name_when_alone() -> None:
    twice = [{"type": "n_pair"}, {"type": "n_pair", "options": {"penalty": 0.1}}]
    plan = _plan(arms={}, ablate=True, base={**BASE, "losses": twice})
    assert [arm for arm in plan.arms if arm.startswith("n_pair")][:2] == ["n_pair_1", "n_pair_2"]
    assert plan.compressed["n_pair_2-head"].heads == plan.compressed["n_pair_2-wide-pca"].heads == {"n_pair": None}
    assert plan.compressed["ours-heads"].heads == {"n_pair_1": None, "n_pair_2": None}


def test_an_arm_of_a_student_has_its_head_alone() -> None:
    taught = {"ensemble.student": "distil"}
    made = {"small": {"of": "taught", "method": "pca", "dim": 4, "heads": ["student"]}}
    assert _plan(arms={"taught": taught}, compress=made).names == ["taught", "small"]
    with pytest.raises(UsageError, match="'small' does not fit"):
        _plan(arms={"taught": taught}, compress={"small": {**made["small"], "heads": ["n_pair"]}})


def test_an_ablation_asks_only_for_its_parts() -> None:
    pair = resolve(file={**BASE, "losses": LOSSES[::2]}, settings=["model.trunk_share=0", "model.head=mlp"])
    found = Ablation(pair, PARTS)
    assert not [arm for arm in found.arms if arm.startswith("without")]
    assert not {"contrastive-pca", "ours-fold"} & set(found.compress)
    assert list(Ablation(pair, ["compressions"]).arms) == ["ours"]
    assert Ablation(pair, ["compressions"]).references == ("ours",)


def test_the_study_that_comes_with_accord_is_known_by_its_name(tmp_path: Path) -> None:
    plan = Plan(read_study(Path("ensemble")))
    check_plan(plan)
    assert list(plan.data) == ["objects"]
    assert {"ours", "published", "without-multi_similarity"} <= set(plan.arms)
    assert list(Plan(read_study(Path("ensemble"), data=["./pets.zip", "objects"])).data) == ["pets", "objects"]
    with pytest.raises(UsageError, match=r"no study file ensmeble, .*: ensemble"):
        read_study(Path("ensmeble"))


def test_heads_are_read_from_words() -> None:
    assert read_heads("trunk=0.75, n_pair") == {"trunk": 0.75, "n_pair": None}
    for text, told in (("", "names no head"), ("a,a", "'a' twice"), ("a=b", "must be a number, not 'b'")):
        with pytest.raises(UsageError, match=told):
            read_heads(text)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "weights"),
    [
        (None, None),
        ({"trunk": None}, {"trunk": 1.0}),
        ({"trunk": 0.5, "n_pair": 1.5}, {"trunk": 0.5, "n_pair": 1.5}),
    ],
)
def test_named_heads_alone_are_picked(
    heads: Mapping[str, float | None] | None, weights: dict[str, float] | None, tiny_run: Path
) -> None:
    embedder = load_embedder(RunFolder.open(tiny_run))
    picked = pick_heads(embedder, heads)
    assert picked.weights == (weights or embedder.weights)
    features = torch.randn(3, embedder.width)
    for name, head in picked.heads.items():
        want = features if name == "trunk" else embedder.heads[name](features)
        torch.testing.assert_close(head(features), want)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize(
    ("heads", "told"),
    [
        ({"trnuk": None}, "Did you mean 'trunk'"),
        ({"trunk": 0.0}, "'trunk' counts for nothing"),
        ({"trunk": -1.0}, "share of head 'trunk'"),
        ({"n_pair": 0.0}, "'n_pair' counts for nothing"),
    ],
)
def test_heads_that_can_not_be_picked_are_refused(heads: dict[str, float | None], told: str, tiny_run: Path) -> None:
    with pytest.raises((UsageError, UnknownNameError, ValueError), match=told):
        pick_heads(load_embedder(RunFolder.open(tiny_run)), heads)


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_study_trains_once_and_makes_the_rest(tiny_folder: Path, tmp_path: Path) -> None:
    study: dict[str, Any] = {
        "name": "apart",
        "data": {"name": "things", "source": str(tiny_folder), "validation": 0.5},
        "base": {
            "model": {"size": 32, "dim": 8, "backbone": "resnet10", "pretrained": False, "trunk_share": 0.5},
            "losses": LOSSES[:2],
            "training": {"classes_per_batch": 2, "per_class": 2},
            "evaluation": {"nmi_seeds": 1, "raw_pixels": False},
        },
        "arms": {"both": {}},
        "compress": {
            "trunk": {"of": "both", "method": "heads", "heads": ["trunk"]},
            "heads": {"of": "both", "method": "heads", "heads": ["contrastive", "n_pair"]},
            "small": {"of": "both", "method": "pca", "dim": 4},
            "wide": {"of": "both", "method": "heads", "dim": 3},
        },
        "against": ["both"],
        "steps": 2,
        "seeds": 1,
        "allow": ["embedding_size"],
    }
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text(json.dumps(study))
    plan = plan_study(file, out=out)
    assert [arm["arm"] for arm in plan["compress"]] == ["trunk", "heads", "small", "wide"]
    found = run_study(file, out=out, workers=1)
    assert found["counts"] == {"runs": 5, "finished": 4, "failed": 1, "blocked": 0, "left": 0}
    failed = next(row for row in found["table"] if row["arm"] == "wide")["seeds"][0]
    assert "dim=3, but these heads have" in failed["message"]
    sizes = {arm: load_embedder(RunFolder.open(out / f"runs/things/{arm}/seed-0")).dim for arm in ("trunk", "heads")}
    assert sizes == {"trunk": load_embedder(RunFolder.open(out / "runs/things/both/seed-0")).width, "heads": 16}
    assert load_config(RunFolder.open(out / "runs/things/heads/seed-0")).compression is not None
    assert not list(out.rglob(FEATURES))  # kept for those that are made of the run, and no longer
    assert RunFolder.open(out / "runs/things/both/seed-0").is_sealed()
    del study["compress"]["wide"]
    study["name"] = "again"
    file.write_text(json.dumps(study))
    other = run_study(file, out=tmp_path / "again", workers=1)
    pairs = [(pair["first"], pair["second"]) for pair in other["comparison"]["verdicts"]]
    assert pairs == [("trunk", "both"), ("heads", "both"), ("small", "both")]
    assert run_study(file, out=tmp_path / "again", workers=1)["table"] == other["table"]

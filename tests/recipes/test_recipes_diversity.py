"""How the heads of a run are made to differ: what is built, what is refused, and that all of it trains and resumes."""

from pathlib import Path

import pytest
import torch

import accord
from accord.ensembles import (
    AdversarialRegressors,
    CKADiversity,
    DistanceDecorrelation,
    DistanceHinge,
    Relabelled,
    Subset,
)
from accord.errors import UsageError
from accord.models import LinearHead, MaskedLinearHead
from accord.recipes import resolve, resume_run, train_run
from accord.recipes.build import build_embedder, build_objective, deployed, warm_proxies
from accord.recipes.config import RunConfig
from accord.recipes.head_names import member_names
from accord.recipes.interrupt import StoppedError
from accord.runs import RunFolder
from made_runs import logged_steps
from stopping import StopAt

TERMS = {
    "distance_hinge": DistanceHinge,
    "cka": CKADiversity,
    "distance_decorrelation": DistanceDecorrelation,
    "adversarial": AdversarialRegressors,
}


def _config(*settings: str, recipe: str = "five_losses") -> RunConfig:
    return resolve(recipe=recipe, settings=["model.size=32", "model.dim=8", "model.backbone=resnet10", *settings])


def test_nothing_is_added_unless_it_is_asked_for() -> None:
    objective = build_objective(_config(), classes=6)
    assert objective.diversity is None
    assert not any(isinstance(member, Relabelled | Subset) for member in objective.members.values())


@pytest.mark.parametrize("name", TERMS)
def test_the_term_is_built_with_its_weight(name: str) -> None:
    usual = build_objective(_config(f"ensemble.diversity={name}"), classes=6).diversity
    given = build_objective(
        _config(f"ensemble.diversity={name}", "ensemble.diversity_weight=0.25"), classes=6
    ).diversity
    assert type(usual) is type(given) is TERMS[name]
    assert (usual.weight, given.weight) == (0.1, 0.25)


def test_regressors_fit_the_heads_and_are_drawn_from_the_seed() -> None:
    one, two, other = (
        build_objective(_config("ensemble.diversity=adversarial", f"training.seed={seed}"), classes=6).diversity
        for seed in (1, 1, 2)
    )
    assert one.dims == dict.fromkeys(member_names(_config()), 8)
    pairs = list(zip(one.parameters(), two.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not torch.equal(pairs[0][0], pairs[0][2])


def test_each_head_learns_groups_of_the_classes() -> None:
    objective = build_objective(_config("ensemble.labels=partition", "ensemble.labels_share=0.3"), classes=20)
    tables = [member.table for member in objective.members.values()]
    assert all(table.bincount().tolist() == [4, 4, 3, 3, 3, 3] for table in tables)
    assert not any(torch.equal(one, other) for i, one in enumerate(tables) for other in tables[:i])
    assert objective.members["proxy_nca"].loss.proxies.shape == (6, 8)
    again = build_objective(_config("ensemble.labels=partition", "ensemble.labels_share=0.3"), classes=20)
    assert all(torch.equal(a, b.table) for a, b in zip(tables, again.members.values(), strict=True))


def test_each_head_learns_some_of_the_classes() -> None:
    objective = build_objective(_config("ensemble.labels=subset"), classes=20)
    kept = torch.stack([member.keep for member in objective.members.values()])
    assert kept.sum(dim=1).tolist() == [10] * 5
    assert set(kept.sum(dim=0).tolist()) == {2, 3}
    assert objective.members["proxy_nca"].loss.proxies.shape == (10, 8)


@pytest.mark.parametrize("labels", ["partition", "subset"])
def test_proxies_of_such_a_head_start_where_its_classes_are(labels: str) -> None:
    objective = build_objective(_config(f"ensemble.labels={labels}"), classes=4)
    points, classes = torch.eye(8)[:4].repeat_interleave(3, dim=0), torch.arange(4).repeat_interleave(3)
    outputs = dict.fromkeys(objective.members, points)
    assert warm_proxies(objective, outputs, classes) == ["proxy_nca"]
    member = objective.members["proxy_nca"]
    seen, own = member.seen(points, classes)
    directions = torch.nn.functional.normalize(member.loss.proxies.detach(), dim=1)[own]
    assert float((directions * seen).sum(dim=1).min()) > 0.6


def test_masked_heads_are_folded_where_they_are_used() -> None:
    config = _config("model.head=masked")
    embedder = build_embedder(config).eval()
    assert all(isinstance(head, MaskedLinearHead) for head in embedder.heads.values())
    with torch.no_grad():
        for head in embedder.heads.values():
            head.mask.copy_(torch.linspace(-2, 2, embedder.width))
    used = deployed(embedder, config, dict.fromkeys(embedder.heads, 0.2))
    assert all(isinstance(used.heads[name], LinearHead) for name in embedder.heads)
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    outputs, expected = used.outputs(images), embedder.outputs(images)
    for name in expected:
        torch.testing.assert_close(outputs[name], expected[name], rtol=1e-4, atol=1e-5)


ONE = ("losses=[{type: contrastive}]",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((*ONE, "ensemble.diversity=cka"), r"ensemble\.diversity: a single loss .* Leave it out"),
        ((*ONE, "ensemble.labels=subset"), r"ensemble\.labels: a single loss .* Leave it out"),
        (("ensemble.diversity_weight=0.5",), r"diversity_weight: there is no term to weigh.*ensemble\.diversity"),
        (("ensemble.labels_share=0.2",), r"labels_share: only used where ensemble\.labels is partition or subset"),
        (("ensemble.labels=subset", "data.relations=pairs.csv"), r"ensemble\.labels: a subset is one of classes"),
        (
            ("ensemble.labels=subset", "ensemble.labels_share=1.0"),
            r"ensemble\.labels_share: Input should be less than 1",
        ),
        (("ensemble.diversity=ckaa",), r"ensemble\.diversity: Input should be 'none', 'distance_hinge', 'cka'"),
        (
            ("ensemble.diversity=cka", "ensemble.diversity_weight=0"),
            r"diversity_weight: Input should be greater than 0",
        ),
        (("model.head=masked", "model.hidden=20"), r"model\.hidden: a masked head has no hidden layer"),
    ],
)
def test_options_without_an_effect_are_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _config(*settings)


def test_a_foreign_loss_has_a_head_like_any_other() -> None:
    foreign = "{type: 'pytorch_metric_learning.losses:ProxyAnchorLoss'}"
    config = _config(f"losses=[{foreign}, {{type: contrastive}}, {foreign}]", "ensemble.diversity=cka")
    assert member_names(config) == ["ProxyAnchorLoss_1", "contrastive", "ProxyAnchorLoss_2"]
    embedder, objective = build_embedder(config), build_objective(config, classes=3)
    outputs = embedder.outputs(torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8))
    objective(outputs, torch.arange(6) % 3).backward()
    assert list(objective.terms) == ["ProxyAnchorLoss_1", "contrastive", "ProxyAnchorLoss_2", "diversity"]


TINY = ("model.size=32", "model.dim=16", "training.classes_per_batch=4", "evaluation.test=false")
CASES = {
    **{name: (f"ensemble.diversity={name}",) for name in TERMS},
    "partition": ("ensemble.labels=partition",),
    "subset": ("ensemble.labels=subset", "ensemble.labels_share=0.4"),
    "masked": ("model.head=masked", "ensemble.diversity=cka"),
    "balanced": ("ensemble.balance=pcgrad", "ensemble.diversity=distance_decorrelation", "ensemble.labels=partition"),
}


def _run_config(folder: Path, *settings: str) -> RunConfig:
    return resolve(recipe="five_losses", file={"data": {"source": str(folder)}}, settings=[*TINY, *settings])


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_each_trains_and_is_logged(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    config = _run_config(tiny_folder, "training.steps=3", *CASES[case])
    found = train_run(config, tmp_path / "run")
    assert 0 < found["validation"]["map@r"] <= 1
    rows = logged_steps(tmp_path / "run")
    assert len(rows) == 3
    with_term = any("diversity=" in setting for setting in CASES[case])
    for row in rows:
        assert ("diversity" in row["terms"]) == with_term
        assert all(value is not None for value in row["terms"].values())
        assert "diversity" not in row["weights"]
    embedder = accord.load(tmp_path / "run")
    assert not any(isinstance(head, MaskedLinearHead) for head in embedder.heads.values())
    if case == "adversarial":
        assert "heads_no_decay" in rows[0]["rates"]


@pytest.mark.pretrained
@pytest.mark.slow
def test_adversaries_go_on_bit_equal(tiny_folder: Path, tmp_path: Path) -> None:
    settings = ("training.steps=4", "ensemble.diversity=adversarial", "ensemble.labels=subset")
    config = _run_config(tiny_folder, *settings)
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(2))
    state = RunFolder.open(tmp_path / "stopped").load_state()
    assert state is not None
    assert "objective/diversity.regressors.0.inner.weight" in state.tensors
    assert "objective/members.n_pair.keep" in state.tensors
    resume_run(tmp_path / "stopped")
    first, second = (
        RunFolder.open(tmp_path / run).load_tensors("model.safetensors")[0] for run in ("whole", "stopped")
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert [row["terms"] for row in logged_steps(tmp_path / "whole")] == [
        row["terms"] for row in logged_steps(tmp_path / "stopped")
    ]

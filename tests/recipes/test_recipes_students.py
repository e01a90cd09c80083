"""Students beside their ensemble as a configuration names them: refused, built, and learnt by in whole runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import accord
from accord.ensembles import STUDENT, Ensemble, Taught
from accord.errors import UsageError
from accord.models import Embedder, JoinedHead, LinearHead, MaskedLinearHead, MLPHead, TrunkHead
from accord.recipes import compress_run, read_report, resolve, resume_run, train_run
from accord.recipes.build import (
    build_embedder,
    build_objective,
    build_optimizer,
    check_parts,
    deployed,
    warm_proxies,
)
from accord.recipes.config import EnsembleConfig, RunConfig
from accord.recipes.ensembles import attach_balance
from accord.recipes.head_names import head_names
from accord.recipes.idle_members import IdleMembers
from accord.recipes.interrupt import StoppedError
from accord.recipes.per_query import config_fingerprint
from accord.recipes.resolve import dump, filled, read_yaml, validate
from accord.recipes.students import as_student, with_student
from accord.recipes.study.ablation import Ablation
from accord.recipes.study.plan import _looked_at
from accord.runs import RunFolder
from accord.types import Step
from made_runs import logged_steps
from stopping import StopAt

SMALL = ("model.size=32", "model.dim=8", "model.backbone=resnet10")
DISTIL, STRESS = "ensemble.student=distil", "ensemble.student=stress"
ONE = "losses=[{type: contrastive}]"
PAST = "losses=[{type: contrastive}, {type: n_pair}, {type: multi_similarity, sees: trunk}]"
IMAGES = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) // 2


def _config(*settings: str, recipe: str = "five_losses") -> RunConfig:
    return resolve(recipe=recipe, settings=[*SMALL, *settings])


def _built(*settings: str) -> tuple[RunConfig, Embedder, torch.nn.Module]:
    config = _config(*settings)
    embedder = build_embedder(config)
    objective = with_student(build_objective(config, classes=4), config, embedder)
    attach_balance(embedder, objective)
    return config, embedder, objective


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("ensemble.student_weight=2.0",), r"student_weight: there is no student\. Add ensemble\.student=distil"),
        (("ensemble.student_temperature=2.0",), r"student_temperature: there is no student"),
        (("ensemble.student_dim=4",), r"student_dim: there is no student\. Add ensemble\.student=stress"),
        ((DISTIL, "ensemble.student_dim=4"), r"student_dim: a distilled student has .* model\.dim\. Leave it out"),
        ((STRESS, "ensemble.student_weight=2.0"), r"student_weight: a network on top .* no weight\. Leave it out"),
        ((STRESS, "ensemble.student_temperature=2.0"), r"student_temperature: .* no temperature\. Leave it out"),
        ((DISTIL, "ensemble.student_weight=-1"), r"student_weight: Input should be greater than or equal to 0"),
        ((DISTIL, "ensemble.student_temperature=-1"), r"student_temperature: Input should be greater than 0"),
        ((STRESS, "ensemble.student_dim=0"), r"student_dim: Input should be greater than or equal to 1"),
        (("ensemble.student=distill",), r"ensemble\.student: Input should be 'none', 'distil' or 'stress'"),
        ((ONE, STRESS, "model.trunk_share=0.0"), r"on top of a single head has twice its numbers.*\n.*trunk_share"),
        (("model.heads=shared", STRESS, "model.trunk_share=0.0"), r"on top of a single head has twice its numbers"),
    ],
)
def test_what_is_wrong_or_would_do_nothing_is_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _config(*settings)


def test_a_student_of_more_numbers_than_its_teacher_is_refused() -> None:
    with pytest.raises(UsageError, match=r"would have 41 numbers.*has 40\.\n  Give ensemble\.student_dim=40 or less"):
        _built(STRESS, "ensemble.student_dim=41", "model.trunk_share=0.0")
    assert _built(STRESS, "ensemble.student_dim=40", "model.trunk_share=0.0")
    assert _built(ONE, STRESS, "ensemble.student_dim=4", "model.trunk_share=0.0")


@pytest.mark.parametrize("name", ["student", "trunk"])
def test_a_loss_of_a_name_that_is_taken_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"named_{name}.py").write_text(
        f"def {name}():\n    return lambda embeddings, labels: embeddings.sum()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    losses = f"losses=[{{type: 'named_{name}:{name}'}}, {{type: n_pair}}]"
    check_parts(_config(losses, "model.trunk_share=0"))
    with pytest.raises(UsageError, match=f"one is called '{name}', and that is the name of the"):
        _config(losses, "model.trunk_share=0", DISTIL)


def test_a_configuration_without_a_student_stays_what_it_was() -> None:
    plain = _config()
    assert plain.ensemble == EnsembleConfig()
    assert not any("student" in key for key in plain.model_dump()["ensemble"])
    assert "student" not in dump(plain)
    taught = _config(DISTIL)
    assert validate(read_yaml(dump(taught), source="here")) == taught
    assert filled(taught.model_dump(mode="json")) == taught.model_dump(mode="json")
    assert filled(plain.model_dump(mode="json")) == plain.model_dump(mode="json")
    assert config_fingerprint(taught) != config_fingerprint(plain)


@pytest.mark.parametrize("student", [DISTIL, STRESS])
def test_everything_else_is_drawn_as_without_a_student(student: str) -> None:
    _, plain, objective = _built()
    _, taught, other = _built(student)
    assert isinstance(objective, Ensemble)
    assert isinstance(other, Taught)
    assert list(taught.heads)[: len(plain.heads)] == list(plain.heads)
    beside = taught.state_dict()
    assert all(torch.equal(value, beside[name]) for name, value in plain.state_dict().items())
    inside = other.objective.state_dict()
    assert all(torch.equal(value, inside[name]) for name, value in objective.state_dict().items())


def test_a_distilled_student_is_one_linear_head_of_a_heads_size() -> None:
    config, embedder, objective = _built(DISTIL)
    assert list(embedder.heads) == [*head_names(config), "trunk", STUDENT]
    assert isinstance(embedder.heads["trunk"], TrunkHead)
    assert (objective.beside, objective.weight, objective.temperature) == ({"trunk": 0.75}, 1.0, 0.1)
    chosen = _built(DISTIL, "ensemble.student_weight=2.0", "ensemble.student_temperature=0.5", "model.trunk_share=0.0")
    assert (chosen[2].beside, chosen[2].weight, chosen[2].temperature) == ({}, 2.0, 0.5)
    assert "trunk" not in chosen[1].heads
    used = _used(config, embedder, objective)
    assert list(used.heads) == [STUDENT]
    assert isinstance(used.heads[STUDENT], LinearHead)
    assert used.dim == 8
    assert Embedder.from_description(used.describe()).dim == 8


@pytest.mark.parametrize(("weight", "apart"), [("null", True), ("0", True), ("2.0", False)])
def test_a_distilled_student_teaches_the_trunk_only_with_a_weight(weight: str, apart: bool) -> None:
    images, labels = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 4
    gradients = []
    for settings in ((), (DISTIL, f"ensemble.student_weight={weight}")):
        _, embedder, objective = _built(*settings)
        objective(embedder.eval().outputs(images), labels).backward()
        gradients.append([parameter.grad for parameter in embedder.trunk_parameters() if parameter.grad is not None])
    head = embedder.heads[STUDENT]
    assert head.apart == apart
    assert head.linear.weight.grad.abs().sum() > 0
    assert all(map(torch.equal, *gradients)) == apart


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_beside_one_embedding_for_all_that_is_the_teacher_and_what_is_past_it_only_teaches(share: float) -> None:
    _, embedder, objective = _built(PAST, DISTIL, "model.heads=shared", f"model.trunk_share={share}")
    assert isinstance(objective, Taught)
    outputs = embedder.outputs(IMAGES)
    objective(outputs, LABELS)
    unit = {name: rows / rows.norm(dim=1, keepdim=True) for name, rows in outputs.items()}
    cosines = (1 - share) * unit["shared"] @ unit["shared"].T
    if share:
        cosines = cosines + share * unit["trunk"] @ unit["trunk"].T
    expected = [(side / 0.1).log_softmax(dim=1) for side in (cosines, unit[STUDENT] @ unit[STUDENT].T)]
    told = 0.1**2 * (expected[0].exp() * (expected[0] - expected[1])).sum(dim=1).mean()
    torch.testing.assert_close(objective.terms[STUDENT], told.detach())


def test_a_network_is_the_authors() -> None:
    _, embedder, objective = _built(STRESS)
    network = objective.student
    assert isinstance(network, MLPHead)
    assert (network.width, network.hidden, network.dim) == (5 * 8 + embedder.width, 16, 16)
    assert (network.activation, network.normalise) == ("tanh", False)
    other = _built(STRESS, "ensemble.student_dim=4", "model.trunk_share=0.0")[2].student
    assert (other.width, other.hidden, other.dim) == (40, 16, 4)


def _used(config: RunConfig, embedder: Embedder, objective: torch.nn.Module) -> Embedder:
    shares = dict(zip(head_names(config), (0.5, 0.1, 0.2, 0.1, 0.1), strict=False))
    if len(shares) == 1:
        shares = dict.fromkeys(shares, 1.0)
    return as_student(deployed(embedder, config, shares), embedder, objective)


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("model.head=masked",),
        ("model.head=mlp", "model.hidden=20"),
        ("model.trunk_share=0.0",),
        ("losses.0.unit=true",),
        ("model.heads=shared",),
        (ONE,),
    ],
    ids=str,
)
def test_what_is_used_is_the_network_on_what_it_was_taught_on(settings: tuple[str, ...]) -> None:
    config, embedder, objective = _built(STRESS, "ensemble.weighting=fixed", *settings)
    embedder.eval()
    with torch.no_grad():
        for head in embedder.heads.values():
            if isinstance(head, MaskedLinearHead):
                head.mask.copy_(torch.linspace(-2, 2, embedder.width))
        outputs = embedder.outputs(IMAGES)
        teachers: list[Tensor] = []
        objective.student.register_forward_hook(lambda _, given, out: teachers.append(given[0]))
        objective(outputs, LABELS)
        shares = {name: float(share) for name, share in _shares(objective, config).items()}
        joined = deployed(embedder, config, shares)
        torch.testing.assert_close(teachers[0], joined(IMAGES), rtol=1e-4, atol=1e-5)
        used = as_student(joined, embedder, objective)
        expected = torch.nn.functional.normalize(objective.student(teachers[0]), dim=1)
        torch.testing.assert_close(used(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(used.heads[STUDENT], JoinedHead)
    again = Embedder.from_description(used.describe())
    again.load_state_dict(used.state_dict())
    assert torch.equal(again.eval()(IMAGES), used.eval()(IMAGES))


def _shares(objective: Taught, config: RunConfig) -> dict[str, Any]:
    names = head_names(config)
    if len(names) == 1:
        return {names[0]: 1.0}
    return accord.ensembles.test_weights(objective.objective)


def test_a_network_has_the_authors_rate_and_a_group_of_its_own() -> None:
    config, embedder, objective = _built(STRESS)
    groups = {group["name"]: group for group in build_optimizer(config, embedder, objective).param_groups}
    assert groups[STUDENT]["params"] == list(objective.student.parameters())
    assert (groups[STUDENT]["lr"], groups[STUDENT]["eps"]) == (1e-3, 0.01)
    assert groups["heads"]["eps"] == 1e-8
    config, embedder, objective = _built(DISTIL)
    groups = {group["name"]: group for group in build_optimizer(config, embedder, objective).param_groups}
    assert STUDENT not in groups
    assert any(embedder.heads[STUDENT].linear.weight is own for own in groups["heads"]["params"])


@pytest.mark.parametrize("student", [DISTIL, STRESS])
def test_a_balance_is_of_the_members_and_the_student_is_added(student: str) -> None:
    weight = ("ensemble.student_weight=5",) if student == DISTIL else ()  # without one it wants nothing of the trunk
    _, embedder, objective = _built(student, *weight, "ensemble.balance=pcgrad")
    embedder.train()
    assert embedder.splitter is not None
    found, plain = [], embedder.splitter
    embedder.splitter = lambda features, names: found.append(features) or plain(features, names)
    outputs = embedder.outputs(IMAGES)
    (features,) = found
    features.retain_grad()
    objective(outputs, LABELS).backward()
    assert set(objective.objective.balance.norms) == set(objective.objective.names)
    whole = features.grad

    _, embedder, alone = _built("ensemble.balance=pcgrad")
    embedder.train()
    again, plain = [], embedder.splitter
    embedder.splitter = lambda features, names: again.append(features) or plain(features, names)
    outputs = embedder.outputs(IMAGES)
    again[0].retain_grad()
    alone(outputs, LABELS).backward()
    if student == STRESS:
        assert torch.equal(whole, again[0].grad)
        return
    _, embedder, objective = _built(student, *weight)
    read = features.detach().requires_grad_()
    heads = {name: head(read) for name, head in embedder.heads.items()}
    objective({name: head if name == STUDENT else head.detach() for name, head in heads.items()}, LABELS).backward()
    assert read.grad.abs().sum() > 0
    torch.testing.assert_close(whole, again[0].grad + read.grad)


def test_one_head_for_all_is_balanced_where_it_is_handed_out() -> None:
    _, embedder, objective = _built(DISTIL, "model.heads=shared", "ensemble.balance=pcgrad")
    embedder.train()
    assert embedder.splitter is None
    objective(embedder.outputs(IMAGES), LABELS).backward()
    assert len(objective.objective.balance.norms) == 5


def test_proxies_start_where_their_classes_are_with_a_student_beside() -> None:
    _, embedder, objective = _built(DISTIL)
    outputs = embedder.eval().outputs(IMAGES)
    assert warm_proxies(objective, outputs, LABELS) == ["proxy_nca"]
    _, embedder, objective = _built(DISTIL, "losses=[{type: proxy_nca}]")
    assert warm_proxies(objective, embedder.eval().outputs(IMAGES), LABELS) == ["proxy_nca"]


def test_a_student_that_has_nothing_left_to_learn_is_not_idle() -> None:
    idle = IdleMembers(patience=1)
    terms = {STUDENT: torch.zeros(()), "pairs": torch.ones(())}
    found = idle.look(Step(0, 0, torch.ones(()), terms, {}, torch.ones(())))
    assert not found.warnings
    assert not found.excluded


def test_a_study_counts_the_numbers_of_the_student() -> None:
    sizes = [
        _looked_at(_config(*settings))["embedding_size"]
        for settings in (
            (DISTIL,),
            (ONE, DISTIL),
            (ONE, "model.trunk_share=0.0"),
            (STRESS,),
            (STRESS, "ensemble.student_dim=8"),
        )
    ]
    assert sizes[0] == sizes[1] == sizes[2] == sizes[4] == {"model.dim": 8, "heads": 1, "trunk's feature": False}
    assert sizes[3]["model.dim"] == 16
    unknown = resolve(recipe="five_losses", settings=[STRESS])
    assert _looked_at(unknown)["embedding_size"]["model.dim"] is None


def test_an_ensemble_that_keeps_its_student_alone_is_not_taken_apart() -> None:
    with pytest.raises(UsageError, match=r"(?s)only its student is kept \(ensemble\.student=distil\).*as an arm"):
        Ablation(_config(DISTIL), ("members",))


# --- whole runs

TINY = ("model.size=32", "model.dim=16", "training.classes_per_batch=4", "evaluation.nmi_seeds=1")
CLOSED = "evaluation.test=false"
CASES = {
    "distil": (DISTIL,),
    "stress": (STRESS,),
    "distil, head alone": (ONE, DISTIL),
    "distil, single loss": (ONE, DISTIL, "model.trunk_share=0.75"),
    "stress, single loss": (ONE, STRESS, "model.trunk_share=0.75"),
    "distil, balanced": (DISTIL, "ensemble.balance=cagrad", "ensemble.diversity=cka"),
    "stress, masked": (STRESS, "model.head=masked", "ensemble.student_dim=16"),
    "distil, mlp": (DISTIL, "model.head=mlp", "ensemble.labels=partition"),
    "distil, shared": (DISTIL, "model.heads=shared"),
    "distil, shared, one past it": (PAST, DISTIL, "model.heads=shared"),
    "distil, published": (DISTIL, "ensemble.weighting=published", "ensemble.prior=[1,1,1,1,1]"),
    "distil, hard classes": (DISTIL, "training.hard_classes=true"),
}


def _run(folder: Path, *settings: str, **data: str) -> RunConfig:
    recipe = "relations" if "relations" in data else "five_losses"
    return resolve(recipe=recipe, file={"data": {"source": str(folder), **data}}, settings=[*TINY, *settings])


def _tensors(run: Path) -> dict[str, Tensor]:
    return RunFolder.open(run).load_tensors("model.safetensors")[0]


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_each_trains_is_logged_and_is_one_vector(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    config = _run(tiny_folder, CLOSED, "training.steps=3", *CASES[case])
    found = train_run(config, tmp_path / "run")
    assert 0 < found["validation"]["map@r"] <= 1
    rows = logged_steps(tmp_path / "run")
    assert len(rows) == 3
    for row in rows:
        assert row["terms"][STUDENT] > 0
        assert STUDENT not in row["weights"]
        assert not row["skipped"]
    assert (STUDENT in rows[0]["rates"]) == case.startswith("stress")
    assert ("loss" in rows[0]["terms"]) == (ONE in CASES[case])
    embedder = accord.load(tmp_path / "run")
    assert list(embedder.heads) == [STUDENT]
    assert embedder.dim == (32 if case in ("stress", "stress, single loss") else 16)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [(DISTIL, "ensemble.balance=pcgrad"), (STRESS, "ensemble.weighting=uncertainty"), (ONE, DISTIL)],
    ids=["distil", "stress", "single"],
)
def test_a_stopped_run_goes_on_bit_equal(settings: tuple[str, ...], tiny_folder: Path, tmp_path: Path) -> None:
    config = _run(tiny_folder, CLOSED, "training.steps=4", "training.keep=last", *settings)
    train_run(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "stopped", watch=StopAt(2))
    state = RunFolder.open(tmp_path / "stopped").load_state()
    assert state is not None
    assert ("objective/student.inner.weight" in state.tensors) == (STRESS in settings)
    resume_run(tmp_path / "stopped")
    first, second = _tensors(tmp_path / "whole"), _tensors(tmp_path / "stopped")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    whole, stopped = logged_steps(tmp_path / "whole"), logged_steps(tmp_path / "stopped")
    assert [row["terms"] for row in whole] == [row["terms"] for row in stopped]


@pytest.mark.pretrained
@pytest.mark.slow
def test_a_network_on_top_changes_nothing_below_it(tiny_folder: Path, tmp_path: Path) -> None:
    settings = (CLOSED, "training.steps=4", "training.keep=last", "training.clip_norm=0.5")
    for name, more in (("plain", ()), ("taught", (STRESS,))):
        train_run(_run(tiny_folder, *settings, *more), tmp_path / name)
    plain, taught = _tensors(tmp_path / "plain"), _tensors(tmp_path / "taught")
    for key, value in plain.items():
        inside = key.replace("heads.", "heads.student.heads.", 1) if key.startswith("heads.") else key
        assert torch.equal(value, taught[inside]), key
    names = [(row["terms"], row["gradient_norm"]) for row in logged_steps(tmp_path / "plain")]
    beside = [
        ({name: value for name, value in row["terms"].items() if name != STUDENT}, row["gradient_norm"])
        for row in logged_steps(tmp_path / "taught")
    ]
    assert names == beside


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("student", [DISTIL, STRESS])
def test_a_run_with_a_student_is_reported_and_compressed_further(
    student: str, tiny_folder: Path, tmp_path: Path
) -> None:
    report = train_run(_run(tiny_folder, "training.steps=6", student), tmp_path / "run")
    assert report["metrics"]["recall@1"] > report["chance"]["recall@1"]
    assert read_report(tmp_path / "run")["metrics"] == report["metrics"]
    assert "student" in (tmp_path / "run" / "report.html").read_text()
    with pytest.raises(UsageError, match=r"say how few: --dim|can't be folded|dim=\d+"):
        compress_run(tmp_path / "run", method="fold", dim=None if student == DISTIL else 16, out=tmp_path / "none")
    result = compress_run(tmp_path / "run", method="pca", dim=4, out=tmp_path / "small")
    assert accord.load(tmp_path / "small").dim == 4
    assert result["metrics"]["recall@1"] > 0


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize("student", [DISTIL, STRESS])
def test_relations_teach_a_student_as_well(student: str, tiny_folder: Path, tmp_path: Path) -> None:
    images = {folder.name: sorted(path.name for path in folder.iterdir()) for folder in sorted(tiny_folder.iterdir())}
    lines = [f"{name}/{first},{name}/{second}" for name, (first, *rest) in images.items() for second in rest]
    (tmp_path / "pairs.csv").write_text("\n".join(["anchor,positive", *lines]) + "\n")
    config = _run(tiny_folder, CLOSED, "training.steps=2", student, relations=str(tmp_path / "pairs.csv"))
    train_run(config, tmp_path / "run")
    assert all(row["terms"][STUDENT] > 0 for row in logged_steps(tmp_path / "run"))
    assert list(accord.load(tmp_path / "run").heads) == [STUDENT]

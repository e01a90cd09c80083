"""Losses that teach nothing: named, left out or stopped at, the same after a resume, and told in log and report."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import accord
from accord.ensembles import Ensemble, FixedWeights
from accord.errors import ArtifactError, NumericError, UsageError
from accord.losses import NPair
from accord.recipes import compress_run, resolve, resume_run, train_run
from accord.recipes.artifacts import CONFIG
from accord.recipes.config import RunConfig
from accord.recipes.idle_members import IdleMembers, excluded_notes
from accord.recipes.interrupt import StoppedError
from accord.recipes.resolve import divided, dump, filled, validate
from accord.recipes.watch import Silence
from accord.runs import RunFolder
from accord.types import Step
from stopping import StopAt

MEMBERS = "losses=[{type: 'odd_losses:odd'}, {type: n_pair}, {type: contrastive}]"
TINY = (
    "model.size=32",
    "model.dim=8",
    "model.backbone=resnet10",
    "model.pretrained=false",
    "training.classes_per_batch=4",
    "training.steps=9",
    "training.keep=last",
    "evaluation.test=false",
)


def _step(number: int, *, skipped: bool = False, **terms: float) -> Step:
    values = {name: torch.tensor(value) for name, value in terms.items()}
    return Step(number, 0, torch.tensor(1.0), values, {}, torch.tensor(1.0), skipped)


def _ensemble(*names: str) -> Ensemble:
    return Ensemble({name: NPair() for name in names}, weighting=FixedWeights())


# --- what is seen and done


def test_a_member_that_stays_zero_is_named_once() -> None:
    idle = IdleMembers()
    told = [idle.look(_step(number, pairs=0.0, proxies=1e-30, diversity=0.0)).warnings for number in range(350)]
    assert [number for number, warnings in enumerate(told) if warnings] == [99]
    (warning,) = told[99]
    assert warning.startswith("pairs has been exactly 0 for 100 steps in a row: it finds nothing to learn.\n  A wider")


def test_zeros_must_come_in_a_row_and_be_of_steps_that_were_done() -> None:
    idle = IdleMembers(patience=3)
    values = [0.0, 0.0, 0.1, 0.0, 0.0]
    assert not any(idle.look(_step(number, pairs=value)).warnings for number, value in enumerate(values))
    assert not idle.look(_step(5, skipped=True, pairs=0.0)).warnings
    assert idle.look(_step(6, pairs=0.0)).warnings
    again = [idle.look(_step(number, pairs=value)) for number, value in enumerate([1.0, 0.0, 0.0, 0.0, 0.0])]
    assert not any(verdict.warnings for verdict in again)
    assert IdleMembers(patience=1).look(_step(0, loss=0.0)).warnings[0].startswith("the loss has been exactly 0")


def test_a_member_that_stays_zero_is_left_out_and_named() -> None:
    idle, ensemble = IdleMembers("exclude", patience=3), _ensemble("a", "b")
    told = [idle.look(_step(number, a=0.0, b=1.0), ensemble) for number in range(3)]
    assert [verdict.excluded for verdict in told] == [{}, {}, {"a": "its loss was exactly 0 in 3 steps in a row"}]
    assert told[2].warnings[0].split("\n  ") == [
        "a has been exactly 0 for 3 steps in a row: it finds nothing to learn.",
        "It is left out after step 3, and its head counts for nothing at test time.",
    ]
    assert ensemble.excluded == ("a",)


def test_the_last_one_stays() -> None:
    idle, ensemble = IdleMembers("exclude", patience=2), _ensemble("a", "b", "c")
    told = [idle.look(_step(number, a=0.0, b=0.0, c=0.0), ensemble) for number in range(5)]
    assert list(told[1].excluded) == ["a", "b"]
    assert "It is the last one that is left, so it stays." in told[1].warnings[2]
    assert ensemble.excluded == ("a", "b")
    assert not any(verdict.warnings for verdict in told[2:])


def test_a_run_may_stop_there() -> None:
    idle = IdleMembers("stop", patience=2)
    idle.look(_step(0, a=0.0, b=1.0), _ensemble("a", "b"))
    with pytest.raises(NumericError, match=r"a has been exactly 0 for 2 steps(.|\n)*ensemble.idle=stop(.|\n)*margin"):
        idle.look(_step(1, a=0.0, b=1.0), _ensemble("a", "b"))
    with pytest.raises(NumericError, match="the loss has been exactly 0"):
        IdleMembers("stop", patience=1).look(_step(0, loss=0.0), NPair())


def test_a_member_that_is_not_finite_is_left_out_after_steps_in_a_row() -> None:
    idle, ensemble = IdleMembers(broken="exclude"), _ensemble("a", "b", "c")
    told = []
    for number, broken in enumerate([("a",), ("a", "b"), (), ("a", "b"), ("a",), ("a",)]):
        ensemble.broken = broken
        told.append(idle.look(_step(number, skipped=bool(broken), a=1.0, b=1.0, c=1.0), ensemble))
    assert [list(verdict.excluded) for verdict in told] == [[], [], [], [], [], ["a"]]
    assert told[5].warnings[0].split("\n  ") == [
        "a: its loss was not finite in 3 steps in a row, which were undone.",
        "It is left out after step 6, and its head counts for nothing at test time.",
    ]


def test_all_that_are_not_finite_leave_the_last_to_the_loop() -> None:
    idle, ensemble = IdleMembers(broken="exclude", patience_broken=1), _ensemble("a", "b")
    ensemble.broken = ("a", "b")
    assert list(idle.look(_step(0, skipped=True), ensemble).excluded) == ["a"]
    ensemble = _ensemble("a", "b")
    ensemble.broken = ("a", "b")
    assert not IdleMembers(patience_broken=1).look(_step(0, skipped=True), ensemble).excluded, "unless it is asked for"


def test_counts_go_on_where_they_were() -> None:
    one, ensemble = IdleMembers("exclude", patience=3), _ensemble("a", "b", "c")
    for number in range(2):
        one.look(_step(number, a=0.0, b=1.0, c=0.0 if number else 1.0), ensemble)
    two, other = IdleMembers("exclude", patience=3), _ensemble("a", "b", "c")
    two.restore(json.loads(json.dumps(one.state(ensemble))), other)
    assert list(two.look(_step(2, a=0.0, b=1.0, c=0.0), other).excluded) == ["a"]
    three, last = IdleMembers("exclude", patience=3), _ensemble("a", "b", "c")
    three.restore(json.loads(json.dumps(two.state(other))), last)
    assert last.excluded == ("a",)
    assert list(three.look(_step(3, b=1.0, c=0.0), last).excluded) == ["c"]
    three.restore({}, _ensemble("a", "b"))  # a state of an older accord
    assert three.zero == {}


def test_a_note_tells_of_a_model_from_before() -> None:
    log = [{"step": 1}, {"excluded": {"step": 4, "members": {"a": "its loss was exactly 0 in 3 steps in a row"}}}]
    note = "a was left out of the ensemble after step 4, as its loss was exactly 0 in 3 steps in a row"
    assert excluded_notes(log, {"a": 0.0, "b": 1.0}) == excluded_notes(log, {"student": 1.0}) == [f"{note}."]
    assert excluded_notes(log, {"a": 0.5, "b": 0.5}) == [f"{note}; the model is from before, so its head still counts."]


# --- options


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("triplet", ["ensemble.idle=exclude"], "ensemble.idle: without its single loss a run would learn nothing"),
        ("triplet", ["ensemble.broken=exclude"], "ensemble.broken: without its single loss a run would learn nothing"),
        ("five_losses", ["ensemble.idle=drop"], "ensemble.idle: "),
        ("five_losses", ["losses=[]"], "losses: "),
        (
            "five_losses",
            ["model.total_dim=512"],
            "512 numbers can't be divided equally among 5 heads; 510 are 102 each, 515",
        ),
        ("five_losses", ["model.total_dim=4"], "4 numbers can't be divided equally among 5 heads; 5 are 1 each."),
        (
            "five_losses",
            ["model.total_dim=320", "model.dim=64"],
            "model.dim=64 says how long each of 5 embeddings is, too",
        ),
    ],
)
def test_refuses_what_is_wrong_or_would_do_nothing(recipe: str, settings: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(recipe=recipe, settings=settings)
    assert message in str(refused.value)


def test_the_heads_divide_a_number_given_for_all() -> None:
    assert resolve(recipe="five_losses", settings=["model.total_dim=510"]).model.dim == 102
    assert resolve(recipe="triplet", settings=["model.total_dim=512"]).model.dim == 512
    shared = resolve(recipe="five_losses", settings=["model.total_dim=512", "model.heads=shared"]).model
    assert (shared.dim, shared.total_dim) == (512, None), "what is saved says how long a head is"
    raw = resolve(recipe="five_losses").model_dump(mode="json")
    raw["model"]["total_dim"] = 20
    assert divided(validate(raw)).model.dim == 4


def test_options_at_rest_are_not_written_and_older_files_still_read() -> None:
    usual, given = resolve(recipe="five_losses"), resolve(recipe="accord", settings=["ensemble.idle=exclude"])
    written = dump(usual)
    assert not any(word in written for word in ("idle", "broken", "total_dim"))
    assert "idle: exclude" in dump(given)
    assert filled(given.model_dump(mode="json"))["ensemble"]["idle"] == "exclude"
    assert usual.ensemble.idle == "warn"
    assert usual.ensemble.broken == "stop"


# --- whole runs


class _Listen(Silence):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class _Both(_Listen):
    """Hears for one and stops for another."""

    def __init__(self, hears: _Listen, stops: StopAt) -> None:
        self.warnings, self.progress = hears.warnings, stops.progress  # type: ignore[method-assign]


class _Odd(torch.nn.Module):
    """A loss that has its own way from the third batch on: 0, or not finite."""

    seen: Tensor

    def __init__(self, value: float, good: int = 2) -> None:
        super().__init__()
        self.value, self.good = value, good
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings: Tensor, labels: object) -> Tensor:
        self.seen += 1
        loss: Tensor = embeddings.square().mean() if self.seen <= self.good else self.value * embeddings.square().sum()
        return loss


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a configuration name a loss that is 0, or one that is not finite, and has patience of 3 steps with it."""
    import sys
    from types import ModuleType

    module = ModuleType("odd_losses")
    monkeypatch.setitem(sys.modules, "odd_losses", module)
    monkeypatch.setattr("accord.recipes.session.IdleMembers", partial(IdleMembers, patience=3))

    def use(value: float) -> None:
        module.odd = partial(_Odd, value)  # type: ignore[attr-defined]
        module.always = partial(_Odd, value, good=0)  # type: ignore[attr-defined]

    return use


def _run(folder: Path, *settings: str) -> RunConfig:
    return resolve(file={"data": {"source": str(folder)}}, settings=[*TINY, "model.trunk_share=0", MEMBERS, *settings])


def _log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _same(one: Path, other: Path) -> bool:
    first, second = (RunFolder.open(run).load_tensors("model.safetensors")[0] for run in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "option", "why"),
    [
        (0.0, "ensemble.idle=exclude", "its loss was exactly 0 in 3 steps in a row"),
        (float("nan"), "ensemble.broken=exclude", "its loss was not finite in 3 steps in a row"),
    ],
)
@pytest.mark.parametrize("more", ["ensemble.balance=pcgrad", "ensemble.diversity=cka"])
def test_a_run_leaves_it_out_and_goes_on_bit_equal(
    value: float, option: str, why: str, more: str, odd: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    odd(value)
    config, watch = _run(tiny_folder, option, more), _Listen()
    train_run(config, tmp_path / "whole", watch=watch)
    assert sum("It is left out after step 5" in warning for warning in watch.warnings) == 1
    log = _log(tmp_path / "whole")
    assert [row["excluded"] for row in log if "excluded" in row] == [{"step": 5, "members": {"odd": why}}]
    steps = [row for row in log if "terms" in row]
    assert ["odd" in row["terms"] for row in steps] == [True] * 5 + [False] * 4
    assert not any(row["skipped"] for row in steps[5:])
    weights = accord.load(tmp_path / "whole").weights
    assert (weights["odd"], sum(weights.values())) == (0.0, pytest.approx(1.0))
    for stop in (4, 7):  # within the count, and after it
        stopped = tmp_path / f"stopped at {stop}"
        with pytest.raises(StoppedError):
            train_run(config, stopped, watch=StopAt(stop))
        resume_run(stopped, allow_imports=True)
        assert _same(tmp_path / "whole", stopped)
        assert [row.get("excluded") for row in _log(stopped)] == [row.get("excluded") for row in log]


@pytest.mark.slow
def test_a_run_names_its_idle_member_once_however_often_it_goes_on(odd: Any, tiny_folder: Path, tmp_path: Path) -> None:
    odd(0.0)
    watch, after = _Listen(), _Listen()
    with pytest.raises(StoppedError):
        train_run(_run(tiny_folder), tmp_path / "run", watch=_Both(watch, StopAt(4)))
    resume_run(tmp_path / "run", allow_imports=True, watch=_Both(after, StopAt(100)))
    assert not watch.warnings
    (named,) = [warning for warning in after.warnings if "exactly 0 for 3 steps" in warning]
    assert named.startswith("odd has been")
    assert all("odd" in row["terms"] for row in _log(tmp_path / "run") if "terms" in row)


@pytest.mark.slow
def test_a_run_that_is_not_asked_to_leave_it_out_stops_and_names_it(
    odd: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    odd(float("nan"))
    config = _run(tiny_folder, "training.steps=14")
    with pytest.raises(NumericError, match=r"10 steps in a row(.|\n)*loss terms \(odd\)"):
        train_run(config, tmp_path / "run")
    odd(0.0)
    with pytest.raises(NumericError, match="odd has been exactly 0 for 3 steps"):
        train_run(_run(tiny_folder, "ensemble.idle=stop"), tmp_path / "idle")


@pytest.mark.slow
def test_a_run_of_which_every_step_was_undone_is_no_run_and_of_some_it_is_told(
    odd: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    odd(float("nan"))
    with pytest.raises(NumericError, match=r"All 9 steps were undone(.|\n)*lower the rates"):
        train_run(_run(tiny_folder, "losses=[{type: 'odd_losses:always'}, {type: n_pair}]"), tmp_path / "all")
    watch = _Listen()
    report = train_run(_run(tiny_folder, "training.steps=8", "evaluation.test=true"), tmp_path / "some", watch=watch)
    (told,) = [note for note in report["notes"] if "undone" in note]
    assert told in watch.warnings
    assert told.startswith("6 steps were undone, of 8, as the loss or its gradient was not finite")
    assert RunFolder.open(tmp_path / "some").load_tensors("evaluation.safetensors")[1]["skipped_steps"] == 6


@pytest.mark.slow
def test_such_a_run_is_reported_and_compressed(odd: Any, tiny_folder: Path, tmp_path: Path) -> None:
    odd(0.0)
    report = train_run(_run(tiny_folder, "ensemble.idle=exclude", "evaluation.test=true"), tmp_path / "run")
    note = "odd was left out of the ensemble after step 5, as its loss was exactly 0 in 3 steps in a row."
    assert note in report["notes"]
    assert note in (tmp_path / "run" / "report.html").read_text()
    for method, dim in (("fold", 8), ("pca", 8), ("wccn", None)):
        small = compress_run(tmp_path / "run", dim=dim, method=method, out=tmp_path / method, allow_imports=True)
        assert small["weights"]["odd"] == 0
        assert small["dim"] == small["after"]["numbers"] == accord.load(tmp_path / method).dim
    with pytest.raises(UsageError, match=r"have 16 numbers\. Give fewer"):
        compress_run(tmp_path / "run", dim=17, method="pca", out=tmp_path / "more", allow_imports=True)


@pytest.mark.slow
def test_another_set_of_members_does_not_go_on(odd: Any, tiny_folder: Path, tmp_path: Path) -> None:
    odd(0.0)
    config = _run(tiny_folder, "ensemble.idle=exclude")
    with pytest.raises(StoppedError):
        train_run(config, tmp_path / "run", watch=StopAt(6))
    saved = yaml.safe_load((tmp_path / "run" / CONFIG).read_text())
    assert saved["losses"][1]["type"] == "n_pair"
    saved["losses"][1]["type"] = "nca"
    (tmp_path / "run" / CONFIG).write_text(yaml.safe_dump(saved))
    with pytest.raises(ArtifactError, match=r"config.yaml: losses\.1\.type differ(.|\n)*start a new run"):
        resume_run(tmp_path / "run", allow_imports=True)

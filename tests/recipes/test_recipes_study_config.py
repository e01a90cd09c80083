"""The study file: its short forms, its refusals, its arms, and the settings a tuning draws."""

import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import AccordError, ResourceError, UnknownNameError, UsageError
from accord.recipes.comparable import MUST_AGREE, differences
from accord.recipes.study.config import RangeConfig, StudyConfig, TuneConfig, make_study, read_study, slug
from accord.recipes.study.plan import Plan, arms_of, check_plan
from accord.recipes.study.search import at, propose
from accord.types import Json

SEARCH: Json = {"training.rates.trunk": {"log_uniform": [1e-5, 1e-2]}}


def _raw(**more: object) -> Json:
    return {"name": "s", "data": "objects", "arms": ["triplet", "proxy_nca"], "epochs": 1, **more}


def _study(**more: object) -> StudyConfig:
    return make_study({key: value for key, value in _raw(**more).items() if value is not None})


def _plan(**more: object) -> Plan:
    plan = Plan(_study(**more))
    check_plan(plan)
    return plan


def test_short_forms_mean_what_they_say() -> None:
    study = _study(seeds=3, base="n_pair", data=["objects", {"source": "./my pets.zip", "test": 0.4}], arms={"a": None})
    assert study.seeds == (0, 1, 2)
    assert study.base == {"recipe": "n_pair"}
    assert [entry.name for entry in study.data] == ["objects", "my_pets"]
    assert study.arms == {"a": {}}
    assert _study().arms == {"triplet": {"recipe": "triplet"}, "proxy_nca": {"recipe": "proxy_nca"}}


def test_a_study_reads_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(json.dumps(_raw()))
    assert read_study(tmp_path / "s.yaml") == _study()
    with pytest.raises(UsageError, match=r"none\.yaml can't be read"):
        read_study(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"sedes": 3}, "sedes: There is no option called 'sedes'. Did you mean 'seeds'?"),
        ({"tune": {"trails": 3}}, "tune.trails: There is no option called 'trails'. Did you mean 'trials'?"),
        ({"tune": {"trials": 3, "search": {"a.b": {"unifrom": [0, 1]}}}}, "Did you mean 'uniform'?"),
        ({"data": [{"source": "x", "tset": 0.5}]}, "Did you mean 'test'?"),
        ({"name": None}, "name: This must be given"),
        ({"name": "../up"}, "name: '../up' can't name a folder"),
        ({"arms": {"a/b": {}}}, "arms: 'a/b' can't name a folder"),
        ({"arms": None}, "a study without `arms` or `grid` has nothing to run"),
        ({"arms": 3}, "arms: This must be a mapping of options"),
        ({"data": ["objects", "objects"]}, "two data sets go by one name"),
        ({"data": []}, "data: At least one must be given"),
        ({"data": {"source": "x", "fold": 0}}, "the folds of 'x' are the study's"),
        ({"seeds": [1, 1]}, "a seed is there twice"),
        ({"seeds": 0}, "seeds: At least one must be given"),
        ({"seeds": "three"}, "seeds: This must be a list"),
        ({"steps": 5}, "steps: `epochs` says how long, too"),
        ({"every_fold": True}, "say how many `folds` there are"),
        ({"base": {"training": {"seed": 1}}}, "base: training.seed is what `seeds` says"),
        ({"base": {"training": {"epochs": 1}}}, "base: training.epochs is what `epochs` says"),
        ({"base": {"data": {"source": "x"}}}, "base: data.source is what `data` says"),
        ({"tune": {"trials": 3, "search": {"a": {}}}}, "give one of uniform, log_uniform, integer and choice"),
        ({"tune": {"trials": 3, "search": {"a": {"uniform": [1, 0]}}}}, "must go from a smaller to a larger"),
        ({"tune": {"trials": 3, "search": {"a": {"uniform": [0, math.inf]}}}}, "larger finite number"),
        ({"tune": {"trials": 3, "search": {"a": {"uniform": [0, 1], "choice": [1, 2]}}}}, "give one of"),
        ({"tune": {"trials": 3, "per_arm": {"b": {"a": {"integer": [2, 2]}}}}}, "tune: b: a: integer must go from"),
    ],
)
def test_a_file_that_does_not_fit_is_told_why(more: Json, told: str) -> None:
    with pytest.raises(UsageError) as error:
        _study(**more)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"arms": {"a": {"losses.0.type": "triplet_margn"}}}, "Did you mean 'triplet_margin'?"),
        ({"arms": {"a": {"training.rates.trnk": 1}}}, "The arm 'a' does not fit"),
        ({"arms": {"a": {"losses.0.options.margim": 1.0}}}, "The arm 'a' does not fit"),
        ({"arms": {"a": {"recipe": "tripelt"}}}, "The arm 'a' does not fit"),
        ({"arms": {"a": {"training.seed": 1}}}, "training.seed is the same for all arms"),
        ({"arms": {"a": {"data": {"test": 0.3}}}}, "data.test is the same for all arms"),
        ({"arms": {"a": {"training.epochs": 3}}}, "training.epochs is the same for all arms"),
        ({"arms": {"a": {"evaluation.knn": 3}}}, "evaluation.knn is the same"),
        ({"epochs": None}, "has no fixed length"),
        ({"arms": {"a": {}, "b": {"training.per_class": 3}}}, "batch (the classes and images of a batch) differs"),
        ({"arms": {"a": {"model.size": 64}, "b": {"model.size": 96}}}, "a: model.size 64"),
        ({"arms": ["triplet", "accord"]}, "embedding_size"),
        ({"epochs": None, "arms": {"a": {"training.epochs": 1}, "b": {"training.epochs": 2}}}, "epochs (the passes"),
        ({"allow": ["bacth"]}, "Did you mean 'batch'?"),
        ({"arms": {"a": {"model.dim": {1: 2}}}}, "a"),
        ({"base": {"model": {"backbone": "resnet11"}}}, "The arm 'triplet' does not fit"),
        ({"tune": {"trials": 2, "search": SEARCH, "per_arm": {"tripelt": SEARCH}}}, "Did you mean 'triplet'?"),
        ({"tune": {"trials": 2}}, "there is nothing to tune in the arm 'triplet'"),
        ({"tune": {"trials": 2, "search": {"data.test": {"uniform": [0, 1]}}}}, "data.test is the same for all arms"),
        ({"tune": {"trials": 2, "search": {"training.per_class": {"integer": [2, 4]}}}}, "allow: [batch]"),
        ({"tune": {"trials": 2, "search": {"training.warmup": {"uniform": [0.5, 1.5]}}}}, "training.warmup"),
        ({"tune": {"trials": 2, "search": {"losses.1.weight": {"uniform": [0.5, 1.5]}}}}, "number from 0 to 0"),
    ],
)
def test_arms_that_can_not_be_run_or_compared_are_refused_before_any_image_is_read(more: Json, told: str) -> None:
    with pytest.raises(AccordError) as error:
        _plan(**more)
    assert told in str(error.value)


def test_a_date_is_no_value_of_a_configuration() -> None:
    import datetime

    with pytest.raises(UsageError, match=r"model\.dim: .* is no number, text, list or mapping"):
        _plan(arms={"a": {"model.dim": datetime.date(2026, 1, 1)}})


def test_a_device_that_is_not_here_is_told_as_it_is() -> None:
    with pytest.raises(ResourceError, match="no cuda:7 here"):
        _plan(base={"training": {"device": "cuda:7"}})


def test_differences_that_are_wanted_are_let_through() -> None:
    plan = _plan(arms={"a": {}, "b": {"training.per_class": 3}}, allow=["batch"])
    assert plan.final("objects", "b", 0, None, {}).training.per_class == 3


def test_a_grid_makes_an_arm_of_every_combination() -> None:
    study = _study(arms=None, grid={"recipe": ["triplet", "contrastive"], "losses.0.options.margin": [0.1, 0.2]})
    arms = arms_of(study)
    assert list(arms) == [f"recipe={r}-margin={m}" for r in ("triplet", "contrastive") for m in (0.1, 0.2)]
    assert arms["recipe=triplet-margin=0.2"] == {"recipe": "triplet", "losses.0.options.margin": 0.2}
    losses = [[{"type": "contrastive"}], [{"type": "n_pair"}]]
    both = arms_of(_study(arms={"a": {"model": {"pool": "gem"}}}, grid={"losses": losses}))
    assert both["a-losses=2"] == {"model.pool": "gem", "losses": losses[1]}


def test_arms_of_a_grid_with_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="can't name an arm"):
        arms_of(_study(arms=None, grid={"losses.0.type": ["a b", "a_b"]}))


def test_settings_lie_over_base_and_data_and_a_list_replaces() -> None:
    plan = _plan(
        base={"recipe": "accord", "model": {"trunk_share": 0.0}},
        arms={"one": {"losses": [{"type": "contrastive", "options": {"margin": 0.3}}], "training": {"warmup": 0.1}}},
        data={"source": "objects", "name": "o", "test": 0.4},
        epochs=None,
        steps=7,
    )
    config = plan.final("o", "one", 5, None, {"losses.0.options.margin": 0.4})
    assert config.losses[0].options == {"margin": 0.4}
    assert (config.training.warmup, config.training.steps, config.training.seed) == (0.1, 7, 5)
    assert (config.data.test, config.data.source, config.recipe) == (0.4, "objects", "accord")
    assert plan.final("o", "one", 5, None, {"losses.0.options.margin": 0.4}) is config


def test_a_trial_may_be_shorter_than_a_run() -> None:
    plan = _plan(tune={"trials": 2, "search": SEARCH, "epochs": 0.5}, epochs=None, steps=9)
    trial = plan.trial("objects", "triplet", 1, 4, {"training.rates.trunk": 1e-3})
    assert (trial.training.epochs, trial.training.steps) == (0.5, None)
    assert (trial.data.fold, trial.data.folds, trial.evaluation.test) == (1, 4, False)


@given(st.floats(0, 1), st.integers(-5, 5), st.integers(1, 9))
def test_every_value_lies_in_its_range(share: float, low: int, more: int) -> None:
    whole = at(RangeConfig(integer=(low, low + more)), share)
    assert isinstance(whole, int)
    assert low <= whole <= low + more
    assert low <= at(RangeConfig(uniform=(low, low + more / 3)), share) <= low + more / 3
    assert 1e-7 <= at(RangeConfig(log_uniform=(1e-7, 3.3e-5)), share) <= 3.3e-5
    assert at(RangeConfig(choice=("a", [1], None)), share) in ("a", [1], None)


def test_shares_are_values_by_hand() -> None:
    assert at(RangeConfig(uniform=(2.0, 4.0)), 0.5) == 3.0
    assert at(RangeConfig(log_uniform=(1e-4, 1e-2)), 0.5) == 1e-3
    assert [at(RangeConfig(integer=(1, 4)), share) for share in (0.0, 0.24, 0.26, 1.0)] == [1, 1, 2, 4]
    assert [at(RangeConfig(choice=("a", "b")), share) for share in (0.49, 0.5)] == ["a", "b"]


def _tune(**more: object) -> TuneConfig:
    study = _study(tune={"trials": 16, "search": {**SEARCH, "model.pool": {"choice": ["average", "gem"]}}, **more})
    assert study.tune is not None
    return study.tune


def test_the_points_tried_are_the_seed_s_and_spread_evenly() -> None:
    tried = [propose(_tune(), "triplet", number, []) for number in range(16)]
    assert tried == [propose(_tune(), "triplet", number, []) for number in range(16)]
    assert tried != [propose(_tune(seed=1), "triplet", number, []) for number in range(16)]
    places = sorted(math.log10(settings["training.rates.trunk"]) for settings in tried)
    assert all(-5 + 3 * (n - 1) / 16 <= place <= -5 + 3 * (n + 2) / 16 for n, place in enumerate(places))
    assert sum(settings["model.pool"] == "gem" for settings in tried) == 8


def test_an_arm_may_have_ranges_of_its_own() -> None:
    tune = _tune(per_arm={"triplet": {"losses.0.options.margin": {"uniform": [0.1, 0.2]}}})
    assert "losses.0.options.margin" in propose(tune, "triplet", 0, [])
    assert "losses.0.options.margin" not in propose(tune, "other", 0, [])


def test_the_parzen_estimator_learns_from_what_was_tried() -> None:
    pytest.importorskip("optuna")
    space = {
        "a": {"uniform": [0.0, 1.0]},
        "b": {"log_uniform": [1e-4, 1.0]},
        "c": {"integer": [0, 9]},
        "d": {"choice": [[1], "x", None]},
    }
    tune = _tune(sampler="tpe", search=space)
    tried: list[tuple[Json, float | None]] = []
    for number in range(24):
        settings = propose(tune, "a", number, tried)
        assert settings == propose(tune, "a", number, tried), "whoever goes on with the study proposes the same"
        score = -abs(settings["a"] - 0.3) - (settings["d"] != "x")
        tried.append((settings, None if number == 3 else score))
    scores = [score for _, score in tried if score is not None]
    assert sum(scores[12:]) / len(scores[12:]) > sum(scores[:9]) / 9
    assert all(isinstance(settings["c"], int) and 1e-4 <= settings["b"] <= 1 for settings, _ in tried)


def test_without_optuna_its_sampler_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ResourceError, match=r"pip install 'accord\[study\]'"):
        _plan(tune={"trials": 2, "search": SEARCH, "sampler": "tpe"})
    assert _plan(tune={"trials": 2, "search": SEARCH}).study.tune is not None


def test_any_text_becomes_a_name() -> None:
    assert slug("a b/ü") == "a_b"
    assert slug("..") == "unnamed"


def test_a_wrong_arm_to_tune_is_a_wrong_name() -> None:
    with pytest.raises(UnknownNameError):
        _plan(tune={"trials": 2, "search": SEARCH, "per_arm": {"tripelt": SEARCH}})


@pytest.mark.parametrize(("other", "found"), [([10, 11], []), ([10, 10], ["steps"]), ([11, 10], ["steps"])])
def test_lengths_may_change_with_the_fold_of_a_seed_if_they_do_so_in_every_arm(
    other: list[int], found: list[str]
) -> None:
    facts = dict.fromkeys(MUST_AGREE, 1) | {"metrics_version": 1, "protocol": {}, "gallery": {"name": "g"}}
    runs = [
        {"method": method, "seed": seed, "gallery": "f", "facts": {**facts, "steps": steps[seed]}}
        for method, steps in (("a", [10, 11]), ("b", other))
        for seed in (0, 1)
    ]
    assert [row["name"] for row in differences(runs, "map@r")] == found


def test_arms_with_losses_of_their_own_have_the_model_of_those_without() -> None:
    arms = {"usual": {}, "own": {"losses": [{"type": "contrastive"}]}}
    plan = Plan(make_study({"name": "s", "data": "objects", "arms": arms, "epochs": 1, "seeds": 1}))
    assert {plan.final("objects", arm, 0, None, {}).model.metric for arm in arms} == {"wccn"}
    base = {"losses": [{"type": "n_pair"}]}
    plan = Plan(make_study({"name": "s", "data": "objects", "base": base, "arms": arms, "epochs": 1, "seeds": 1}))
    assert {plan.final("objects", arm, 0, None, {}).model.metric for arm in arms} == {"none"}

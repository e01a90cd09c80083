"""Comparing methods by their runs: what is computed, refused, labelled, counted and computed again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.errors import ArtifactError, UnknownNameError, UsageError
from accord.evaluation import paired_bootstrap, sign_flip, two_level_bootstrap
from accord.recipes import compare_runs, group_runs, verify_comparison
from accord.recipes.contest import pack, unpack
from accord.runs import RunFolder
from made_runs import gallery, make_methods, make_run, scores

MEANS = {"triplet": 0.5, "proxy_nca": 0.56}


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return make_methods(tmp_path_factory.mktemp("methods"), MEANS)


@pytest.fixture(scope="module")
def document(methods: dict[str, list[Path]]) -> Any:
    return compare_runs(methods, draws=500)


def test_every_figure_is_that_of_the_quiet_room(methods: dict[str, list[Path]], document: Any) -> None:
    first, second = (torch.stack([scores(10 * m + s, mean) for s in range(5)]) for m, mean in enumerate(MEANS.values()))
    labels = torch.arange(240) // 8
    (found,) = document["results"]["galleries"]
    assert (found["queries"], found["classes"], found["baseline"]) == (240, 30, 0.25)
    rows = {row["method"]: row for row in found["methods"]}
    assert rows["triplet"]["mean"] == pytest.approx(float(first.mean()), abs=1e-12)
    assert [entry["score"] for entry in rows["proxy_nca"]["seeds"]] == pytest.approx(second.mean(dim=1).tolist())
    assert rows["triplet"]["deviation"] == pytest.approx(float(first.mean(dim=1).std()))
    own = two_level_bootstrap(first, labels, draws=500, generator=torch.Generator().manual_seed(0))
    assert rows["triplet"]["interval"] == list(own)
    (pair,) = found["differences"]
    assert pair["difference"] == pytest.approx(float(first.mean() - second.mean()), abs=1e-12)
    between = paired_bootstrap(
        first, second, labels, paired=True, draws=500, generator=torch.Generator().manual_seed(0)
    )
    assert pair["interval"] == list(between)
    p = sign_flip(first, second, labels, draws=500, generator=torch.Generator().manual_seed(0))
    assert pair["p"] == pair["p_holm"] == p
    assert pair["paired"]
    assert (pair["word"], pair["verdict"]) == ("worse", "worse")
    assert document["notes"] == []
    assert document["results"]["ranks"] is None


def test_comes_out_again_to_the_last_digit_through_its_file(document: Any) -> None:
    assert verify_comparison(json.loads(json.dumps(document))) == []


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (("results", "galleries", 0, "methods", 0, "mean"), 0.9, "results.galleries.0.methods.0.mean"),
        (("results", "galleries", 0, "differences", 0, "verdict"), "better", "differences.0.verdict"),
        (("results", "galleries", 0, "differences"), [], "results.galleries.0.differences"),
        (("settings", "seed"), 1, "interval"),
        (("settings", "bar_points"), 50.0, "verdict"),
        (("notes",), ["all is well"], "notes"),
        (("settings", "metric"), "recall@1", "input_sha256"),
        (("raw", "runs", 0, "seed"), 7, "input_sha256"),
        (("raw", "runs", 0, "facts", "accord_version"), "9", "input_sha256"),
    ],
)
def test_says_which_figure_was_changed(document: Any, path: tuple[Any, ...], value: Any, place: str) -> None:
    changed = json.loads(json.dumps(document))
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert any(place in told for told in verify_comparison(changed))


def test_a_single_changed_score_is_noticed(document: Any) -> None:
    changed = json.loads(json.dumps(document))
    run = changed["raw"]["runs"][3]
    values = unpack(run["scores"], torch.float64).clone()
    values[17] += 1e-9
    run["scores"] = pack(values)
    assert verify_comparison(changed)


@pytest.mark.parametrize("broken", [{}, {"schema_version": 2}, {"schema_version": 1}, {"schema_version": 1, "raw": 3}])
def test_refuses_to_verify_what_is_no_comparison(broken: Any) -> None:
    with pytest.raises(ArtifactError, match="compare: "):
        verify_comparison(broken)


def test_scores_that_are_no_numbers_are_refused(document: Any) -> None:
    changed = json.loads(json.dumps(document))
    changed["raw"]["runs"][0]["scores"] = "§§§"
    with pytest.raises(ArtifactError, match="can't be read"):
        verify_comparison(changed)
    assert len(unpack("", torch.float64)) == 0


def test_runs_that_differ_only_in_seeds_are_one_method(methods: dict[str, list[Path]]) -> None:
    paths = [path for runs in methods.values() for path in runs]
    assert group_runs(paths) == {"triplet_margin": methods["triplet"], "proxy_nca": methods["proxy_nca"]}


def test_methods_of_one_loss_are_named_by_what_sets_them_apart(tmp_path: Path) -> None:
    for name, settings in (("a", ()), ("b", ("training.rates.trunk=0.001",)), ("c", ("training.weight_decay=0.1",))):
        make_run(tmp_path / name, scores(0, 0.5), settings=settings)
    names = list(group_runs([tmp_path / "a", tmp_path / "b", tmp_path / "c"]))
    assert names[0] == "1: triplet (trunk=0.0003, weight_decay=0.0001)"
    assert names[1] == "2: triplet (trunk=0.001, weight_decay=0.0001)"


def test_methods_may_be_named_by_their_recipes(tmp_path: Path) -> None:
    loss = "losses.0.type=triplet_margin"
    make_run(tmp_path / "a", scores(0, 0.5))
    make_run(tmp_path / "b", scores(0, 0.5), recipe="proxy_nca", settings=(loss, "training.per_class=2"))
    assert list(group_runs([tmp_path / "a", tmp_path / "b"])) == ["triplet", "proxy_nca"]


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"backbone": "resnet50"}, "backbone"),
        ({"weights": "none"}, "weights"),
        ({"augmentation": {"flip": False}}, "augmentation"),
        ({"input_size": "128 px, crop"}, "input_size"),
        ({"embedding_size": 512}, "embedding_size"),
        ({"batch": "4 classes × 4"}, "batch"),
        ({"epochs": 8.0}, "epochs"),
        ({"steps": 200}, "steps"),
        ({"tuning": 50}, "tuning"),
        ({"metrics_version": 2}, "metrics"),
        ({"training_data": "b" * 64}, "training_data"),
        ({"protocol": {"queries": "query and gallery"}}, "protocol"),
    ],
)
def test_refuses_runs_that_were_not_made_alike_unless_allowed(tmp_path: Path, facts: dict[str, Any], name: str) -> None:
    given = {
        "a": [make_run(tmp_path / "a", scores(0, 0.5))],
        "b": [make_run(tmp_path / "b", scores(0, 0.6), recipe="proxy_nca", **facts)],
    }
    with pytest.raises(UsageError, match=f"--allow {name} ") as refused:
        compare_runs(given, draws=100)
    assert "option losses.0.type: a: triplet_margin; b: proxy_nca" in str(refused.value)
    for more in ({"allow": [name]}, {"anyway": True}):
        document = compare_runs(given, draws=100, **more)
        assert document["notes"][0] == f"not comparable: {name}."
        assert document["results"]["galleries"][0]["differences"][0]["verdict"].startswith(f"not comparable: {name}; ")
        assert verify_comparison(document) == []


def test_a_difference_of_two_methods_is_none_of_a_third(tmp_path: Path) -> None:
    given = {
        name: [make_run(tmp_path / name, scores(place, 0.5), recipe=name, **({"steps": 9} if place == 2 else {}))]
        for place, name in enumerate(("triplet", "contrastive", "proxy_nca"))
    }
    pairs = compare_runs(given, draws=100, allow=["steps"])["results"]["galleries"][0]["differences"]
    assert [pair["not_comparable"] for pair in pairs] == [[], ["steps"], ["steps"]]


def test_tuning_may_be_told(methods: dict[str, list[Path]]) -> None:
    with pytest.raises(UsageError, match="tuning"):
        compare_runs(methods, draws=100, tuning={"triplet": 20})
    assert not compare_runs(methods, draws=100, tuning=dict.fromkeys(methods, 20))["not_comparable"]


def test_knn_counts_only_for_its_own_metric(tmp_path: Path) -> None:
    protocol = {"queries": "leave-one-out", "score": "cosine", "exclude": "self", "re_ranking": "none"}
    for metric in ("map@r", "knn_accuracy"):
        for name, knn in (("a", 3), ("b", 5)):
            facts = {"metric": metric, "protocol": {**protocol, "knn": knn}}
            make_run(tmp_path / metric / name, scores(0, 0.5), **facts)
        given = {name: [tmp_path / metric / name] for name in ("a", "b")}
        if metric == "map@r":
            compare_runs(given, draws=100)
        else:
            with pytest.raises(UsageError, match="protocol"):
                compare_runs(given, metric=metric, draws=100)


def test_one_seed_is_compared_over_classes_alone_and_says_so(tmp_path: Path) -> None:
    given = make_methods(tmp_path, MEANS, seeds=1)
    document = compare_runs(given, draws=200)
    assert "other seeds are not covered" in document["notes"][0]
    (pair,) = document["results"]["galleries"][0]["differences"]
    assert not pair["covers_seeds"]
    assert pair["verdict"].endswith("(preliminary: other seeds are not covered)")
    assert document["results"]["galleries"][0]["methods"][0]["deviation"] is None


def test_three_seeds_are_preliminary(tmp_path: Path) -> None:
    document = compare_runs(make_methods(tmp_path, MEANS, seeds=3), draws=200)
    assert "preliminary: a method has fewer than 5 seeds." in document["notes"]
    assert "(preliminary: fewer than five seeds)" in document["results"]["galleries"][0]["differences"][0]["verdict"]


def test_failed_runs_are_counted_and_not_dropped(methods: dict[str, list[Path]], tmp_path: Path) -> None:
    failed = make_run(tmp_path / "died", scores(0, 0.5), seed=7, finished=False)
    document = compare_runs({**methods, "triplet": [*methods["triplet"], failed]}, draws=100)
    assert document["results"]["galleries"][0]["methods"][0]["failed"] == ["died"]
    assert document["notes"][0].startswith("1 of 11 runs failed")
    assert document["raw"]["failed"][0]["gallery"] == document["raw"]["runs"][0]["gallery"]
    (tmp_path / "died" / "data.json").write_text("{}")
    assert compare_runs({**methods, "lost": [failed]}, draws=100)["raw"]["failed"][0]["gallery"] is None


def test_a_method_of_which_nothing_ended_has_a_row_and_no_figure(
    methods: dict[str, list[Path]], tmp_path: Path
) -> None:
    failed = make_run(tmp_path / "died", scores(0, 0.5), recipe="contrastive", finished=False)
    document = compare_runs({**methods, "contrastive": [failed]}, draws=100)
    row = document["results"]["galleries"][0]["methods"][2]
    assert (row["method"], row["mean"], row["interval"], row["failed"]) == ("contrastive", None, None, ["died"])
    assert len(document["results"]["galleries"][0]["differences"]) == 1
    other = make_run(tmp_path / "too", scores(0, 0.5), finished=False)
    with pytest.raises(UsageError, match="none of these runs has ended"):
        compare_runs({"a": [failed], "b": [other]})


def test_other_seeds_are_drawn_independently(methods: dict[str, list[Path]]) -> None:
    document = compare_runs({"a": methods["triplet"], "b": methods["proxy_nca"][:4]}, draws=100)
    (pair,) = document["results"]["galleries"][0]["differences"]
    assert not pair["paired"]
    assert any("drawn independently" in note for note in document["notes"])


def test_few_classes_get_a_t_interval_beside(tmp_path: Path) -> None:
    few = gallery(classes=6)
    given = {
        name: [make_run(tmp_path / f"{name}{s}", scores(s, m, classes=6), seed=s, data=few) for s in range(5)]
        for name, m in (("a", 0.5), ("b", 0.7))
    }
    document = compare_runs(given, draws=100)
    (found,) = document["results"]["galleries"]
    assert found["few_classes"]
    assert found["methods"][0]["t_interval"][0] < found["methods"][0]["mean"] < found["methods"][0]["t_interval"][1]
    assert found["differences"][0]["t_interval"]
    assert any("fewer than 20" in note for note in document["notes"])


def test_one_class_tells_nothing(tmp_path: Path) -> None:
    one = gallery(classes=1, images=4)
    given = {
        name: [make_run(tmp_path / name, torch.full((4,), value), data=one)] for name, value in (("a", 0.2), ("b", 0.9))
    }
    (pair,) = compare_runs(given, draws=100)["results"]["galleries"][0]["differences"]
    assert (pair["interval"], pair["word"]) == (None, "no difference shown")


def test_several_galleries_have_a_table_each_and_average_ranks(tmp_path: Path) -> None:
    given: dict[str, list[Path]] = {"triplet": [], "proxy_nca": []}
    for name, means in (("birds", (0.5, 0.6)), ("cars", (0.6, 0.5)), ("fish", (0.4, 0.5))):
        for recipe, mean in zip(given, means, strict=True):
            run = tmp_path / f"{name}-{recipe}"
            given[recipe].append(make_run(run, scores(3, mean), recipe=recipe, data=gallery(name)))
    document = compare_runs(given, draws=200)
    assert [found["name"] for found in document["results"]["galleries"]] == ["birds", "cars", "fish"]
    assert document["results"]["ranks"] == {"galleries": 3, "methods": {"triplet": 5 / 3, "proxy_nca": 4 / 3}}
    pairs = [found["differences"][0] for found in document["results"]["galleries"]]
    assert (
        max(pair["p_holm"] for pair in pairs) > max(pair["p"] for pair in pairs)
        or pairs[0]["p_holm"] == 3 * pairs[0]["p"]
    )
    assert verify_comparison(json.loads(json.dumps(document))) == []


def test_other_galleries_can_not_be_compared(tmp_path: Path) -> None:
    given = {
        "a": [make_run(tmp_path / "a", scores(0, 0.5))],
        "b": [make_run(tmp_path / "b", scores(0, 0.5), recipe="proxy_nca", data=gallery("cars"))],
    }
    with pytest.raises(UsageError, match=r"gallery .*a: birds .*; b: cars "):
        compare_runs(given)
    document = compare_runs(given, draws=100, allow=["gallery"])
    assert [found["differences"] for found in document["results"]["galleries"]] == [[], []]
    assert document["results"]["ranks"] is None


def test_many_looks_at_the_test_set_are_told(tmp_path: Path) -> None:
    given = make_methods(tmp_path, MEANS, seeds=1, test_set={"opened": 50, "models": 40})
    assert any("judged 40 different models" in note for note in compare_runs(given, draws=100)["notes"])


def test_refuses_what_makes_no_comparison(methods: dict[str, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two methods or more"):
        compare_runs({"triplet": methods["triplet"]})
    with pytest.raises(UnknownNameError, match="Did you mean 'map@r'"):
        compare_runs(methods, metric="map@rr")
    with pytest.raises(UnknownNameError, match="Did you mean 'backbone'"):
        compare_runs(methods, allow=["backbones"])
    with pytest.raises(UsageError, match="is given 2 times"):
        compare_runs({"a": [methods["triplet"][0]] * 2, "b": methods["proxy_nca"]})
    with pytest.raises(UsageError, match="is given 2 times"):
        compare_runs({"a": methods["triplet"], "b": methods["triplet"][:1]})
    with pytest.raises(UsageError, match="have seed 0"):
        compare_runs({"a": [methods["triplet"][0], methods["proxy_nca"][0]], "b": methods["proxy_nca"][1:]})
    with pytest.raises(UsageError, match="draws"):
        compare_runs(methods, draws=1)
    with pytest.raises(ArtifactError, match="no run folder"):
        compare_runs({"a": [tmp_path], "b": methods["proxy_nca"]})


def test_a_finished_run_without_scores_is_the_users_to_mend(methods: dict[str, list[Path]], tmp_path: Path) -> None:
    old = make_run(tmp_path / "old", scores(0, 0.5), finished=False)
    with RunFolder.open(old) as run:
        run.seal()
    with pytest.raises(ArtifactError, match="accord evaluate"):
        compare_runs({"a": [old], "b": methods["proxy_nca"]})


def test_other_queries_of_the_same_gallery_are_refused(methods: dict[str, list[Path]], tmp_path: Path) -> None:
    odd = make_run(tmp_path / "odd", scores(0, 0.5))
    with RunFolder.open(odd) as run:
        tensors, facts = run.load_tensors("evaluation.safetensors")
        run.save_tensors("evaluation.safetensors", {name: values[:-1] for name, values in tensors.items()}, facts)
    with pytest.raises(ArtifactError, match="asks other queries"):
        compare_runs({"a": methods["triplet"], "b": [odd]})


def test_a_run_without_queries_is_refused(methods: dict[str, list[Path]], tmp_path: Path) -> None:
    empty = make_run(tmp_path / "empty", scores(0, 0.5))
    with RunFolder.open(empty) as run:
        tensors, facts = run.load_tensors("evaluation.safetensors")
        run.save_tensors("evaluation.safetensors", {name: values[:0] for name, values in tensors.items()}, facts)
    with pytest.raises(ArtifactError, match="no queries"):
        compare_runs({"a": [empty], "b": methods["proxy_nca"]})


def test_a_group_of_several_methods_is_told(methods: dict[str, list[Path]]) -> None:
    given = {"a": [methods["triplet"][0], methods["proxy_nca"][1]], "b": [methods["triplet"][2]]}
    notes = compare_runs(given, draws=100)["notes"]
    assert [note for note in notes if "not of one method" in note] == [
        "The runs of a are not of one method: they differ in losses.0.type."
    ]


def test_an_option_that_a_run_is_too_old_to_know_is_no_difference(tmp_path: Path) -> None:
    old, new = (make_run(tmp_path / name, scores(seed, 0.5)) for seed, name in enumerate("ab"))
    with RunFolder.open(old) as run:
        tensors, facts = run.load_tensors("evaluation.safetensors")
        del facts["config"]["training"]["clip_norm"]
        run.save_tensors("evaluation.safetensors", tensors, facts)
    assert compare_runs({"a": [old], "b": [new]}, draws=100)["configurations"] == {}

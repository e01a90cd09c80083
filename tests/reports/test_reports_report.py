"""The report's JSON holds what was measured, and refuses what does not fit together."""

import json
from dataclasses import replace

import pytest
import torch

from accord.errors import DataError
from accord.reports import _report, _tables, make_report
from accord.reports._history import MOST_POINTS, history
from accord.types import Labelled, Neighbours

KEYS = {
    "schema_version", "accord_version", "created", "run", "title", "notes", "metrics", "baseline", "intervals",
    "gain_intervals", "counts", "chance", "recall_curve", "history", "map", "items", "queries", "confused", "classes",
    "configuration", "data", "environment", "seconds", "peak_memory_bytes",
    "raw_pixels", "optimistic", "per_class", "protocol", "heads",
}  # fmt: skip
METRICS = {"recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi", "knn_accuracy"}


@pytest.fixture(scope="module")
def report(make_inputs):
    return make_report(make_inputs())


def test_has_the_keys_that_other_tools_read(report):
    assert set(report) == KEYS
    assert set(report["metrics"]) == set(report["baseline"]) == METRICS
    assert all(0 <= value <= 1 for value in report["metrics"].values())


def test_is_strict_json_that_survives_a_round_trip(report):
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_lists_queries_worst_first_with_their_own_neighbours(report, make_inputs):
    inputs = make_inputs()
    precisions = [query["average_precision"] for query in report["queries"]]
    assert precisions == sorted(precisions)
    assert len(precisions) == 48
    for query in report["queries"]:
        row = inputs.test.ids.tolist().index(query["id"])
        assert [n["id"] for n in query["neighbours"]] == inputs.neighbours.ids[row, :8].tolist()
        own = report["items"][str(query["id"])]["label"]
        assert all(n["right"] == (report["items"][str(n["id"])]["label"] == own) for n in query["neighbours"])


def test_puts_the_more_confident_mistake_first(report):
    failed = [query for query in report["queries"] if query["average_precision"] == 0]
    scores = [query["neighbours"][0]["score"] for query in failed]
    assert len(scores) > 1
    assert scores == sorted(scores, reverse=True)


def test_counts_confused_classes_as_a_loop_does(report, make_inputs):
    inputs = make_inputs()
    names, labels = inputs.class_names, inputs.test.labels.tolist()
    row_of = {item: row for row, item in enumerate(inputs.test.ids.tolist())}
    for pair in report["confused"]:
        found = 0
        for row, label in enumerate(labels):
            other = labels[row_of[int(inputs.neighbours.ids[row, 0])]]
            found += names[label] == pair["class"] and names[other] == pair["other"]
        assert (pair["count"], pair["share"]) == (found, pytest.approx(found / 6, abs=1e-4))
        assert len(pair["examples"]) == min(3, found)
    assert [pair["count"] for pair in report["confused"]] == sorted(
        (p["count"] for p in report["confused"]), reverse=True
    )


def test_class_means_add_up_to_the_overall_figure(report):
    total = sum(row["queries"] * row["recall@1"] for row in report["classes"]) / 48
    assert total == pytest.approx(report["metrics"]["recall@1"], abs=1e-3)
    assert all("baseline_recall@1" in row for row in report["classes"])


def test_chance_is_what_a_random_order_gives(report):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(8).repeat_interleave(6)
    hits = torch.zeros(4)
    for _ in range(4000):
        query = int(torch.randint(48, (), generator=generator))
        order = torch.randperm(48, generator=generator)
        found = (labels[order[order != query]] == labels[query]).int()
        hits += torch.stack([found[:k].amax() for k in (1, 2, 4, 8)])
    assert report["recall_curve"]["k"] == [1, 2, 4, 8]
    assert report["recall_curve"]["chance"] == pytest.approx((hits / 4000).tolist(), abs=0.03)


def test_draws_the_curve_it_is_given_where_both_are_known(make_inputs):
    curve = {"trained": {1: 0.5, 3: 0.75, 9: 1.0}, "baseline": {1: 0.25, 3: 0.5}}
    found = make_report(make_inputs(recall=curve))["recall_curve"]
    assert (found["k"], found["trained"], found["baseline"]) == ([1, 3], [0.5, 0.75], [0.25, 0.5])


def test_does_without_everything_optional(make_inputs):
    full = make_inputs()
    bare = make_report(type(full)(full.trained, full.test, full.neighbours, full.class_names))
    assert (bare["baseline"], bare["recall_curve"]["baseline"], bare["history"]["step"]) == ({}, [], [])
    assert bare["title"] == bare["run"] == "run"
    assert bare["created"].endswith("+00:00")
    assert "baseline_recall@1" not in bare["classes"][0]


def test_leaves_out_absent_neighbours_and_lone_items(make_inputs):
    inputs = make_inputs()
    labels = inputs.test.labels.clone()
    labels[0], names = 8, [*inputs.class_names, "alone"]
    keep = torch.arange(1, 48)
    trained = replace(
        inputs.trained,
        per_query={name: values[keep] for name, values in inputs.trained.per_query.items()},
        query_ids=inputs.trained.query_ids[keep],
        query_labels=labels[keep],
    )
    absent = Neighbours(inputs.neighbours.scores, torch.full_like(inputs.neighbours.ids, -1))
    test = Labelled(inputs.test.embeddings, labels, inputs.test.ids)
    report = make_report(replace(inputs, trained=trained, test=test, neighbours=absent, class_names=names))
    assert report["confused"] == []
    assert all(query["neighbours"] == [] for query in report["queries"])
    assert "alone" not in {row["label"] for row in report["classes"]}
    assert len(report["map"]["item"]) == 48


def test_copes_with_a_search_for_no_neighbours(make_inputs):
    inputs = make_inputs()
    nothing = Neighbours(inputs.neighbours.scores[:, :0], inputs.neighbours.ids[:, :0])
    assert make_report(replace(inputs, neighbours=nothing))["confused"] == []


def test_keeps_the_worst_and_the_best_of_many_queries(make_inputs, monkeypatch):
    every = make_report(make_inputs())["queries"]
    monkeypatch.setattr(_tables, "MOST_QUERIES", 10)
    assert make_report(make_inputs())["queries"] == every[:5] + every[-5:]


def test_draws_a_sample_of_many_items(make_inputs, monkeypatch):
    monkeypatch.setattr(_report, "MOST_PLACES", 20)
    report = make_report(make_inputs())
    assert len(report["map"]["item"]) == len(set(report["map"]["item"])) == 20
    assert {str(query["id"]) for query in report["queries"]} <= set(report["items"])


def test_makes_broken_names_and_numbers_safe(make_inputs):
    inputs = make_inputs(notes=["bad \udcff"], environment={"odd": float("nan"), "t": torch.ones(2), "p": {1: {2}}})
    report = make_report(inputs)
    assert report["notes"] == ["bad \ufffd"]
    assert report["environment"] == {"odd": None, "t": [1.0, 1.0], "p": {"1": [2]}}


def test_says_unknown_where_it_was_never_installed(make_inputs, monkeypatch):
    def missing(name: str) -> str:
        raise _report.PackageNotFoundError(name)

    monkeypatch.setattr(_report, "version", missing)
    assert make_report(make_inputs())["accord_version"] == "unknown"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i: {"class_names": i.class_names[:2]}, "label 7 has no name"),
        (lambda i: {"neighbours": Neighbours(i.neighbours.scores[:3], i.neighbours.ids[:3])}, "one row per item"),
        (lambda i: {"neighbours": Neighbours(i.neighbours.scores, i.neighbours.ids + 900)}, "not in `test`: ids"),
        (lambda i: {"test": Labelled(*(part[:0] for part in i.test))}, "nothing to report on"),
    ],
)
def test_refuses_parts_that_do_not_fit(make_inputs, change, message):
    inputs = make_inputs()
    with pytest.raises(DataError, match=message):
        replace(inputs, **change(inputs))


def test_refuses_an_evaluation_of_other_items(make_inputs):
    inputs = make_inputs()
    strange = replace(inputs.trained, query_ids=inputs.trained.query_ids + 5000)
    with pytest.raises(DataError, match=r"queries that are not in `test`: ids \[5100"):
        make_report(replace(inputs, trained=strange))


def test_refuses_an_evaluation_without_the_figures_it_shows(make_inputs):
    inputs = make_inputs()
    poor = replace(inputs.trained, per_query={"recall@1": inputs.trained.per_query["recall@1"]})
    with pytest.raises(DataError, match=r"the baseline evaluation has no per-query values for map@r"):
        make_report(replace(inputs, baseline=poor))


def test_a_long_log_is_averaged_down(rows):
    log = rows(MOST_POINTS * 3)
    columns = history(log)
    assert (len(columns["step"]), columns["averaged"], columns["step"][0]) == (MOST_POINTS, 3, 2)
    assert columns["loss"][0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, rel=1e-4)
    assert columns["terms"].keys() == columns["weights"].keys() == {"n_pair", "proxy_nca"}
    assert columns["rates"]["trunk"][0] == pytest.approx(6e-7)
    assert columns["validation"] == [{"step": 900, "recall@1": 0.6, "map@r": 0.3}]


def test_scales_and_gradients_are_gathered_where_they_were_logged(rows):
    log = rows(MOST_POINTS * 2)
    for number, row in enumerate(row for row in log if "loss" in row):
        row["scales"] = {"a": 2.0}
        if number % 10 == 0:
            row["gradients"] = {"norms": {"a": 3.0 + number}, "cosines": {"a, b": -0.5}}
    next(row for row in log if row.get("step") == 10)["gradients"]["norms"]["a"] = float("inf")
    columns = history(log)
    assert columns["scales"] == {"a": [2.0] * MOST_POINTS}, "two steps in each point"
    measured = columns["gradients"]
    assert measured["step"][:3] == [0, 10, 20], "every measurement, at the step it was taken"
    assert measured["norms"]["a"][:3] == [3.0, None, 23.0]
    assert measured["cosines"] == {"a, b": [-0.5] * (MOST_POINTS // 5)}
    assert len(measured["epoch"]) == len(measured["step"])
    bare = history(rows(1))
    assert (bare["scales"], bare["gradients"]) == ({}, {"step": [], "epoch": [], "norms": {}, "cosines": {}})


def test_what_was_logged_of_proxies_is_gathered_by_loss(rows):
    seen = {"proxies": 66, "dead_proxies": 2.0, "bound": float("inf")}
    log = [*rows(1), {"proxies": {"step": 1, "proxy_nca": seen}}, {"proxies": {"step": 2, "proxy_nca": seen}}]
    told = {"proxies": 66, "dead_proxies": 2.0, "bound": None}
    assert history(log)["proxies"] == {"proxy_nca": [{"step": 1, **told}, {"step": 2, **told}]}
    assert history(rows(1))["proxies"] == {}


def test_a_loss_that_was_not_finite_leaves_a_gap(rows):
    log = rows(3)
    log[1] |= {"loss": float("nan"), "terms": {"late": 1.0}}
    columns = history(log)
    assert columns["loss"] == [1.0, None, pytest.approx(1 / 3, rel=1e-4)]
    assert columns["terms"]["late"] == [None, 1.0, None]


def test_names_the_worst_classes_and_weighs_each_class_once(make_inputs, report):
    trained = make_inputs().trained
    found = report["per_class"]
    assert found["classes"] == len(found["worst"]) == 8
    means = [row["recall@1"] for row in report["classes"]]
    assert found["mean"]["recall@1"] == pytest.approx(sum(means) / 8, abs=1e-4)
    assert found["lowest"]["recall@1"] == min(means) == found["worst"][0]["recall@1"]
    assert [row["recall@1"] for row in found["worst"]] == sorted(means)
    assert sum(row["queries"] for row in found["worst"]) == len(trained.query_ids)


def test_keeps_what_stands_beside_the_figures(make_inputs):
    inputs = make_inputs()
    report = make_report(replace(inputs, raw_pixels=inputs.baseline, protocol={"exclude": "self"}))
    assert report["raw_pixels"] == report["baseline"]
    assert report["protocol"] == {"exclude": "self"}

"""A run's unseen images are asked as its data and configuration say: roles, groups, further metrics, raw pixels."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from accord.errors import ArtifactError, DataError, UnknownNameError, UsageError
from accord.recipes import Judging, judge_run, resolve
from accord.recipes.asked import asked_of
from accord.recipes.baselines import raw_pixels
from accord.recipes.config import RunConfig
from accord.recipes.protocols import PROTOCOLS, find_protocol
from accord.recipes.run_evaluation import (
    chance_curve,
    check_asking,
    curve,
    judge_pixels,
    judge_test,
    metrics_of,
    protocol_of,
    shown,
)
from accord.recipes.watch import Silence
from accord.types import Item, Labelled, Manifest

ITEMS = tuple(
    Item(10 + row, f"{row}.png", "ab"[row % 2] if row < 8 else "c", split="test" if row < 8 else "train")
    for row in range(10)
)
MANIFEST = Manifest("toy", Path("nowhere"), ITEMS)
VECTORS = Labelled(
    torch.randn(10, 4, generator=torch.Generator().manual_seed(0)),
    torch.arange(10) % 2,
    torch.tensor([item.id for item in reversed(ITEMS)]),
)


def _with(manifest: Manifest, **columns: list[str]) -> Manifest:
    rows = [{name: values[row] for name, values in columns.items()} for row in range(len(manifest))]
    items = tuple(item._replace(**row) for item, row in zip(manifest.items, rows, strict=True))  # type: ignore[arg-type]
    return replace(manifest, items=items)


def _config(**evaluation: object) -> RunConfig:
    return resolve(file={"evaluation": evaluation})


def test_rows_are_found_by_their_id_and_labels_numbered_among_the_split() -> None:
    judged = asked_of(VECTORS, MANIFEST)
    assert judged.class_names == ("a", "b")
    assert judged.gallery.labelled.ids.tolist() == list(range(10, 18))
    assert torch.equal(judged.gallery.labelled.embeddings[0], VECTORS.embeddings[9])
    assert judged.gallery.labelled.labels.tolist() == [0, 1] * 4
    assert (judged.queries, judged.gallery.groups, judged.notes) == (None, None, ())


def test_published_roles_make_queries_and_gallery() -> None:
    roles = ["query", "gallery", "gallery", "query", "gallery", "gallery", "", "gallery", "", ""]
    judged = asked_of(VECTORS, _with(MANIFEST, role=roles, group=list("xyxyxyxyxy")))
    assert judged.queries is not None
    assert judged.queries.labelled.ids.tolist() == [10, 13]
    assert judged.gallery.labelled.ids.tolist() == [11, 12, 14, 15, 16, 17]
    assert (judged.group_names, judged.queries.groups.tolist()) == (("x", "y"), [0, 1])  # type: ignore[union-attr]
    assert judged.notes == ("1 images have no role; they stand in the gallery.",)
    found = judge_test(VECTORS, _with(MANIFEST, role=roles, group=list("xyxyxyxyxy")), _config())
    assert found.query_ids.tolist() == [10, 13]
    assert protocol_of(_with(MANIFEST, role=roles), _config(), nmi_seeds=1)["queries"] == "query/gallery"


def test_items_without_an_embedding_and_runs_without_a_test_set_are_refused() -> None:
    with pytest.raises(ArtifactError, match="8 images of the split were never embedded"):
        asked_of(VECTORS._replace(ids=VECTORS.ids + 100), MANIFEST)
    with pytest.raises(ArtifactError, match="no unseen classes"):
        asked_of(VECTORS, replace(MANIFEST, items=ITEMS[8:]))


def test_groups_are_left_out_where_the_configuration_says_so() -> None:
    grouped = _with(MANIFEST, group=list("xxyyxxyyxy"))
    plain, across = (judge_test(VECTORS, grouped, _config(exclude=name)) for name in ("self", "same_group"))
    assert (plain.counts["excluded"], across.counts["excluded"] > 0) == (0, True)
    assert protocol_of(grouped, _config(exclude="same_group"), nmi_seeds=3)["exclude"] == "same_group"
    for refused in (judge_test, lambda _, manifest, config: check_asking(manifest, config)):
        with pytest.raises(DataError, match="these images have none"):
            refused(VECTORS, MANIFEST, _config(exclude="same_group"))
    check_asking(grouped, _config(exclude="same_group"))


def test_further_metrics_are_added_and_wrong_ones_refused_before_training() -> None:
    config = _config(metrics=["mrr", "recall@3", "map@r"])
    assert metrics_of(config)[-2:] == ("mrr", "recall@3")
    found = judge_test(VECTORS, MANIFEST, config, nmi_seeds=1)
    assert set(shown(found, config).per_query) == set(metrics_of(config))
    assert "nmi" in found.overall
    with pytest.raises(UnknownNameError, match="Did you mean 'recall@1'"):
        check_asking(MANIFEST, _config(metrics=["recal@1"]))


def test_the_curve_is_measured_in_the_same_sweep_as_far_as_the_gallery_reaches() -> None:
    found = judge_test(VECTORS, MANIFEST, _config())
    assert set(curve(found)) == set(chance_curve(found)) == {1, 2, 4, 8}
    assert curve(found)[1] == found.metrics["recall@1"]
    assert list(curve(found).values()) == sorted(curve(found).values())


def test_raw_pixels_are_centred_and_a_picture_without_direction_is_kept(tiny_folder: Path) -> None:
    from accord.data import scan

    manifest = scan(tiny_folder)
    told: list[tuple[int, int]] = []
    found = raw_pixels(manifest, size=8, progress=lambda done, total: told.append((done, total)))
    assert found.embeddings.shape == (96, 8 * 8 * 3)
    assert found.embeddings.mean(dim=0).abs().max() < 1e-3
    assert told[-1] == (96, 96)
    one = raw_pixels(replace(manifest, items=manifest.items[:1]), size=8)
    assert torch.equal(one.embeddings, torch.ones_like(one.embeddings))


def test_raw_pixels_are_judged_unless_that_takes_minutes(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accord.data import scan, split_classes
    from accord.recipes import run_evaluation

    manifest = split_classes(scan(tiny_folder), test=0.5, validation=0.1, seed=0)
    found = judge_pixels(manifest, _config(), Silence())
    assert found is not None
    assert 0 < found.metrics["recall@1"] < 1
    assert "nmi" not in found.metrics
    assert judge_pixels(manifest, _config(raw_pixels=False), Silence()) is None
    monkeypatch.setattr(run_evaluation, "PIXELS_BUDGET", 0)
    assert judge_pixels(manifest, _config(), Silence()) is None
    assert judge_pixels(manifest, _config(raw_pixels=True), Silence()) is not None


@pytest.mark.pretrained
def test_a_run_is_judged_by_a_protocol_without_being_changed(tiny_run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    report = json.loads((tiny_run / "report.json").read_text())
    judged = judge_run(tiny_run, how=Judging(protocol="mlrc"))
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before
    assert judged.report["metrics"] == {name: report["metrics"][name] for name in ("recall@1", "r_precision", "map@r")}
    assert judged.report["test_set"]["opened"] >= 1
    assert judged.report["images"]["size"] == "32 pixels, crop"
    assert judged.report["protocol"]["preset"]["source"].startswith("Musgrave")
    opened = judged.report["test_set"]["opened"]
    with pytest.raises(UsageError, match="needs queries beside the gallery"):
        judge_run(tiny_run, how=Judging(protocol="in_shop"))
    again = judge_run(tiny_run, how=Judging(metrics=["recall@1"])).report["test_set"]["opened"]
    assert again == opened + 1, "a question that was refused opened nothing"


@pytest.mark.pretrained
def test_the_report_of_a_run_holds_protocol_pixels_and_worst_classes(tiny_run: Path) -> None:
    report = json.loads((tiny_run / "report.json").read_text())
    assert report["protocol"]["queries"] == "leave-one-out"
    assert 0 <= report["raw_pixels"]["recall@1"] <= 1
    assert report["per_class"]["worst"][0]["recall@1"] == report["per_class"]["lowest"]["recall@1"]
    assert report["recall_curve"]["k"] == [1, 2, 4, 8, 16, 32]


def test_every_protocol_names_metrics_that_the_engine_knows() -> None:
    from accord.evaluation import chance_levels

    for protocol in PROTOCOLS.values():
        assert set(chance_levels(torch.tensor([2000, 2000]), metrics=protocol.metrics)) == set(protocol.metrics)
        assert set(protocol.clusters) <= {"nmi", "f1"}
        assert json.dumps(protocol.as_json())
    with pytest.raises(UnknownNameError, match="Did you mean 'sop'"):
        find_protocol("sopp")

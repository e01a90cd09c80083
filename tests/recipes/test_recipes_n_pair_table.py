"""The protocol `n_pair`: each figure of its table is what a slow loop gives, and what can't be had is said."""

import pytest
import torch

import n_pair_by_hand as by_hand
from accord.errors import UsageError
from accord.recipes import Judging, judge_vectors
from n_pair_by_hand import vectors

NAMES = ["vrf@1", "verification_accuracy", "rank-1", "dir@far=0.01", "recognition", "f1", "nmi"]


def by_n_pair(embeddings: torch.Tensor, labels: torch.Tensor, **more: object) -> dict[str, object]:
    report: dict[str, object] = judge_vectors(embeddings, labels, how=Judging(protocol="n_pair", **more)).report
    return report


@pytest.mark.parametrize("seed", [0, 7])
def test_every_figure_is_what_a_loop_gives(seed: int) -> None:
    embeddings, labels = vectors(24, 5)
    report = by_n_pair(embeddings, labels, seed=seed)
    figures, classes = report["n_pair"]["figures"], labels.tolist()
    assert list(figures) == [NAMES[0], "vrf@23", *NAMES[1:]]
    scores = by_hand.cosines(embeddings)
    for k in (1, 23):
        assert figures[f"vrf@{k}"]["value"] == pytest.approx(by_hand.against(scores, classes, k), abs=1e-6)
        assert figures[f"vrf@{k}"]["standard_error"] is None
    assert figures["recognition"]["value"] == pytest.approx(by_hand.recognition(scores, classes), abs=1e-6)
    drawn = {
        "verification_accuracy": by_hand.fold_accuracies(scores, classes, folds=10, each=300, seed=seed),
        "rank-1": by_hand.closed(scores, classes, draws=10, seed=seed),
        "dir@far=0.01": by_hand.opened(scores, classes, draws=10, seed=seed),
        **by_hand.clusters(embeddings, classes, seeds=10, seed=seed),
    }
    for name, values in drawn.items():
        assert figures[name]["value"] == pytest.approx(by_hand.mean(values), abs=1e-6), name
        assert figures[name]["standard_error"] == pytest.approx(by_hand.error(values), abs=1e-6), name
    assert [report["metrics"][name] for name in ("f1", "nmi")] == [figures[name]["value"] for name in ("f1", "nmi")]
    assert report["protocol"]["nmi_seeds"] == 10
    assert set(report["metrics"]) >= {"recall@1", "recall@8", "knn_accuracy", "nmi", "f1"}


def test_a_partner_is_held_against_71_strangers_where_there_are_so_many_classes() -> None:
    section = by_n_pair(*vectors(72, 2))["n_pair"]
    assert "vrf@71" in section["figures"]
    assert not any("negatives" in note for note in section["notes"])
    assert "here it is 23" in by_n_pair(*vectors(24, 3))["n_pair"]["notes"][0]


def test_too_few_classes_for_folds_are_said() -> None:
    section = by_n_pair(*vectors(3, 6))["n_pair"]
    assert "verification_accuracy" not in section["figures"]
    assert any("Too few classes for folds" in note for note in section["notes"])
    section = by_n_pair(*vectors(9, 4))["n_pair"]
    assert section["figures"]["verification_accuracy"]["over"].startswith("4 folds")
    assert any("There are classes for 4 folds that share none, not for 10" in note for note in section["notes"])


def test_a_sample_of_queries_leaves_the_rest_of_the_table_whole() -> None:
    whole, some = (by_n_pair(*vectors(24, 5), **more)["n_pair"] for more in ({}, {"sample_queries": 30}))
    assert some["figures"]["rank-1"] == whole["figures"]["rank-1"]
    assert some["figures"]["recognition"]["over"] == "leave-one-out, 30 queries"
    assert any("is of all items" in note for note in some["notes"])


def test_other_protocols_have_no_such_table() -> None:
    for name in ("n_pair_sop", "cub"):
        assert "n_pair" not in judge_vectors(*vectors(24, 5), how=Judging(protocol=name)).report


def test_rows_without_a_direction_are_refused() -> None:
    embeddings, labels = vectors(4, 3)
    embeddings[3] = torch.nan
    with pytest.raises(UsageError, match="leave out allow_nonfinite"):
        by_n_pair(embeddings, labels, allow_nonfinite=True)

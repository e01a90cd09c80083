"""What peers answer to the questions of docs/evaluation.md, by calling them: the table there is asserted here."""

import pytest
import torch

from accord.errors import NumericError
from accord.evaluation import evaluate
from accord.types import Labelled

LABELS = torch.tensor([0, 0, 1, 1, 2, 1])
FOUR = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [1.0, 0.3], [1.0, 0.4]])


def _ours(embeddings: torch.Tensor, labels: torch.Tensor = LABELS, **options: object) -> dict[str, float]:
    ids = torch.arange(len(labels))
    return evaluate(Labelled(embeddings, labels, ids), clusters=False, **options).metrics  # type: ignore[arg-type]


def test_constant_embeddings_score_here_nothing_and_elsewhere_by_the_order_of_the_input() -> None:
    assert _ours(torch.ones(6, 2))["recall@1"] == _ours(torch.ones(6, 2))["map@r"] == 0
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator").AccuracyCalculator
    names = ("precision_at_1", "mean_average_precision_at_r")
    found = calculator(include=names, device=torch.device("cpu")).get_accuracy(torch.ones(6, 2), LABELS)
    assert [round(found[name], 6) for name in names] == [0.4, 0.4]


def test_items_alone_in_their_class_are_counted_here_and_dropped_silently_elsewhere() -> None:
    embeddings = torch.eye(6)[:, :3] + 0.1 * torch.arange(18.0).reshape(6, 3).sin()
    found = evaluate(Labelled(embeddings, LABELS, torch.arange(6)), clusters=False)
    assert (found.counts["singletons"], found.counts["queries"]) == (1, 5)
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator").AccuracyCalculator
    peer = calculator(include=("precision_at_1",), device=torch.device("cpu")).get_accuracy(embeddings, LABELS)
    assert peer["precision_at_1"] == pytest.approx(found.metrics["recall@1"])


def test_a_row_that_is_not_finite_is_refused_here() -> None:
    embeddings = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    embeddings[2] = torch.nan
    with pytest.raises(NumericError, match=r"id 2"):
        _ours(embeddings)


def test_torchmetrics_leaves_out_scores_below_zero_and_divides_a_cut_map_by_what_it_found() -> None:
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    scores, right = torch.tensor([0.9, 0.5, 0.1, -0.2]), torch.tensor([True, False, True, True])
    assert retrieval.retrieval_average_precision(scores, right, top_k=2) == 1
    for name in ("average_precision", "reciprocal_rank"):
        assert getattr(retrieval, f"retrieval_{name}")(scores - 1, right) == 0
    assert retrieval.retrieval_recall(scores, right, top_k=1) == pytest.approx(1 / 3)
    assert retrieval.retrieval_hit_rate(scores, right, top_k=1) == 1
    assert retrieval.retrieval_hit_rate(torch.full((4,), torch.nan), right, top_k=1) == 1


def test_a_cut_map_is_divided_here_by_what_its_places_can_hold() -> None:
    labels = torch.tensor([0, 0, 1, 0, 0])
    found = evaluate(Labelled(FOUR, labels, torch.arange(5)), metrics=["map@2", "recall@1"], clusters=False)
    assert found.query_ids[0] == 0
    assert found.per_query["map@2"][0] == 0.5  # right items at the ranks 1, 3 and 4

"""Class means and the interval that draws classes anew."""

import pytest
import torch

from accord.errors import BatchError, UsageError
from accord.evaluation import class_bootstrap, evaluate, per_class
from accord.types import Evaluation, Labelled


def test_class_means_worked_by_hand():
    evaluation = Evaluation(
        per_query={"recall@1": torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)},
        query_ids=torch.arange(5),
        query_labels=torch.tensor([7, 3, 7, 3, 3]),
    )
    found = per_class(evaluation)
    assert found.labels.tolist() == [3, 7]
    assert found.queries.tolist() == [3, 2]
    assert found.means["recall@1"].tolist() == [1 / 3, 1]


def test_class_means_average_to_the_metric():
    generator = torch.Generator().manual_seed(0)
    items = Labelled(torch.randn(50, 4, generator=generator), torch.arange(50) % 7, torch.arange(50))
    evaluation = evaluate(items, clusters=False)
    found = per_class(evaluation)
    for name, means in found.means.items():
        assert float((means * found.queries).sum() / 50) == pytest.approx(evaluation.metrics[name], abs=1e-12)


def test_the_interval_knows_that_queries_of_a_class_are_alike():
    generator = torch.Generator().manual_seed(0)
    rates = torch.rand(40, generator=generator).repeat_interleave(25)
    hits = torch.bernoulli(rates, generator=generator)
    low, high = class_bootstrap(hits, torch.arange(1000) // 25, generator=generator)
    as_if_independent = 2 * 1.96 * 0.5 / 1000**0.5
    assert low < float(hits.mean()) < high
    assert high - low > 2 * as_if_independent


@pytest.mark.parametrize("classes", [30, 100])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(classes):
    generator, covered = torch.Generator().manual_seed(1), 0
    for _ in range(200):
        rates = (0.5 + 0.2 * torch.randn(classes, generator=generator)).clamp(0, 1).repeat_interleave(10)
        hits = torch.bernoulli(rates, generator=generator)
        labels = torch.arange(classes).repeat_interleave(10)
        low, high = class_bootstrap(hits, labels, draws=400, generator=generator)
        covered += low <= 0.5 <= high
    assert covered >= 0.88 * 200


def test_alike_classes_leave_no_doubt_and_generators_decide():
    labels = torch.arange(40) // 4
    assert class_bootstrap(torch.ones(40), labels, generator=torch.Generator()) == (1, 1)
    hits = torch.rand(40, generator=torch.Generator().manual_seed(0))
    runs = [class_bootstrap(hits, labels, draws=50, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_refuses_queries_without_labels():
    with pytest.raises(BatchError, match="one label per query"):
        class_bootstrap(torch.empty(0), torch.empty(0, dtype=torch.int64), generator=torch.Generator())
    with pytest.raises(UsageError, match="draws"):
        class_bootstrap(torch.ones(2), torch.tensor([0, 1]), draws=0, generator=torch.Generator())

"""Class means and the interval that draws classes anew."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import class_bootstrap, class_t_interval, evaluate, per_class
from accord.evaluation._class_sums import class_sums, drawn_means
from accord.evaluation._student import expanded_tail, student_quantile
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


@pytest.mark.parametrize(("classes", "images"), [(10, 100), (20, 50), (100, 59)])
def test_the_interval_covers_the_truth_as_often_as_it_says_and_is_not_much_wider_than_needed(classes, images):
    # 500 repetitions of five worlds are in benchmarks/intervals.py; the spread of classes is theirs
    generator, covered, width, repetitions = torch.Generator().manual_seed(1), 0, 0.0, 150
    labels = torch.arange(classes).repeat_interleave(images)
    for _ in range(repetitions):
        rates = (0.5 + 0.21 * torch.randn(classes, generator=generator)).clamp(0, 1).repeat_interleave(images)
        hits = torch.bernoulli(rates, generator=generator)
        low, high = class_bootstrap(hits, labels, draws=1000, generator=generator)
        covered, width = covered + (low <= 0.5 <= high), width + (high - low) / repetitions
    assert covered >= 0.91 * repetitions  # 93 % less two standard errors of so few repetitions
    assert width < 1.25 * 2 * 1.96 * 0.215 / math.sqrt(classes)


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


def test_the_t_of_student_is_that_of_scipy():
    for freedom in (1, 2, 3, 4, 5, 9, 19, 20, 99, 1000, 1001, 11_315):
        assert student_quantile(freedom) == pytest.approx(student.ppf(0.975, freedom), abs=1e-9)


def test_few_classes_reach_further_into_the_tails():
    tails = [expanded_tail(classes) for classes in (2, 5, 10, 20, 100, 100_000)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(0.025, abs=1e-5)
    assert expanded_tail(10) == pytest.approx(0.00855, abs=1e-5)  # Φ(-√(10/9) · 2.262)


def test_one_class_tells_nothing():
    hits, labels = torch.tensor([1.0, 0.0, 1.0]), torch.zeros(3, dtype=torch.int64)
    for low, high in (class_bootstrap(hits, labels, generator=torch.Generator()), class_t_interval(hits, labels)):
        assert math.isnan(low)
        assert math.isnan(high)


def test_the_t_interval_worked_by_hand():
    # class means 1/2, 1 and 0: mean 1/2, standard error 1/2 / √3, t of two degrees 4.30
    hits = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    low, high = class_t_interval(hits, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert (low + high) / 2 == pytest.approx(0.5)
    assert high - low == pytest.approx(2 * 4.302652729749 * 0.5 / math.sqrt(3))


def test_the_t_interval_weighs_classes_by_their_queries():
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 7, (50,), generator=generator)
    values = torch.rand(50, generator=generator, dtype=torch.float64)
    mean, classes = float(values.mean()), labels.unique().tolist()
    squares = sum(float((values[labels == label] - mean).sum()) ** 2 for label in classes)
    half = student.ppf(0.975, len(classes) - 1) * math.sqrt(squares * len(classes) / (len(classes) - 1)) / 50
    assert class_t_interval(values, labels) == pytest.approx((mean - half, mean + half), abs=1e-8)


@given(st.integers(1, 5), st.integers(2, 30), st.integers(0, 2**31))
def test_class_sums_are_whole_numbers_close_to_the_true_ones(runs, queries, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-3, 4, (queries,), generator=generator)
    values = torch.randn(runs, queries, generator=generator, dtype=torch.float64)
    table = class_sums("test", values, labels)
    assert torch.equal(table.sums, table.sums.round())
    assert float(table.sums.abs().max()) * len(table.sizes) * runs < 2**53
    for column, label in enumerate(labels.unique().tolist()):
        true = values[:, labels == label].sum(dim=1)
        assert torch.allclose(table.sums[:, column] / 2**table.bits, true, atol=1e-9)


def test_drawn_means_are_those_of_a_slow_loop_whatever_the_order_of_queries():
    generator = torch.Generator().manual_seed(5)
    values = torch.rand(3, 40, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 6, (40,), generator=generator)
    weights = torch.tensor([[2.0, 0.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    (found,) = drawn_means(class_sums("test", values, labels), [weights], generator=torch.Generator().manual_seed(7))
    picks = torch.randint(6, (2, 6), generator=torch.Generator().manual_seed(7)).tolist()
    for draw, (chosen, weight) in enumerate(zip(picks, weights.tolist(), strict=True)):
        rows = [query for label in chosen for query in range(40) if labels[query] == label]
        total = sum(weight[run] * float(values[run, query]) for run in range(3) for query in rows)
        assert float(found[draw]) == pytest.approx(total / (sum(weight) * len(rows)), abs=1e-9)
    mixed = torch.randperm(40, generator=generator)
    again = class_sums("test", values[:, mixed], labels[mixed])
    assert torch.equal(drawn_means(again, [weights], generator=torch.Generator().manual_seed(7))[0], found)


def test_the_bits_depend_on_no_thread():
    generator = torch.Generator().manual_seed(0)
    hits, labels = torch.rand(3000, generator=generator), torch.arange(3000) // 10
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(class_bootstrap(hits, labels, draws=500, generator=torch.Generator().manual_seed(2)))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_refuses_scores_that_are_not_finite():
    with pytest.raises(NumericError, match="finite"):
        class_bootstrap(torch.tensor([1.0, torch.nan]), torch.tensor([0, 1]), generator=torch.Generator())

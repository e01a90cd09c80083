"""Leave-one-out evaluation against a slow loop over every order of tied items, and cases worked by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import evaluate, recall_curve
from accord.types import Labelled

NAMES = ("recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "knn_accuracy")


def labelled(embeddings, labels, ids=None):
    embeddings = torch.as_tensor(embeddings, dtype=torch.get_default_dtype())
    labels = torch.as_tensor(labels)
    return Labelled(embeddings, labels, torch.arange(len(labels)) if ids is None else torch.as_tensor(ids))


def scored(order, labels, own, ks, knn):
    """One query's metrics, by the definitions, for one order of the other items."""
    hits = [labels[other] == own for other in order]
    relevant = sum(hits)
    values = {f"recall@{k}": float(any(hits[:k])) for k in ks}
    values["map@r"] = sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(relevant)) / relevant
    values["r_precision"] = sum(hits[:relevant]) / relevant
    votes = [labels[other] for other in order[:knn]]
    most = max(map(votes.count, votes))
    values["knn_accuracy"] = float(next(label for label in votes if votes.count(label) == most) == own)
    return values


def orders_of(scores, others):
    """Every order of the other items in which scores never rise."""
    levels = sorted({scores[other] for other in others}, reverse=True)
    groups = [[other for other in others if scores[other] == level] for level in levels]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield list(itertools.chain(*parts))


def slow(items, *, ks=(1, 2, 4, 8), knn=3, pick=min):
    """Metrics per query by loops: the worst (or best) over all orders of tied items."""
    rows = items.embeddings.double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    labels = items.labels.tolist()
    result = {}
    for query, own in enumerate(labels):
        others = [other for other in range(len(labels)) if other != query]
        if all(labels[other] != own for other in others):
            continue
        # rounded so that scores equal on paper are equal here
        scores = {other: round(float((rows[query] * rows[other]).sum()), 10) for other in others}
        tries = [scored(order, labels, own, ks, knn) for order in orders_of(scores, others)]
        result[query] = {name: pick(values[name] for values in tries) for name in tries[0]}
    return result


def check_against_loops(items, **options):
    expected = slow(items, **options)
    ks, knn = options.get("ks", (1, 2, 4, 8)), options.get("knn", 3)
    found = evaluate(items, clusters=False, metrics=[*(f"recall@{k}" for k in ks), *NAMES[4:]], knn=knn)
    assert found.query_ids.tolist() == [int(items.ids[query]) for query in expected]
    for name, values in found.per_query.items():
        assert values.dtype == torch.float64
        assert values.tolist() == pytest.approx([row[name] for row in expected.values()], abs=1e-12), name
    return found


def random_items(seed, n, classes, dim, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    labels[:3] = torch.tensor([0, 0, 1])
    centres = torch.randn(classes, dim, generator=generator)
    embeddings = centres[labels] + torch.randn(n, dim, generator=generator)
    return Labelled(embeddings.to(dtype), labels, torch.randperm(10 * n, generator=generator)[:n])


def test_agrees_with_a_case_worked_by_hand():
    # angles in degrees; the query at 0 sees 10 (wrong), 20 (right), 40 (wrong), 50 (right)
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 20.0, 40.0, 50.0], dtype=torch.float64))
    items = labelled(torch.stack([angles.cos(), angles.sin()], dim=1), [0, 1, 0, 1, 0])
    found = evaluate(items, clusters=False)
    first = {name: float(values[0]) for name, values in found.per_query.items()}
    assert first["recall@1"] == 0
    assert first["recall@2"] == 1
    assert first["r_precision"] == 1 / 2
    assert first["map@r"] == (0 + 1 / 2) / 2
    assert first["knn_accuracy"] == 0
    assert found.query_labels.tolist() == [0, 1, 0, 1, 0]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(4, 40), st.integers(2, 6), st.integers(2, 9))
def test_agrees_with_loops_on_random_problems(seed, n, classes, dim):
    check_against_loops(random_items(seed, n, classes, dim, torch.float64))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data(), st.integers(4, 7), st.integers(1, 5))
def test_is_the_worst_of_all_orders_of_tied_items(data, n, knn):
    codes = data.draw(st.lists(st.sampled_from([(1, 1), (1, -1), (-1, 1), (2, 2)]), min_size=n, max_size=n))
    labels = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    labels[:3] = [0, 0, 1]
    items = labelled(codes, labels)
    found = check_against_loops(items, ks=(1, 2), knn=min(knn, n - 1))
    best = slow(items, ks=(1, 2), knn=min(knn, n - 1), pick=max)
    for name, value in found.optimistic.items():
        assert value == pytest.approx(sum(row[name] for row in best.values()) / len(best), abs=1e-12)
        assert value >= found.metrics[name]


@pytest.mark.parametrize("knn", [1, 2, 3, 4, 5])
def test_votes_agree_with_loops_for_any_number_of_neighbours(knn):
    for seed in range(5):
        check_against_loops(random_items(seed, 30, 12, 3), knn=knn)


def test_counts_queries_whose_value_depends_on_ties():
    # items 1 and 2 are the same to item 0; items 3 and 4 see no tie that matters
    items = labelled([[1, 0], [0.6, 0.8], [0.6, 0.8], [-1, 0.1], [-1, 0.1]], [0, 0, 1, 2, 2])
    found = evaluate(items, clusters=False)
    assert found.counts["tied_queries"] == 1
    assert found.counts["singletons"] == 1
    assert found.metrics["recall@1"] == pytest.approx(2 / 4)
    assert found.optimistic["recall@1"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [1.0, 0.1, -3.0])
def test_constant_embeddings_score_zero_and_are_called_collapsed(dtype, value):
    items = Labelled(torch.full((40, 7), value, dtype=dtype), torch.arange(40) % 4, torch.arange(40))
    found = evaluate(items, nmi_seeds=2)
    assert all(found.metrics[name] == 0 for name in NAMES)
    assert found.counts["collapsed"] == 1
    assert found.counts["duplicates"] == 40
    assert any("collapsed" in note for note in found.notes)


@pytest.mark.parametrize("shape", ["line", "two points", "almost constant"])
def test_collapsed_embeddings_stay_at_or_below_chance(shape):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 10
    direction = torch.randn(16, generator=generator)
    if shape == "line":
        embeddings = torch.randn(200, 1, generator=generator) * direction
    elif shape == "two points":
        embeddings = torch.stack([direction, direction.flip(0)])[torch.randint(2, (200,), generator=generator)]
    else:
        embeddings = direction + 1e-7 * torch.randn(200, 16, generator=generator)
    found = evaluate(Labelled(embeddings, labels, torch.arange(200)), clusters=False)
    assert found.counts["collapsed"] == 1
    for name in ("recall@1", "map@r", "r_precision"):
        three_sigma = 3 * math.sqrt(found.chance[name] * (1 - found.chance[name]) / 200)
        assert found.metrics[name] <= found.chance[name] + three_sigma


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 0.0])
@pytest.mark.parametrize("share", ["one", "some", "all"])
def test_refuses_rows_without_a_direction_by_id(bad, share):
    items = random_items(1, 20, 3, 4)
    rows = {"one": [7], "some": [0, 7, 11], "all": range(20)}[share]
    items.embeddings[list(rows)] = bad
    with pytest.raises(NumericError, match=str(int(items.ids[rows[0]]))):
        evaluate(items)


def test_single_items_are_no_queries_but_stand_in_the_way():
    items = labelled([[1, 0], [0.8, 0.6], [0.9, 0.1]], [5, 5, 9])
    found = evaluate(items, knn=1, clusters=False)
    assert found.query_ids.tolist() == [0, 1]
    assert found.metrics["recall@1"] == 0
    assert found.counts["singletons"] == 1
    assert any("alone" in note for note in found.notes)


def test_finds_copies_of_an_image_but_never_the_item_itself():
    base = random_items(3, 12, 3, 5)
    copies = Labelled(base.embeddings.repeat(2, 1), base.labels.repeat(2), torch.arange(24))
    assert evaluate(copies, clusters=False).metrics["recall@1"] == 1
    assert evaluate(copies, clusters=False).counts["duplicates"] == 24
    assert evaluate(base, clusters=False).counts["duplicates"] == 0


def test_ignores_the_order_of_items_and_the_length_of_embeddings():
    items = random_items(4, 60, 8, 6)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    lengths = 2.0 ** torch.randint(-60, 60, (60, 1), generator=torch.Generator().manual_seed(1))
    moved = Labelled((items.embeddings * lengths)[order], items.labels[order], items.ids[order])
    before, after = evaluate(items, clusters=False), evaluate(moved, clusters=False)
    place = {int(item): row for row, item in enumerate(after.query_ids)}
    rows = [place[int(item)] for item in before.query_ids]
    for name in NAMES:
        assert torch.equal(before.per_query[name], after.per_query[name][rows])


@pytest.mark.parametrize("kind", ["gaussian", "codes", "almost constant", "large classes"])
def test_gives_the_same_bits_for_any_memory_budget(kind):
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(300) % (3 if kind == "large classes" else 40)
    embeddings = torch.randn(300, 24, generator=generator)
    if kind == "codes":
        embeddings = embeddings.sign()
    if kind == "almost constant":
        embeddings = 1 + 1e-6 * embeddings
    items = Labelled(embeddings, labels, torch.arange(300))
    runs = [evaluate(items, nmi_seeds=1, budget_bytes=budget) for budget in (20_000, 200_000, 2**28)]
    for other in runs[1:]:
        assert other.overall == runs[0].overall
        assert all(torch.equal(other.per_query[name], runs[0].per_query[name]) for name in NAMES)


def test_single_precision_ranks_as_double_precision_does():
    items = random_items(6, 400, 20, 64)
    wide = items._replace(embeddings=items.embeddings.double())
    narrow, reference = evaluate(items, clusters=False), evaluate(wide, clusters=False)
    assert all(torch.equal(narrow.per_query[name], reference.per_query[name]) for name in NAMES)
    for name, values in check_against_loops_without_ties(wide).items():
        assert narrow.per_query[name].tolist() == pytest.approx(values, abs=1e-12)


def check_against_loops_without_ties(items):
    rows = torch.nn.functional.normalize(items.embeddings)
    orders = (rows @ rows.T).argsort(dim=1, descending=True).tolist()
    labels = items.labels.tolist()
    tables = [
        scored([other for other in order if other != query], labels, labels[query], (1, 2, 4, 8), 3)
        for query, order in enumerate(orders)
    ]
    return {name: [table[name] for table in tables] for name in tables[0]}


def test_scaled_and_tiny_double_embeddings_do_not_underflow():
    items = random_items(7, 30, 4, 5, torch.float64)
    tiny = items._replace(embeddings=items.embeddings * 2.0**-800)
    assert evaluate(tiny, clusters=False).metrics == evaluate(items, clusters=False).metrics


def test_does_not_change_what_it_is_given_nor_the_global_generator():
    items = random_items(8, 30, 4, 5)
    before, state = items.embeddings.clone(), torch.get_rng_state()
    first, second = evaluate(items, nmi_seeds=2), evaluate(items, nmi_seeds=2)
    assert torch.equal(items.embeddings, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.metrics == second.metrics


def test_embeddings_may_still_carry_a_gradient():
    items = random_items(8, 30, 4, 5)
    items.embeddings.requires_grad_()
    assert not any(values.requires_grad for values in evaluate(items, nmi_seeds=1).per_query.values())


def test_says_when_a_metric_can_not_miss():
    items = labelled([[1, 0], [0, 1], [1, 1.5]], [0, 1, 0])
    found = evaluate(items, metrics=("recall@1", "recall@2", "knn_accuracy"), knn=3, clusters=False)
    assert any("recall@2" in note and "can't miss" in note for note in found.notes)
    assert any("knn_accuracy" in note for note in found.notes)
    assert found.metrics["recall@2"] == 1


def test_refuses_what_can_not_be_evaluated():
    items = random_items(9, 10, 3, 4)
    with pytest.raises(BatchError, match="at least two classes"):
        evaluate(items._replace(labels=torch.zeros(10, dtype=torch.int64)))
    with pytest.raises(BatchError, match="no item has another one"):
        evaluate(items._replace(labels=torch.arange(10)))
    with pytest.raises(BatchError, match="ids must be unique"):
        evaluate(items._replace(ids=torch.ones(10, dtype=torch.int64)))
    with pytest.raises(BatchError, match="no items in the queries"):
        evaluate(Labelled(torch.empty(0, 4), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)))
    with pytest.raises(UsageError, match="the k of recall@0"):
        evaluate(items, metrics=("recall@0",))
    with pytest.raises(UsageError, match="at least one name"):
        evaluate(items, metrics=())
    with pytest.raises(UsageError, match="each of ks"):
        recall_curve(items, [0])


def test_recall_curve_is_the_recall_of_evaluate():
    items = random_items(10, 50, 6, 4)
    curve = recall_curve(items, [8, 1, 2, 49, 60])
    found = evaluate(items, metrics=[f"recall@{k}" for k in (1, 2, 8)], clusters=False).metrics
    assert list(curve) == [1, 2, 8, 49, 60]
    assert all(curve[k] == pytest.approx(found[f"recall@{k}"], abs=1e-12) for k in (1, 2, 8))
    assert curve[49] == curve[60] == 1


def test_good_clusters_are_found():
    centres = torch.eye(6).repeat_interleave(5, dim=0)
    noise = 0.01 * torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    found = evaluate(Labelled(centres + noise, torch.arange(6).repeat_interleave(5), torch.arange(30)))
    assert found.metrics["nmi"] > 0.9
    assert found.metrics["recall@1"] == 1
    assert found.counts == {
        "queries": 30,
        "gallery": 30,
        "classes": 6,
        "singletons": 0,
        "queries_without_match": 0,
        "excluded": 0,
        "tied_queries": 0,
        "duplicates": 0,
        "collapsed": 0,
        "nonfinite": 0,
    }


def test_agrees_with_a_public_library_on_data_without_ties():
    from sklearn.neighbors import NearestNeighbors

    items = random_items(11, 120, 10, 16)
    neighbours = NearestNeighbors(n_neighbors=120, metric="cosine").fit(items.embeddings.double().numpy())
    order = torch.from_numpy(neighbours.kneighbors(items.embeddings.double().numpy(), return_distance=False))
    found, labels = evaluate(items, clusters=False), items.labels.tolist()
    for query, row in enumerate(order.tolist()):
        expected = scored([other for other in row if other != query], labels, labels[query], (1, 2, 4, 8), 3)
        for name, value in expected.items():
            assert float(found.per_query[name][query]) == pytest.approx(value, abs=1e-12)

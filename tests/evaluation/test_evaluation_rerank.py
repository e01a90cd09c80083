"""Query expansion, database augmentation and k-reciprocal lists against slow loops written from the papers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import database_augmentation, evaluate_lists, k_reciprocal, query_expansion
from accord.types import Labelled, Neighbours
from conformance import without_shape_checks


def space(seed, n, dim=6, classes=4, first=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    points = centres[labels] + 0.8 * torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return Labelled(points, labels, torch.randperm(n, generator=generator) + first)


def unit(rows):
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def expanded_by_loops(queries, gallery, k, alpha):
    keys, moved = unit(gallery.embeddings), []
    for row, own in zip(unit(queries.embeddings), queries.ids.tolist(), strict=True):
        scored = [(dot(row, key), key) for key, id in zip(keys, gallery.ids.tolist(), strict=True) if id != own]
        near = sorted(scored, key=lambda pair: -pair[0])[:k]
        total = list(row)
        for score, key in near:
            weight = max(score, 0) ** alpha if alpha else 1
            total = [t + weight * x for t, x in zip(total, key, strict=True)]
        moved.append(total)
    return torch.tensor(unit(torch.tensor(moved, dtype=torch.float64)), dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("budget_bytes", [1, 2**20])
def test_query_expansion_agrees_with_a_slow_loop(alpha, budget_bytes):
    gallery, queries = space(0, 25), space(1, 7, first=100)
    queries = queries._replace(ids=torch.tensor([100, 101, 102, *gallery.ids[:4].tolist()]))
    found = query_expansion(queries, gallery, k=6, alpha=alpha, budget_bytes=budget_bytes)
    assert torch.allclose(found.embeddings, expanded_by_loops(queries, gallery, 6, alpha), atol=1e-12)
    assert torch.equal(found.ids, queries.ids)
    assert torch.equal(found.labels, queries.labels)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_database_augmentation_agrees_with_a_slow_loop(alpha):
    gallery = space(2, 20)
    found = database_augmentation(gallery, k=5, alpha=alpha)
    assert torch.allclose(found.embeddings, expanded_by_loops(gallery, gallery, 5, alpha), atol=1e-12)


def test_query_expansion_worked_by_hand():
    gallery = Labelled(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1]), torch.arange(3))
    query = Labelled(torch.tensor([[3.0, 0.0]]), torch.tensor([0]), torch.tensor([0]))
    # its own id is left out; (1, 0) + (0, 1) at right angles
    moved = query_expansion(query, gallery, k=1).embeddings
    assert torch.allclose(moved, torch.tensor([[0.5**0.5, 0.5**0.5]]))
    # at right angles the score is 0: with α the query stays where it is
    assert torch.equal(query_expansion(query, gallery, k=2, alpha=3.0).embeddings, torch.tensor([[1.0, 0.0]]))


def test_rows_that_cancel_stay_where_they_are():
    pair = Labelled(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 0]), torch.arange(2))
    assert torch.equal(database_augmentation(pair, k=1).embeddings, pair.embeddings)


def test_expansion_does_not_depend_on_lengths_or_the_order_of_the_gallery():
    gallery = space(3, 30)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    other = Labelled(3 * gallery.embeddings[order], gallery.labels[order], gallery.ids[order])
    one, two = (query_expansion(gallery, side, k=4).embeddings for side in (gallery, other))
    assert torch.allclose(one, two, atol=1e-12)


def reciprocal_by_loops(queries, gallery, depth, k1, k2, weight):
    """From the paper, with sets."""
    new = [row for row, id in enumerate(queries.ids.tolist()) if id not in set(gallery.ids.tolist())]
    rows = unit(torch.cat([gallery.embeddings, queries.embeddings[new]]))
    ids = gallery.ids.tolist() + queries.ids[new].tolist()
    n = len(rows)
    d = [[2 - 2 * dot(a, b) for b in rows] for a in rows]
    near = [sorted((j for j in range(n) if j != i), key=lambda j: d[i][j]) for i in range(n)]

    def reciprocal(i, k):
        return {i} | {j for j in near[i][:k] if i in near[j][:k]}

    vectors = []
    for i in range(n):
        core = reciprocal(i, k1)
        members = set(core)
        for j in core - {i}:
            theirs = reciprocal(j, max(1, round(k1 / 2)))
            if len(core & theirs) >= 2 / 3 * len(theirs) - 1e-9:
                members |= theirs
        vectors.append([math.exp(-d[i][j]) if j in members else 0 for j in range(n)])
    averaged = [[sum(vectors[m][j] for m in [i, *near[i][: k2 - 1]]) / k2 for j in range(n)] for i in range(n)]
    lists = []
    for id in queries.ids.tolist():
        p = ids.index(id)
        final = []
        for g in range(len(gallery.ids)):
            if g == p:
                continue
            pairs = list(zip(averaged[p], averaged[g], strict=True))
            jaccard = 1 - sum(map(min, pairs)) / sum(map(max, pairs))
            final.append(((1 - weight) * jaccard + weight * d[p][g], ids[g]))
        lists.append(sorted(final)[:depth])
    return lists


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0]))
def test_k_reciprocal_lists_agree_with_slow_loops(seed, k1, k2, weight):
    k2 = min(k1, k2)
    gallery, queries = space(seed, 22), space(seed + 1, 6, first=100)
    queries = queries._replace(ids=torch.cat([queries.ids[:4], gallery.ids[:2]]))
    queries.embeddings[4:] = gallery.embeddings[:2]
    expected = reciprocal_by_loops(queries, gallery, 10, k1, k2, weight)
    for budget_bytes in (1, 2**25):
        found = k_reciprocal(queries, gallery, 10, k1=k1, k2=k2, weight=weight, budget_bytes=budget_bytes)
        distances = torch.tensor([[distance for distance, _ in row] for row in expected], dtype=torch.float64)
        assert torch.allclose(found.scores, -distances, atol=1e-12)
        clear = (distances.diff(dim=1) > 1e-9).all(dim=1)
        ids = torch.tensor([[id for _, id in row] for row in expected])
        assert torch.equal(found.ids[clear], ids[clear])


def test_k_reciprocal_leave_one_out_never_finds_the_query():
    gallery = space(4, 40)
    found = k_reciprocal(gallery, gallery, 39, k1=8, k2=3)
    assert not bool((found.ids == gallery.ids[:, None]).any())
    assert torch.equal(
        found.ids.sort(dim=1).values, torch.stack([gallery.ids[gallery.ids != i].sort().values for i in gallery.ids])
    )


def test_k_reciprocal_with_all_weight_on_the_distance_is_plain_ranking():
    gallery = space(5, 30)
    rows = torch.nn.functional.normalize(gallery.embeddings)
    scores = (rows @ rows.T).fill_diagonal_(-9)
    expected = gallery.ids[scores.topk(5).indices]
    assert torch.equal(k_reciprocal(gallery, gallery, 5, k1=4, k2=2, weight=1.0).ids, expected)


def test_reranking_helps_noisy_neighbours():
    gallery = space(6, 160, dim=16, classes=8)
    rows = torch.nn.functional.normalize(gallery.embeddings)
    top = (rows @ rows.T).fill_diagonal_(-9).topk(159)
    plain = evaluate_lists(Neighbours(top.values, gallery.ids[top.indices]), gallery, gallery).metrics["map@r"]
    ranked = evaluate_lists(k_reciprocal(gallery, gallery, 159, k1=15), gallery, gallery).metrics["map@r"]
    assert ranked > plain + 0.01


def lists_by_loops(neighbours, queries, gallery, ks):
    label_of = dict(zip(gallery.ids.tolist(), gallery.labels.tolist(), strict=True))
    results = []
    for scores, ids, own, label in zip(
        neighbours.scores.tolist(), neighbours.ids.tolist(), queries.ids.tolist(), queries.labels.tolist(), strict=True
    ):
        r = sum(other == label and id != own for id, other in label_of.items())
        if not r:
            continue
        kept = [(-score, label_of[id] == label) for score, id in zip(scores, ids, strict=True) if id not in (-1, own)]
        right = [hit for _, hit in sorted(kept)]
        result = {f"recall@{k}": float(any(right[:k])) for k in ks}
        precisions = [sum(right[: i + 1]) / (i + 1) for i in range(r)]
        result["map@r"] = sum(p * hit for p, hit in zip(precisions, right, strict=False)) / r
        result["r_precision"] = sum(right[:r]) / r
        results.append(result)
    return results


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_judged_lists_agree_with_slow_loops(seed):
    generator = torch.Generator().manual_seed(seed)
    gallery = Labelled(torch.ones(14, 1), torch.randint(4, (14,), generator=generator), torch.arange(14) + 5)
    queries = Labelled(torch.ones(6, 1), torch.randint(5, (6,), generator=generator), torch.arange(6) + 15)
    order = torch.stack([torch.randperm(14, generator=generator) for _ in range(6)])
    # few different scores, so that many tie
    neighbours = Neighbours(torch.randint(3, (6, 14), generator=generator).double(), gallery.ids[order])
    expected = lists_by_loops(neighbours, queries, gallery, (1, 3))
    evaluation = evaluate_lists(neighbours, queries, gallery, ks=(1, 3))
    assert set(evaluation.per_query) == {"recall@1", "recall@3", "map@r", "r_precision"}
    for name, values in evaluation.per_query.items():
        assert values.tolist() == pytest.approx([row[name] for row in expected], abs=1e-12)
    assert evaluation.counts["queries"] + evaluation.counts["singletons"] == 6
    assert "not comparable" in evaluation.notes[0]


def test_judged_lists_worked_by_hand():
    gallery = Labelled(torch.ones(4, 1), torch.tensor([0, 1, 0, 1]), torch.arange(4))
    query = Labelled(torch.ones(1, 1), torch.tensor([0]), torch.tensor([9]))
    # ids 1 and 0 tie: the wrong one, 1, counts as first; then comes 2
    found = evaluate_lists(
        Neighbours(torch.tensor([[0.5, 0.9, 0.9, -0.1]]), torch.tensor([[2, 0, 1, 3]])), query, gallery, ks=(1, 2)
    )
    assert found.metrics == {"recall@1": 0, "recall@2": 1, "map@r": (0 + 1 / 2) / 2, "r_precision": 1 / 2}


def test_short_lists_give_no_figure_that_needs_all_of_a_class():
    gallery = space(7, 20, classes=2)
    found = evaluate_lists(k_reciprocal(gallery, gallery, 3, k1=3, k2=2), gallery, gallery, ks=(1,))
    assert set(found.per_query) == {"recall@1"}
    assert "need lists of 9 items, but these have 3" in found.notes[1]


def test_refuses_lists_that_do_not_fit():
    gallery = space(8, 8, classes=2)
    lists = k_reciprocal(gallery, gallery, 4, k1=3, k2=2)
    with pytest.raises(UsageError, match="recall@8 needs lists of that length"):
        evaluate_lists(lists, gallery, gallery)
    with pytest.raises(BatchError, match="not in the gallery, such as id 77"):
        evaluate_lists(Neighbours(lists.scores, torch.full_like(lists.ids, 77)), gallery, gallery, ks=(1,))
    with pytest.raises(BatchError, match="twice, but that of query 0"):
        evaluate_lists(Neighbours(lists.scores, lists.ids[:, :1].expand(-1, 4)), gallery, gallery, ks=(1,))
    with pytest.raises(BatchError, match="no query has another item"):
        evaluate_lists(lists, gallery._replace(labels=gallery.labels + 9), gallery, ks=(1,))
    nothing = Labelled(torch.ones(0, 1), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(BatchError, match="no query"):
        evaluate_lists(Neighbours(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.int64)), nothing, nothing, ks=())
    with without_shape_checks(), pytest.raises(BatchError, match="one list of scores and ids per query"):
        evaluate_lists(Neighbours(lists.scores[:3], lists.ids), gallery, gallery)


RERANKERS = {
    "query_expansion": lambda side, k: query_expansion(side, side, k=k),
    "database_augmentation": lambda side, k: database_augmentation(side, k=k),
    "k_reciprocal": lambda side, k: k_reciprocal(side, side, 2, k1=k, k2=1),
}


@pytest.mark.parametrize("name", RERANKERS)
def test_refuses_what_can_not_be_reranked(name):
    side, rerank = space(9, 6), RERANKERS[name]
    with pytest.raises(BatchError, match="6 neighbours were asked for, but a query has only 5 other items"):
        rerank(side, 6)
    with pytest.raises(UsageError, match="whole number of at least 1"):
        rerank(side, 0)
    with pytest.raises(BatchError, match="none twice"):
        rerank(side._replace(ids=torch.zeros_like(side.ids)), 2)
    bad = side.embeddings.clone()
    bad[2] = 0
    with pytest.raises(NumericError, match=rf"{name}: .* 1 are zero: id {side.ids[2]}\."):
        rerank(side._replace(embeddings=bad), 2)
    with pytest.raises(NumericError, match=r"6 are zero: id .* and 1 more"):
        rerank(side._replace(embeddings=torch.zeros_like(bad)), 2)
    bad[2] = torch.nan
    with pytest.raises(NumericError, match=rf"id {side.ids[2]}"):
        rerank(side._replace(embeddings=bad), 2)
    with without_shape_checks(), pytest.raises(BatchError, match="whole numbers, one per embedding"):
        rerank(side._replace(embeddings=side.embeddings.tolist(), ids=torch.arange(6)), 2)


def test_refuses_options_and_sides_that_do_not_fit():
    side = space(10, 9)
    with pytest.raises(UsageError, match="k2 must be at most k1"):
        k_reciprocal(side, side, 2, k1=2, k2=3)
    with pytest.raises(UsageError, match="weight"):
        k_reciprocal(side, side, 2, weight=1.5)
    with pytest.raises(UsageError, match="alpha"):
        query_expansion(side, side, k=2, alpha=-1.0)
    narrow = Labelled(side.embeddings[:, :3], side.labels, side.ids)
    with pytest.raises(BatchError, match="equally wide"):
        query_expansion(narrow, side, k=2)

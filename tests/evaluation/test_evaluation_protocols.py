"""Queries against a gallery, groups that are left out, bad input and merging, each against a slow loop or by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.evaluation import _ranking, evaluate, merge, merge_labelled
from accord.types import Labelled
from conformance import without_shape_checks

CUTS = (1, 3, 5, 50)
NAMES = (
    *(f"{family}@{k}" for family in ("recall", "precision", "map", "ndcg") for k in CUTS),
    *("map@r", "r_precision", "mrr", "knn_accuracy"),
)


def items_of(seed, n, classes, dim=4, first=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    labels[: min(n, 3)] = torch.tensor([0, 0, 1])[:n]
    rows = torch.randn(n, dim, generator=generator, dtype=dtype)
    return Labelled(rows, labels, torch.arange(first, first + n))


def slow(gallery, queries, keep):
    """Each metric per query id by the definitions; no ties. `keep(q, g)` says whether an item is searched."""
    unit = [torch.nn.functional.normalize(side.embeddings.double()) for side in (queries, gallery)]
    scores, labels = (unit[0] @ unit[1].T).tolist(), gallery.labels.tolist()
    found = {}
    for q, own in enumerate(queries.labels.tolist()):
        order = [g for g in range(len(labels)) if keep(q, g)]
        order.sort(key=lambda g: -scores[q][g])
        hits = [labels[g] == own for g in order]
        r = sum(hits)
        if not r:
            continue
        precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
        values = {"mrr": 1 / (hits.index(True) + 1), "r_precision": sum(hits[:r]) / r}
        values["map@r"] = sum(p for p, hit in zip(precision[:r], hits, strict=False) if hit) / r
        for k in CUTS:
            values[f"recall@{k}"] = float(any(hits[:k]))
            values[f"precision@{k}"] = sum(hits[:k]) / k
            values[f"map@{k}"] = sum(p for p, hit in zip(precision[:k], hits, strict=False) if hit) / min(k, r)
            gain = sum(1 / math.log2(i + 2) for i, hit in enumerate(hits[:k]) if hit)
            values[f"ndcg@{k}"] = gain / sum(1 / math.log2(i + 2) for i in range(min(k, r)))
        votes = [labels[g] for g in order[:3]]
        most = max(map(votes.count, votes))
        values["knn_accuracy"] = float(next(label for label in votes if votes.count(label) == most) == own)
        found[int(queries.ids[q])] = values
    return found


def agree(found, expected):
    assert found.query_ids.tolist() == list(expected)
    for name in NAMES:
        wanted = [row[name] for row in expected.values()]
        assert found.per_query[name].tolist() == pytest.approx(wanted, abs=1e-12), name


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 60), st.integers(1, 20), st.integers(2, 9), st.sampled_from([0, 1, 2, 3]))
def test_agrees_with_loops_under_every_protocol(seed, n, asked, classes, protocol):
    gallery = items_of(seed, n, classes)
    generator = torch.Generator().manual_seed(seed)
    groups = torch.randint(3, (n,), generator=generator)
    options = {"metrics": NAMES, "clusters": False, "budget_bytes": int(10 ** (3 + seed % 5))}
    if protocol == 0:  # leave-one-out
        agree(evaluate(gallery, **options), slow(gallery, gallery, lambda q, g: q != g))
        return
    queries = items_of(seed + 1, asked, classes, first=n)
    query_groups = torch.randint(3, (asked,), generator=generator)
    same_group = query_groups[:, None] == groups
    same_class = queries.labels[:, None] == gallery.labels
    barred = [None, torch.zeros_like(same_group), same_group & same_class, same_group][protocol]
    if protocol > 1:
        exclude = ["same_class_same_group", "same_group"][protocol - 2]
        options |= {"groups": groups, "query_groups": query_groups, "exclude": exclude}
    expected = slow(gallery, queries, lambda q, g: not barred[q, g])
    if not expected or len(set(gallery.labels.tolist())) < 2:
        with pytest.raises(BatchError):
            evaluate(gallery, queries=queries, **options)
        return
    found = evaluate(gallery, queries=queries, **options)
    agree(found, expected)
    assert found.counts["queries_without_match"] == asked - len(expected)
    assert found.counts["excluded"] == int(barred.sum())


@pytest.mark.parametrize("exclude", ["same_class_same_group", "same_group"])
def test_groups_within_one_set_leave_out_what_they_say(exclude):
    items, groups = items_of(5, 60, 5), torch.arange(60) % 4

    def keep(q, g):
        together = groups[q] == groups[g] and (exclude == "same_group" or items.labels[q] == items.labels[g])
        return q != g and not together

    agree(
        evaluate(items, groups=groups, exclude=exclude, metrics=NAMES, clusters=False, budget_bytes=20_000),
        slow(items, items, keep),
    )


@pytest.mark.parametrize("exclude", ["self", "same_class_same_group", "same_group"])
def test_random_embeddings_score_about_chance_under_every_protocol(exclude):
    n = 900
    rows = torch.randn(n, 24, generator=torch.Generator().manual_seed(0))
    items = Labelled(rows, torch.arange(n) % 9 % 7, torch.arange(n))
    options = {} if exclude == "self" else {"groups": torch.arange(n) % 4, "exclude": exclude}
    names = ("recall@1", "recall@5", "precision@9", "map@7", "ndcg@6", "map@r", "r_precision", "mrr", "knn_accuracy")
    found = evaluate(items, metrics=names, clusters=False, **options)
    assert set(found.chance) == set(names)
    for name, level in found.chance.items():
        # queries share neighbours, so that their values are not independent: 6 instead of 3 deviations
        error = 6 * float(found.per_query[name].std()) / n**0.5
        assert abs(found.metrics[name] - level) < error, name


def test_the_gallery_as_its_own_queries_is_leave_one_out():
    items = items_of(1, 50, 6)
    expected = evaluate(items, clusters=False)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for queries in (items, Labelled(*(c.clone() for c in items)), Labelled(*(c[order] for c in items))):
        found = evaluate(items, queries=queries, clusters=False)
        assert found.metrics == expected.metrics
        assert found.chance == expected.chance


def test_the_gallery_under_other_ids_finds_itself_and_is_told_so():
    items = items_of(1, 50, 6)
    found = evaluate(items, queries=items._replace(ids=items.ids + 50), clusters=False)
    assert found.metrics["recall@1"] == 1
    assert any("under other ids" in note for note in found.notes)
    with pytest.raises(BatchError, match="two labels"):
        evaluate(items, queries=items._replace(ids=items.ids.flip(0)))


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2])
def test_copies_do_not_move_the_figure_without_duplicates(share):
    n = 400
    items = items_of(2, n, 40, dim=6, dtype=torch.float32)
    some = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: round(share * n)]
    more = Labelled(items.embeddings[some], items.labels[some], some + n)
    both = Labelled(*(torch.cat(pair) for pair in zip(items, more, strict=True)))
    clean, found = evaluate(items, clusters=False).metrics, evaluate(both, clusters=False).metrics
    assert found["without_duplicates_recall@1"] == pytest.approx(clean["recall@1"], abs=1e-12)
    assert found["recall@1"] > clean["recall@1"]
    assert "without_duplicates_recall@1" not in clean
    contents = torch.cat([torch.arange(n), some])
    noisy = both._replace(embeddings=both.embeddings + 1e-6)
    said = evaluate(noisy, clusters=False, duplicates=contents).metrics["without_duplicates_recall@1"]
    assert said == pytest.approx(clean["recall@1"], abs=2e-2)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 0.0])
@pytest.mark.parametrize("where", ["query", "gallery", "both"])
@pytest.mark.parametrize("rows", [[7], [0, 7, 11, 20], range(40)])
def test_rows_without_a_direction_never_help(bad, where, rows):
    gallery, queries = items_of(3, 40, 4), items_of(4, 40, 4, first=40)
    clean = evaluate(gallery, queries=queries, metrics=NAMES, clusters=False)
    for side in (gallery, queries):
        if where == "both" or side is (gallery if where == "gallery" else queries):
            side.embeddings[list(rows)] = bad
    with pytest.raises(NumericError, match=r"id \d+"):
        evaluate(gallery, queries=queries, metrics=NAMES, clusters=False)
    found = evaluate(gallery, queries=queries, metrics=NAMES, clusters=False, allow_nonfinite=True)
    assert found.counts["nonfinite"] == len(list(rows)) * (2 if where == "both" else 1)
    for name in NAMES:
        assert bool((found.per_query[name] <= clean.per_query[name]).all()), name
    if len(list(rows)) == 40:
        assert all(found.metrics[name] == 0 for name in NAMES)


def test_rows_without_a_direction_are_misses_among_themselves():
    items = items_of(3, 40, 4)
    clean = evaluate(items, metrics=NAMES, nmi_seeds=1)
    items.embeddings[[3, 9]] = torch.nan
    found = evaluate(items, metrics=NAMES, nmi_seeds=1, allow_nonfinite=True)
    assert all(found.metrics[name] <= clean.metrics[name] for name in NAMES)
    assert found.per_query["mrr"][[3, 9]].tolist() == [0, 0]
    assert found.optimistic["recall@1"] > found.metrics["recall@1"]


def test_a_model_that_gives_nothing_but_nan_scores_nothing():
    items = items_of(3, 12, 3)
    items.embeddings.fill_(torch.nan)
    found = evaluate(items, metrics=NAMES, clusters=False, allow_nonfinite=True)
    assert set(found.metrics.values()) == {0.0}
    assert found.counts["collapsed"] == 1


def test_the_first_right_item_is_ranked_however_deep_and_however_tied():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 150
    for rows in (torch.randn(300, 6, generator=generator), torch.randn(300, 4, generator=generator).sign()):
        items = Labelled(rows, labels, torch.arange(300))
        unit = torch.nn.functional.normalize(rows.double())
        scores = (unit @ unit.T).round(decimals=9).fill_diagonal_(-2)
        partner = scores.gather(1, ((torch.arange(300) + 150) % 300)[:, None])
        before, tied = (scores > partner).sum(1), (scores == partner).sum(1) - 1
        for budget in (2**14, 2**26):
            found = evaluate(items, metrics=("mrr",), clusters=False, budget_bytes=budget)
            assert torch.equal(found.per_query["mrr"], 1 / (before + tied + 1).double())
            assert torch.equal(found.aside["optimistic/mrr"], 1 / (before + 1).double())


def test_neighbours_and_confusions_come_with_the_metrics():
    items = items_of(6, 80, 7)
    unit = torch.nn.functional.normalize(items.embeddings)
    scores, order = (unit @ unit.T).fill_diagonal_(-2).sort(dim=1, descending=True)
    found = evaluate(items, neighbours=5, confusions=100, clusters=False)
    assert found.neighbours.ids.tolist() == order[:, :5].tolist()
    assert torch.allclose(found.neighbours.scores, scores[:, :5].float(), atol=1e-6)
    assert sum(pair.times for pair in found.confusions) == int((found.per_query["recall@1"] == 0).sum())
    few = evaluate(items_of(6, 6, 2), neighbours=9, clusters=False).neighbours
    assert few.ids[:, 5:].eq(-1).all()
    assert few.scores[:, 5:].isneginf().all()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_shares_of_the_queries_merge_to_the_whole_bit_for_bit(seed, parts):
    items = items_of(seed, 40, 5, dtype=torch.float32)
    items.embeddings[30:] = items.embeddings[:10]
    items.labels[30:] = items.labels[:10]
    whole = evaluate(items, metrics=NAMES, clusters=False, neighbours=3)
    shares = []
    for rows in torch.arange(40).tensor_split(parts):
        asked = Labelled(*(column[rows] for column in items))
        shares.append(evaluate(items, queries=asked, metrics=NAMES, clusters=False, neighbours=3))
    found = merge(shares)
    assert found.metrics == whole.metrics
    assert found.chance == whole.chance
    assert found.optimistic == whole.optimistic
    assert found.counts == whole.counts
    assert torch.equal(found.query_ids, whole.query_ids)
    assert torch.equal(found.neighbours.ids, whole.neighbours.ids)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3, 7, 21, 64])
def test_padded_shares_of_a_distributed_run_merge_to_the_whole(n, world):
    items = items_of(n, n, 3)
    padded = [(torch.arange(rank, rank + world * -(-n // world), world)) % n for rank in range(world)]
    shares = [Labelled(*(column[rows] for column in items)) for rows in padded]
    found = merge_labelled(shares)
    assert all(torch.equal(*pair) for pair in zip(found, items, strict=True))


def test_parts_that_do_not_belong_together_are_refused():
    items = items_of(1, 12, 3)
    other = items._replace(embeddings=items.embeddings + 1)
    with pytest.raises(BatchError, match="different embeddings"):
        merge_labelled([items, other])
    with pytest.raises(BatchError, match="no parts"):
        merge_labelled([])
    with pytest.raises(BatchError, match="one width"):
        merge_labelled([items, items._replace(embeddings=items.embeddings.float())])
    found = evaluate(items, clusters=False)
    with pytest.raises(BatchError, match="in several"):
        merge([found, found])
    with pytest.raises(BatchError, match="no evaluations"):
        merge([])
    asked = items_of(1, 12, 3, first=100)
    with pytest.raises(BatchError, match="same gallery"):
        merge([found, evaluate(items_of(2, 13, 3), queries=asked, clusters=False)])


def test_a_share_of_queries_without_copies_merges_with_one_that_has_some():
    gallery = items_of(1, 30, 3)
    fresh, copies = items_of(2, 10, 3, first=100), Labelled(*(column[:5] for column in gallery))
    copies = copies._replace(ids=copies.ids + 200)
    both = Labelled(*(torch.cat(pair) for pair in zip(fresh, copies, strict=True)))
    whole = evaluate(gallery, queries=both, clusters=False)
    assert "without_duplicates_recall@1" in whole.metrics
    shares = [evaluate(gallery, queries=share, clusters=False) for share in (fresh, copies)]
    assert merge(shares).metrics == whole.metrics
    few = [evaluate(gallery, queries=share, clusters=False, metrics=("mrr",)) for share in (fresh, copies)]
    assert list(merge(few).metrics) == ["mrr"]


def test_labels_of_any_size_keep_their_classes():
    items = items_of(7, 40, 4)
    far = items._replace(labels=items.labels * 2 + 2**24 - 3)
    negative = items._replace(labels=-items.labels - 2**40)
    expected = evaluate(items, clusters=False).metrics
    assert evaluate(far, clusters=False).metrics == expected
    assert evaluate(negative, clusters=False).metrics == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_judged_as_the_numbers_it_holds(dtype):
    items = items_of(8, 60, 5)
    half = items._replace(embeddings=items.embeddings.to(dtype))
    wide = half._replace(embeddings=half.embeddings.double())
    narrow, expected = evaluate(half, clusters=False), evaluate(wide, clusters=False)
    assert narrow.metrics == expected.metrics


def test_refuses_what_does_not_fit_with_a_way_out():
    items, asked = items_of(1, 12, 3), items_of(2, 5, 3, first=12)
    groups = torch.zeros(12, dtype=torch.int64)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'recall@1'"):
        evaluate(items, metrics=("recal@1",))
    with pytest.raises(UnknownNameError, match="no metric"):
        evaluate(items, metrics=("recall",))
    with pytest.raises(UnknownNameError, match="Did you mean 'same_group'"):
        evaluate(items, exclude="samegroup", groups=groups)
    with pytest.raises(UsageError, match="nothing is done with them"):
        evaluate(items, groups=groups)
    with pytest.raises(UsageError, match="without queries"):
        evaluate(items, groups=groups, query_groups=groups, exclude="same_group")
    with pytest.raises(BatchError, match="needs query_groups"):
        evaluate(items, queries=asked, groups=groups, exclude="same_group")
    with pytest.raises(BatchError, match="no items in the queries"):
        evaluate(items, queries=Labelled(*(column[:0] for column in asked)))
    with pytest.raises(BatchError, match="one width"):
        evaluate(items, queries=asked._replace(embeddings=asked.embeddings[:, :3]))
    with pytest.raises(BatchError, match="to find"):
        evaluate(items, queries=asked._replace(labels=asked.labels + 100))
    with pytest.raises(UsageError, match="list of at least one name"):
        evaluate(items, metrics="recall@1")
    with without_shape_checks():
        with pytest.raises(BatchError, match="Number named classes"):
            evaluate(Labelled(items.embeddings, list("aabbccaabbcc"), items.ids))
        with pytest.raises(BatchError, match="duplicates must number"):
            evaluate(items, duplicates=groups[:5])
        with pytest.raises(BatchError, match="one entry per embedding"):
            evaluate(items._replace(labels=items.labels[:5]), allow_nonfinite=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 200))
def test_k_beyond_the_gallery_gives_no_wrong_number(seed, k):
    items = items_of(seed, 20, 3)
    names = (f"recall@{k}", f"precision@{k}", "map@r")
    found, base = evaluate(items, metrics=names, clusters=False), evaluate(items, clusters=False)
    assert found.metrics["map@r"] == base.metrics["map@r"]
    if k >= 19:
        assert found.metrics[f"recall@{k}"] == 1
        assert any("can't miss" in note for note in found.notes)
        assert found.metrics[f"precision@{k}"] == pytest.approx(found.chance[f"precision@{k}"])


def test_counting_is_exact_where_all_tie_and_where_products_are_coarse(monkeypatch):
    constant = Labelled(torch.ones(60, 8), torch.arange(60) % 3, torch.arange(60))
    found = evaluate(constant, metrics=("mrr",), clusters=False)
    assert found.per_query["mrr"].tolist() == [1 / 41] * 60
    assert found.aside["optimistic/mrr"].tolist() == [1.0] * 60
    items = items_of(9, 300, 60)
    expected = evaluate(items, metrics=("mrr",), clusters=False).per_query["mrr"]
    monkeypatch.setattr(_ranking, "quick_inner", lambda q, k: (q.bfloat16() @ k.bfloat16().T).float())
    assert torch.equal(evaluate(items, metrics=("mrr",), clusters=False).per_query["mrr"], expected)


def test_products_that_serve_both_sides_find_what_others_find():
    items = items_of(10, 6000, 1500, dim=8, dtype=torch.float32)
    mirrored = evaluate(items, clusters=False, budget_bytes=2**22)
    queries = Labelled(*(column.clone() for column in items))
    swept = evaluate(items, queries=queries, clusters=False, budget_bytes=2**22)
    for name, values in mirrored.per_query.items():
        assert torch.equal(values, swept.per_query[name])

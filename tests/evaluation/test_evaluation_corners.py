"""Corners of the evaluation engine that everyday data never reach."""

import math

import pytest
import torch

from accord.errors import UsageError
from accord.evaluation import evaluate, merge, paired_bootstrap
from accord.evaluation._shortlist import CHUNK, Shortlist
from accord.types import Labelled


def items(count: int, classes: int, dim: int = 6, seed: int = 0) -> Labelled:
    points = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return Labelled(points, torch.arange(count) % classes, torch.arange(count))


def test_one_class_shows_no_difference():
    scores = torch.rand(2, 3, 5, dtype=torch.float64)
    bounds = paired_bootstrap(*scores, torch.zeros(5).long(), draws=10, generator=torch.Generator().manual_seed(0))
    assert all(map(math.isnan, bounds))


def test_copies_may_be_named_for_a_gallery_with_queries_of_its_own():
    gallery, queries = items(12, 3), items(6, 3, seed=1)
    queries = queries._replace(ids=queries.ids + 100)
    gallery.embeddings[3] = gallery.embeddings[0]  # of one class
    named = evaluate(gallery, queries=queries, duplicates=torch.tensor([0, 1, 2, 0, *range(3, 11)]), clusters=False)
    found = evaluate(gallery, queries=queries, clusters=False)
    assert named.metrics == found.metrics
    assert "without_duplicates_recall@1" in named.overall


def test_rows_without_a_direction_alone_are_collapsed():
    gallery = items(8, 2)
    gallery.embeddings[:, 0] = torch.nan  # every row differs in the rest
    found = evaluate(gallery, allow_nonfinite=True, clusters=False)
    assert found.counts["collapsed"] == 1
    assert found.metrics["recall@1"] == 0


def test_clusters_are_not_asked_for_by_name():
    with pytest.raises(UsageError, match="nmi comes with clusters"):
        evaluate(items(8, 2), metrics=["nmi"])


def test_parts_of_one_evaluation_are_merged_without_copies():
    gallery = items(12, 3)
    whole = evaluate(gallery, clusters=False)
    parts = [
        evaluate(gallery, queries=Labelled(*(column[rows] for column in gallery)), clusters=False)
        for rows in (slice(0, 5), slice(5, 12))
    ]
    assert merge(parts).metrics == pytest.approx(whole.metrics, abs=0)


def test_a_gallery_of_nothing_matches_nothing():
    from accord.evaluation._protocol import _matching

    assert _matching(torch.tensor([1, 2]), torch.tensor([]).long()).tolist() == [0, 0]


def test_a_shortlist_offered_columns_is_that_offered_rows():
    generator = torch.Generator().manual_seed(0)
    queries, width = 5, 3
    first, later = torch.rand(queries, CHUNK, generator=generator), torch.rand(queries, 40 * CHUNK, generator=generator)
    later = later * 0.5  # few are better than what is known
    later[2, 77] = later[4, 5] = later[4, 6] = 2.0
    across, along = (Shortlist(queries, width, torch.device("cpu")) for _ in range(2))
    for shortlist in (across, along):
        shortlist.offer(slice(None), first, 0)
    across.offer_across(slice(0, queries), later.T.contiguous(), CHUNK)
    along.offer(slice(0, queries), later, CHUNK)
    for query in range(queries):
        order = [shortlist.scores[query].argsort(descending=True) for shortlist in (across, along)]
        assert torch.equal(across.scores[query][order[0]], along.scores[query][order[1]])
        assert torch.equal(across.columns[query][order[0]], along.columns[query][order[1]])
    assert CHUNK + 77 in across.columns[2].tolist()

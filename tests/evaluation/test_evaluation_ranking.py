"""The ranking behind every metric: complete, exact, and independent of how the fast products were made."""

import itertools
import math

import pytest
import torch

from accord.evaluation import _ranking
from accord.evaluation._protocol import pose
from accord.evaluation._ranking import rank
from accord.evaluation._scores import TIE, exact_pairs, exact_rows
from accord.types import Labelled


def gallery_of(embeddings, classes=5):
    n = len(embeddings)
    items = Labelled(embeddings, torch.arange(n) % classes, torch.arange(n))
    return pose("test", items, None, None, None, "self", False)


def ranked(gallery, depth, **options):
    """Per query, the set of neighbours and their scores."""
    queries = torch.arange(len(gallery.gallery))
    found = {}
    for group in rank(gallery, queries, torch.full_like(queries, depth), ordered=4, **options):
        for query, scores, columns in zip(*(part.tolist() for part in group), strict=True):
            assert scores == sorted(scores, reverse=True)
            found[query] = {column: score for column, score in zip(columns, scores, strict=True) if score > -math.inf}
    return found


@pytest.mark.parametrize("dim", [1, 3, 24, 513])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_scores_agree_with_double_precision_and_with_each_other(dim, dtype):
    items = gallery_of(torch.randn(40, dim, generator=torch.Generator().manual_seed(0), dtype=dtype)).gallery
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
    unit = torch.nn.functional.normalize(items.embeddings.double())
    whole = exact_rows(items, torch.arange(40), items)
    assert torch.allclose(whole, unit @ unit.T, rtol=0, atol=1e-13)
    assert torch.equal(whole, whole.T)
    assert torch.equal(whole, exact_pairs(items, rows.flatten(), items, columns.flatten()).reshape(40, 40))
    assert torch.equal(whole[7:9], exact_rows(items, torch.arange(7, 9), items))


def test_codes_that_agree_in_equally_many_places_tie():
    codes = torch.randn(60, 48, generator=torch.Generator().manual_seed(1)).sign()
    items = gallery_of(codes / 48**0.5).gallery
    scores = exact_rows(items, torch.arange(60), items)
    agreements = (codes @ codes.T).long()
    for level in agreements.unique():
        values = scores[agreements == level]
        assert values.max() - values.min() == 0


@pytest.mark.parametrize("depth", [1, 4, 30, 119, 500])
@pytest.mark.parametrize("kind", ["gaussian", "codes", "almost constant", "copies"])
def test_holds_everything_down_to_the_depth_with_its_ties(depth, kind):
    embeddings = torch.randn(120, 12, generator=torch.Generator().manual_seed(2))
    if kind == "codes":
        embeddings = embeddings[:, :5].sign()
    if kind == "almost constant":
        embeddings = 1 + 1e-5 * embeddings
    if kind == "copies":
        embeddings = embeddings[:30].repeat(4, 1)
    gallery = gallery_of(embeddings)
    exact = exact_rows(gallery.gallery, torch.arange(120), gallery.gallery).fill_diagonal_(-torch.inf)
    for query, found in ranked(gallery, depth, budget_bytes=10_000).items():
        last = exact[query].sort(descending=True).values[min(depth, 119) - 1]
        wanted = (exact[query] >= last - TIE).nonzero()[:, 0].tolist()
        assert set(wanted) <= set(found)
        assert query not in found
        # scores in float32 stay only where their order is beyond doubt
        assert all(abs(found[column] - float(exact[query, column])) < 1e-5 for column in wanted)
        # between right and wrong items the order is exact, and among the first all the way
        order = sorted(found, key=found.__getitem__, reverse=True)
        for place, (ahead, behind) in enumerate(itertools.pairwise(order)):
            if place < 3 or (ahead - query) % 5 == 0 != (behind - query) % 5:
                assert float(exact[query, ahead]) >= float(exact[query, behind]) - TIE


def test_a_platform_that_multiplies_coarsely_is_found_out(monkeypatch):
    def coarse(q, k):
        return (q.bfloat16() @ k.bfloat16().T).float()

    gallery = gallery_of(torch.randn(200, 32, generator=torch.Generator().manual_seed(3)))
    expected = ranked(gallery, 5)
    monkeypatch.setattr(_ranking, "quick_inner", coarse)
    found = ranked(gallery, 5)
    for query, scores in expected.items():
        best = sorted(scores, key=scores.__getitem__)[-5:]
        assert sorted(found[query], key=found[query].__getitem__)[-5:] == best

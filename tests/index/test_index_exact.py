"""The exact index: what it finds, in which order, what it refuses, and that it comes back from tensors as it was."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import ArtifactError, BatchError, NumericError, UsageError
from accord.index import ExactIndex
from accord.types import Index, Labelled


def random_items(seed, n, dim=8, first_id=0):
    generator = torch.Generator().manual_seed(seed)
    ids = first_id + torch.randperm(n, generator=generator)
    return Labelled(torch.randn(n, dim, generator=generator), torch.arange(n) % 5, ids)


def slow(items, query, k, excluded=-1):
    """Ids of the k nearest by float64 cosine, equal scores by id."""
    rows = torch.nn.functional.normalize(items.embeddings.double())
    query = torch.nn.functional.normalize(query.double(), dim=0)
    table = [(-round(float(row @ query), 12), int(item)) for row, item in zip(rows, items.ids, strict=True)]
    return [item for _, item in sorted(table) if item != excluded][:k]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 45), st.sampled_from([1, 2000, 2**25]))
def test_finds_what_a_loop_finds(seed, n, k, budget):
    items, queries = random_items(seed, n), random_items(seed + 1, 6)
    exclude = torch.tensor([-1, 0, 1, 999, 0, n - 1])
    found = ExactIndex(items, budget_bytes=budget).search(queries.embeddings, k, exclude=exclude)
    for row, (query, excluded) in enumerate(zip(queries.embeddings, exclude.tolist(), strict=True)):
        expected = slow(items, query, k, excluded)
        assert found.ids[row].tolist() == expected + [-1] * (k - len(expected))
        assert bool((found.scores[row, len(expected) :] == -torch.inf).all())
        assert bool((found.scores[row].diff() <= 0)[: max(0, len(expected) - 1)].all())


def test_scores_are_cosines_in_single_precision():
    items = random_items(0, 30)
    found = ExactIndex(items).search(5 * items.embeddings, 1)
    assert found.ids[:, 0].tolist() == items.ids.tolist()
    assert found.scores.dtype == torch.float32
    assert torch.allclose(found.scores, torch.ones(30, 1), atol=1e-6)
    assert isinstance(ExactIndex(items), Index)


@pytest.mark.parametrize("copies", [3, 60])
def test_equal_scores_are_ordered_by_id(copies):
    base = random_items(1, 10)
    ids = torch.randperm(10 * copies, generator=torch.Generator().manual_seed(0))
    items = Labelled(base.embeddings.repeat(copies, 1), base.labels.repeat(copies), ids)
    found = ExactIndex(items).search(base.embeddings, 2)
    for row in range(10):
        assert found.ids[row].tolist() == sorted(ids[row::10].tolist())[:2]


def test_an_answer_does_not_depend_on_the_other_queries():
    items, queries = random_items(2, 500, 64), random_items(3, 64, 64)
    together = ExactIndex(items).search(queries.embeddings, 10)
    for row in range(64):
        alone = ExactIndex(items, budget_bytes=5000).search(queries.embeddings[row : row + 1], 10)
        assert torch.equal(alone.ids[0], together.ids[row])
        assert torch.equal(alone.scores[0], together.scores[row])


def test_items_are_added_and_removed_by_id():
    index, more = ExactIndex(random_items(4, 20)), random_items(5, 10, first_id=100)
    index.add(more)
    assert len(index) == 30
    assert index.search(more.embeddings, 1).ids[:, 0].tolist() == more.ids.tolist()
    index.remove(more.ids[:4])
    assert len(index) == 26
    assert not set(more.ids[:4].tolist()) & set(index.search(more.embeddings, 26).ids.flatten().tolist())


def test_what_is_refused_leaves_the_index_as_it_was():
    items = random_items(6, 20)
    index = ExactIndex(items)
    with pytest.raises(BatchError, match="already has id 0"):
        index.add(random_items(7, 1))
    with pytest.raises(BatchError, match="dimension of the gallery"):
        index.add(random_items(7, 3, dim=4, first_id=50))
    bad = random_items(8, 15, first_id=50)
    bad.embeddings[:12] = 0
    with pytest.raises(NumericError, match=r"12 of 15 .* and 2 more"):
        index.add(bad)
    with pytest.raises(BatchError, match="no id 77"):
        index.remove(torch.tensor([3, 77]))
    assert torch.equal(index.labelled.ids, items.ids)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_refuses_rows_that_are_not_finite_by_id(value):
    items = random_items(9, 5)
    items.embeddings[3, 0] = value
    with pytest.raises(NumericError, match=f"id {int(items.ids[3])}"):
        ExactIndex(items)
    with pytest.raises(NumericError, match="query 3"):
        ExactIndex(random_items(9, 5)).search(items.embeddings, 1)


def test_refuses_what_does_not_fit():
    items = random_items(10, 5)
    index = ExactIndex(items)
    with pytest.raises(BatchError, match="one entry per embedding"):
        ExactIndex(items._replace(ids=torch.arange(4)))
    with pytest.raises(BatchError, match="unique and not negative, unlike -1, 2"):
        ExactIndex(items._replace(ids=torch.tensor([0, 2, 2, -1, 4])))
    with pytest.raises(BatchError, match="dimension of the gallery"):
        index.search(torch.ones(2, 3), 1)
    with pytest.raises(BatchError, match="one id per query"):
        index.search(items.embeddings, 1, exclude=torch.arange(3))
    with pytest.raises(UsageError, match="k must be"):
        index.search(items.embeddings, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_any_floating_type_and_any_length(dtype):
    items = random_items(11, 10)
    scaled = items._replace(embeddings=(items.embeddings * 1e-3).to(dtype))
    found = ExactIndex(scaled).search(scaled.embeddings, 1)
    assert found.ids[:, 0].tolist() == items.ids.tolist()


def test_comes_back_from_tensors_bit_for_bit():
    index = ExactIndex(random_items(12, 40))
    queries = random_items(13, 7).embeddings
    again = ExactIndex.from_tensors({name: tensor.clone() for name, tensor in index.to_tensors().items()})
    assert all(torch.equal(one, two) for one, two in zip(index.labelled, again.labelled, strict=True))
    assert all(
        torch.equal(one, two) for one, two in zip(index.search(queries, 5), again.search(queries, 5), strict=True)
    )


def test_refuses_tensors_that_are_no_index():
    tensors = ExactIndex(random_items(14, 6)).to_tensors()
    with pytest.raises(ArtifactError, match="expected the tensors"):
        ExactIndex.from_tensors({"ids": tensors["ids"]})
    with pytest.raises(ArtifactError, match="no index"):
        ExactIndex.from_tensors({**tensors, "embeddings": tensors["embeddings"] * torch.nan})


def test_an_empty_gallery_and_an_empty_question_have_empty_answers():
    empty = Labelled(torch.empty(0, 8), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    index = ExactIndex(empty)
    assert index.search(torch.ones(2, 8), 3, exclude=torch.tensor([1, -1])).ids.tolist() == [[-1] * 3] * 2
    index.add(random_items(15, 4))
    assert index.search(torch.empty(0, 8), 3).ids.shape == (0, 3)


def test_a_gallery_of_several_blocks_has_unit_rows():
    rows = torch.randn(40_000, 64, generator=torch.Generator().manual_seed(0)) * 3
    kept = ExactIndex(Labelled(rows, torch.arange(40_000) % 7, torch.arange(40_000))).labelled.embeddings
    assert torch.equal(kept[::9999], torch.nn.functional.normalize(rows[::9999].double(), dim=1).float())
    assert torch.allclose(kept.norm(dim=1), torch.ones(40_000))

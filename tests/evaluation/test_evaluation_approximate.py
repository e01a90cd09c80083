"""An approximate index is judged by what it finds, and its recall against exact search is always told."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import evaluate, evaluate_index, index_recall
from accord.index import ExactIndex
from accord.types import Labelled, Neighbours

NONE = -1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def space(items: int, *, classes: int = 4, dim: int = 5, seed: int = 0, first: int = 100) -> Labelled:
    """Random items whose ids are not their rows."""
    source = generator(seed)
    labels = torch.arange(items) % classes
    return Labelled(torch.randn(items, dim, generator=source), labels, torch.randperm(items, generator=source) + first)


class Told:
    """An index that answers what it was told to, as many columns as are asked for."""

    def __init__(self, answer: Callable[[Tensor, int], Neighbours]) -> None:
        self.answer = answer

    def search(self, queries: Tensor, k: int) -> Neighbours:
        return self.answer(queries, k)


def forgetful(labelled: Labelled, share: float, *, seed: int = 1) -> Told:
    """Exact search in a part of the items only: what an approximate index does where it does not look."""
    kept = torch.rand(len(labelled.ids), generator=generator(seed)) < share
    index = ExactIndex(Labelled(*(column[kept] for column in labelled)))
    return Told(lambda queries, k: index.search(queries, k))


def recall_by_loops(index: Told, labelled: Labelled, queries: Labelled, k: int) -> float:
    """The definition: of the k best scores of each query, how many of the items found reach the lowest."""
    unit = torch.nn.functional.normalize(labelled.embeddings.double(), dim=1)
    ids, found, total = labelled.ids.tolist(), 0, 0
    asked = torch.nn.functional.normalize(queries.embeddings.double(), dim=1)
    answers = index.search(queries.embeddings, min(k + 1, len(ids))).ids.tolist()
    for query, own, answer in zip(asked, queries.ids.tolist(), answers, strict=True):
        scores = {item: float(query @ key) for item, key in zip(ids, unit, strict=True) if item != own}
        lowest = sorted(scores.values(), reverse=True)[:k][-1]
        given_items = [item for item in answer if item not in (own, NONE)][:k]
        found += sum(scores[item] >= lowest - 1e-12 for item in given_items)
        total += min(k, len(scores))
    return found / total


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.2, 1.0), st.booleans())
def test_recall_is_what_a_slow_loop_counts(seed: int, k: int, share: float, others: bool) -> None:
    labelled = space(30, seed=seed)
    queries = space(9, seed=seed + 1, first=110) if others else None
    index = forgetful(labelled, share, seed=seed)
    found = index_recall(index, labelled, k=k, queries=queries, generator=generator())
    assert found == pytest.approx(recall_by_loops(index, labelled, queries or labelled, k))


def test_exact_search_finds_everything_and_gives_the_figures_of_evaluate() -> None:
    labelled = space(60)
    names = ["recall@1", "recall@8", "map@r", "r_precision"]
    found = evaluate_index(ExactIndex(labelled), labelled, metrics=names, generator=generator())
    exact = evaluate(labelled, metrics=names, clusters=False)
    assert {name: found.metrics[name] for name in names} == pytest.approx({n: exact.metrics[n] for n in names})
    assert list(found.per_query) == names
    assert found.overall == {"index_recall@14": 1.0}
    assert found.counts["short_lists"] == 0
    assert "it found 100.00 % of the 14 nearest items that exact search finds, measured on 60 queries" in found.notes[0]
    assert len(found.notes) == 1


def test_queries_against_a_gallery_may_ask_for_all_of_it() -> None:
    gallery, queries = space(12), space(5, seed=2, first=0)
    found = evaluate_index(
        ExactIndex(gallery), gallery, queries=queries, metrics=["recall@12", "map@r"], generator=generator()
    )
    exact = evaluate(gallery, queries=queries, metrics=["recall@12", "map@r"], clusters=False)
    assert found.metrics["map@r"] == pytest.approx(exact.metrics["map@r"])
    assert index_recall(ExactIndex(gallery), gallery, k=12, queries=queries, generator=generator()) == 1
    itself = gallery._replace(embeddings=gallery.embeddings.clone())
    assert index_recall(ExactIndex(gallery), gallery, k=12, queries=itself, generator=generator()) == 1


def test_a_worse_index_finds_less_and_says_so() -> None:
    labelled = space(200, dim=3)
    index = forgetful(labelled, 0.5)
    recall = index_recall(index, labelled, k=8, generator=generator())
    found = evaluate_index(index, labelled, generator=generator())
    assert found.overall["index_recall@8"] == recall
    assert 0.3 < recall < 0.7
    assert f"{100 * recall:.2f} %" in found.notes[0]


def test_a_sample_is_drawn_by_the_generator() -> None:
    labelled = space(200, dim=3)
    index = forgetful(labelled, 0.5)
    draws = [index_recall(index, labelled, k=3, sample=20, generator=generator(seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    notes = evaluate_index(index, labelled, sample=20, generator=generator()).notes
    assert "measured on 20 queries" in notes[0]


def test_of_items_that_tie_with_the_last_any_will_do() -> None:
    # items 1, 2 and 3 are one direction; 0 asks for two of them, and every choice is right
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [0.0, 1.0]])
    labelled = Labelled(embeddings, torch.tensor([0, 0, 0, 1, 1]), torch.arange(5))
    query = Labelled(embeddings[:1], labelled.labels[:1], labelled.ids[:1])
    for pair in ([1, 2], [1, 3], [3, 2]):
        told = Told(
            lambda queries, k, pair=pair: Neighbours(torch.tensor([[0.7, 0.7, 0.7]]), torch.tensor([[0, *pair]]))
        )
        assert index_recall(told, labelled, k=2, queries=query, generator=generator()) == 1
    told = Told(lambda queries, k: Neighbours(torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[4, 1, 2]])))
    assert index_recall(told, labelled, k=2, queries=query, generator=generator()) == 0.5, "4 is not, and 2 is third"


def test_an_absent_neighbour_is_a_miss_and_never_the_last_item() -> None:
    # -1 read as a row would be the last item, which is right for every query of class 1
    labelled = Labelled(torch.eye(4), torch.tensor([0, 1, 1, 1]), torch.arange(4))
    nobody = Told(lambda queries, k: Neighbours(torch.full((4, k), -torch.inf), torch.full((4, k), NONE)))
    found = evaluate_index(nobody, labelled, metrics=["recall@1", "recall@2"], generator=generator())
    assert found.metrics == {"recall@1": 0, "recall@2": 0, "index_recall@2": 0}
    assert found.counts == {"queries": 3, "gallery": 4, "singletons": 1, "short_lists": 4}
    assert "4 queries were given fewer than 2 neighbours; the absent ones count as misses." in found.notes


def test_what_needs_all_of_a_class_is_refused_on_shorter_lists() -> None:
    labelled = space(40, classes=2)
    half = forgetful(labelled, 0.3)
    with pytest.raises(UsageError, match="map@r and r_precision take lists of 19 items"):
        evaluate_index(half, labelled, metrics=["map@r", "r_precision"], generator=generator())
    assert evaluate_index(half, labelled, metrics=["recall@20"], generator=generator()).counts["short_lists"] == 40


def _answer(scores: Tensor | None = None, ids: Tensor | None = None) -> Told:
    def answer(queries: Tensor, k: int) -> Neighbours:
        right = torch.arange(100, 100 + k).expand(len(queries), k)
        return Neighbours(torch.zeros(len(queries), k) if scores is None else scores, right if ids is None else ids)

    return Told(answer)


def test_refuses_answers_that_do_not_fit() -> None:
    labelled = space(6, classes=2)
    wrong = {
        "must answer with 3 scores and whole ids for each of 6 queries": _answer(ids=torch.zeros(6, 2).long()),
        "found id 7, which is not among the items; -1 means none": _answer(
            ids=torch.tensor([[7, 100, NONE]]).expand(6, 3)
        ),
        "named an item twice for the query with id": _answer(ids=torch.full((6, 3), 100)),
    }
    for reason, index in wrong.items():
        with pytest.raises(BatchError, match=reason):
            index_recall(index, labelled, k=2, generator=generator())
        with pytest.raises(BatchError, match=reason):
            evaluate_index(index, labelled, metrics=["recall@2"], generator=generator())
    with pytest.raises(NumericError, match="scores of the index are no numbers"):
        index_recall(_answer(scores=torch.full((6, 3), torch.nan)), labelled, k=2, generator=generator())


def test_refuses_wrong_wishes() -> None:
    labelled = space(6, classes=2)
    index = ExactIndex(labelled)
    with pytest.raises(UsageError, match="lists of 6 neighbours were asked for, but there are 5 to find"):
        index_recall(index, labelled, k=6, generator=generator())
    with pytest.raises(UsageError, match="k must be a whole number of at least 1"):
        index_recall(index, labelled, k=0, generator=generator())
    with pytest.raises(UsageError, match="sample must be a whole number"):
        index_recall(index, labelled, k=1, sample=0, generator=generator())
    with pytest.raises(UsageError, match="lists of 8 neighbours were asked for"):
        evaluate_index(index, labelled, generator=generator())
    with pytest.raises(UsageError, match="recall@k, map@r and r_precision only, not mrr"):
        evaluate_index(index, labelled, metrics=["recall@1", "mrr"], generator=generator())
    with pytest.raises(UsageError, match="Did you mean 'recall@1'"):
        evaluate_index(index, labelled, metrics=["recal@1"], generator=generator())
    with pytest.raises(UsageError, match="sample must be a whole number"):
        evaluate_index(index, labelled, metrics=["recall@1"], sample=0, generator=generator())


class Faiss:
    """A faiss index over unit rows with our ids; faiss itself marks an absent neighbour by -1."""

    def __init__(self, index: object, labelled: Labelled) -> None:
        self.index, self.ids = index, labelled.ids
        unit = torch.nn.functional.normalize(labelled.embeddings, dim=1).numpy()
        index.train(unit)
        index.add(unit)

    def search(self, queries: Tensor, k: int) -> Neighbours:
        scores, rows = map(torch.from_numpy, self.index.search(queries.numpy(), k))
        return Neighbours(scores, torch.where(rows >= 0, self.ids[rows.clamp_min(0)], NONE))


def test_measures_what_faiss_finds() -> None:
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)
    labelled = space(600, classes=60, dim=16)
    flat = Faiss(faiss.IndexFlatIP(16), labelled)
    assert index_recall(flat, labelled, k=10, generator=generator()) == 1
    graph = Faiss(faiss.IndexHNSWFlat(16, 4, faiss.METRIC_INNER_PRODUCT), labelled)
    graph.index.hnsw.efSearch = 4
    narrow = index_recall(graph, labelled, k=10, generator=generator())
    graph.index.hnsw.efSearch = 400
    wide = index_recall(graph, labelled, k=10, generator=generator())
    assert narrow < wide <= 1
    cells = Faiss(faiss.IndexIVFFlat(faiss.IndexFlatIP(16), 16, 20, faiss.METRIC_INNER_PRODUCT), labelled)
    found = evaluate_index(cells, labelled, metrics=["recall@1", "recall@60"], generator=generator())
    assert found.counts["short_lists"] > 0, "one cell of twenty holds fewer than 61 items"
    assert 0.05 < found.overall["index_recall@60"] < 0.9
    assert found.metrics["recall@60"] <= evaluate(labelled, metrics=["recall@60"], clusters=False).metrics["recall@60"]
    with pytest.raises(UsageError, match="nprobe"):
        evaluate_index(cells, space(600, classes=6, dim=16), metrics=["map@r"], generator=generator())

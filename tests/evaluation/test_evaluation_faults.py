"""Figures that must not be wrong in silence: ties, singletons, distributed shares, near-ties, and a numpy oracle.

`figures` and `votes` are written from the formulas of docs/evaluation.md, not from the code they judge.
"""

import datetime
import itertools
import math
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score
from torch import distributed
from torch.utils.data import DistributedSampler

from accord.errors import BatchError, NumericError
from accord.evaluation import evaluate, merge_labelled
from accord.types import Evaluation, Labelled

CUTS = (1, 2, 3, 5, 8, 100)
NAMES = (
    *(f"{family}@{k}" for family in ("recall", "precision", "map", "ndcg") for k in CUTS),
    *("map@r", "r_precision", "mrr", "knn_accuracy"),
)
EXCLUSIONS = ("self", "same_class_same_group", "same_group")
Hits = np.ndarray  # (row, rank) bool: whether the item at this rank is right; False where the list has ended


def figures(hits: Hits) -> dict[str, np.ndarray]:
    """Every metric of ranked lists, one list per row, from its formula."""
    rank = np.arange(1, hits.shape[1] + 1)
    right, precision = hits.sum(1), hits.cumsum(1) / rank
    gain = np.append(0.0, (1 / np.log2(1 + rank)).cumsum())
    found = {"mrr": np.where(hits.any(1), 1 / (1 + hits.argmax(1)), 0.0)}
    inside = rank <= right[:, None]
    found["r_precision"] = (hits & inside).sum(1) / right
    found["map@r"] = (precision * hits * inside).sum(1) / right
    for k in CUTS:
        most = np.minimum(k, right)
        found[f"recall@{k}"] = hits[:, :k].any(1) * 1.0
        found[f"precision@{k}"] = hits[:, :k].sum(1) / k
        found[f"map@{k}"] = (precision * hits)[:, :k].sum(1) / most
        found[f"ndcg@{k}"] = (hits / np.log2(1 + rank))[:, :k].sum(1) / gain[most]
    return found


def votes(nearest: Sequence[int], own: int) -> bool:
    """Whether the class with most votes is the right one; equal votes go to the class that comes first."""
    most = max(Counter(nearest).values())
    return next(label for label in nearest if nearest.count(label) == most) == own


def starts(levels: list[list[int]], own: int, k: int) -> Iterator[tuple[int, ...]]:
    """The classes of the k nearest in every order of tied items; those that start with strangers come first."""
    if k < 1 or not levels:
        yield ()
        return
    there, length = Counter(levels[0]), min(k, len(levels[0]))
    for head in itertools.product(sorted(there, key=lambda label: label == own), repeat=length):
        if all(times <= there[label] for label, times in Counter(head).items()):
            yield from (head + tail for tail in starts(levels[1:], own, k - length))


def cosines(queries: Labelled, gallery: Labelled) -> np.ndarray:
    """Scores in double precision, rounded so that those equal on paper are equal here."""
    unit = [torch.nn.functional.normalize(side.embeddings.double()).numpy() for side in (queries, gallery)]
    return (unit[0] @ unit[1].T).round(10)


def oracle(gallery: Labelled, queries: Labelled, searched: np.ndarray, *, worst: bool = True) -> dict[str, np.ndarray]:
    """Every metric of the queries that have something to find, with ties against (or for) them."""
    scores = np.where(searched, cosines(queries, gallery), -np.inf)
    labels, owns = gallery.labels.numpy(), queries.labels.numpy()
    right = (labels == owns[:, None]) & searched
    asked = right.any(1)
    scores, right, searched = scores[asked], right[asked], searched[asked]
    order = np.lexsort((right if worst else ~right, -scores), axis=-1)
    found = figures(np.take_along_axis(right, order, 1))
    if worst:
        found["knn_accuracy"] = np.array(
            [_wins(*row, labels, own) for row, own in zip(zip(scores, searched, strict=True), owns[asked], strict=True)]
        )
    return found


def _wins(scores: np.ndarray, searched: np.ndarray, labels: np.ndarray, own: int) -> float:
    levels = [labels[searched & (scores == level)].tolist() for level in np.unique(scores[searched])[::-1][:3]]
    return float(all(votes(start, own) for start in starts(levels, own, 3)))


def largest_difference(found: Evaluation, gallery: Labelled, queries: Labelled, searched: np.ndarray) -> float:
    """Between evaluate and the oracle, over all metrics and queries, both for the worst and the best order."""
    expected, best = (oracle(gallery, queries, searched, worst=worst) for worst in (True, False))
    pairs = [(found.per_query[name].numpy(), expected[name]) for name in NAMES]
    pairs += [(found.aside[f"optimistic/{name}"].numpy(), best[name]) for name in best]
    return max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)


def labelled(rows: torch.Tensor, labels: torch.Tensor, first: int = 0) -> Labelled:
    return Labelled(rows, labels, torch.arange(first, first + len(labels)))


def random_items(generator: torch.Generator, n: int, classes: int, kind: str, first: int = 0) -> Labelled:
    """Items with scores all different, with copies among them, or with few different scores."""
    labels = torch.randint(classes, (n,), generator=generator)
    labels[:3] = torch.tensor([0, 0, 1])[:n]
    rows = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    if kind == "codes":
        rows = rows.sign()
    if kind == "copies":
        rows[torch.randint(n, (n // 4,), generator=generator)] = rows[0]
        rows[n // 2 :: 2] = rows[: len(rows[n // 2 :: 2])]
    if kind == "rounded":
        rows = rows.round(decimals=0) + torch.tensor([0, 0, 0, 0, 0.5], dtype=torch.float64)
    return labelled(rows, labels, first)


# C3 — ties count against the query, and the other end is told


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(4, 7))
def test_worst_and_optimistic_are_the_ends_of_all_orders_of_tied_items(data: st.DataObject, n: int) -> None:
    codes = data.draw(st.lists(st.sampled_from([(1, 1), (1, -1), (2, 2)]), min_size=n, max_size=n))
    labels = [0, 0, 1, *data.draw(st.lists(st.integers(0, 2), min_size=n - 3, max_size=n - 3))]
    items = labelled(torch.tensor(codes, dtype=torch.float64), torch.tensor(labels))
    found = evaluate(items, metrics=NAMES, clusters=False)
    scores = cosines(items, items)
    for row, query in enumerate(found.query_ids.tolist()):
        others = [other for other in range(n) if other != query]
        orders = [order for order in itertools.permutations(others) if (np.diff(scores[query][list(order)]) <= 0).all()]
        tried = figures(np.array([[labels[other] == labels[query] for other in order] for order in orders]))
        tried["knn_accuracy"] = np.array(
            [votes([labels[o] for o in order[:3]], labels[query]) for order in orders], dtype=float
        )
        for name, values in tried.items():
            assert float(found.per_query[name][row]) == pytest.approx(values.min(), abs=1e-12), name
            if name != "knn_accuracy":
                best = float(found.aside[f"optimistic/{name}"][row])
                assert best == pytest.approx(values.max(), abs=1e-12), name
                assert found.per_query[name][row] - 1e-12 <= values.mean() <= best + 1e-12


# C6 — shares of a distributed run


def _shared_items(n: int) -> Labelled:
    rows = torch.randn(n, 6, generator=torch.Generator().manual_seed(n))
    return labelled(rows, torch.arange(n) % max(2, n // 4))


def _judged(items: Labelled) -> tuple[object, ...]:
    """All that an evaluation says, or why it was refused."""
    try:
        found = evaluate(items, metrics=NAMES, nmi_seeds=1)
    except BatchError as error:
        return (str(error),)
    values = {name: column.tolist() for name, column in {**found.per_query, **found.aside}.items()}
    return (values, found.metrics, found.chance, found.counts, found.notes, found.query_ids.tolist())


def _gathered(items: Labelled, rank: int, world: int, shuffle: bool, spoil: bool = False) -> list[Labelled]:
    sampler = DistributedSampler(range(len(items.labels)), world, rank, shuffle=shuffle)
    rows = torch.tensor(list(sampler))
    share = Labelled(*(column[rows] for column in items))
    if spoil and rank == world - 1:
        share.embeddings[-1] += 1e-6
    parts: list[Labelled] = [share] * world
    distributed.all_gather_object(parts, share)
    return parts


def _rank(rank: int, world: int, file: str, told: "multiprocessing.SimpleQueue[list[object]]") -> None:
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=60)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=wait)
    said: list[object] = []
    for n, shuffle in itertools.product(SIZES, (False, True)):
        said.append(_judged(merge_labelled(_gathered(_shared_items(n), rank, world, shuffle))))
    with pytest.raises(BatchError, match=r"(?s)an id must mean one item, but 1 are.*evaluation mode"):
        merge_labelled([*_gathered(_shared_items(7), rank, world, False, spoil=True), _shared_items(7)])
    distributed.destroy_process_group()
    told.put(said)


SIZES = (1, 2, 3, 7, 21, 64)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_rank_of_a_distributed_run_gets_the_bits_of_one_process(world: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # importing everything again would take most of the time
    told = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(rank, world, str(tmp_path / "meet"), told)) for rank in range(world)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=90)
    assert [process.exitcode for process in ranks] == [0] * world
    expected = [_judged(_shared_items(n)) for n, _ in itertools.product(SIZES, (False, True))]
    assert [len(said) for said in expected] == [1] * 4 + [6] * 8  # one or two items are refused
    assert [told.get() for _ in ranks] == [expected] * world


# C11 — the formulas


@pytest.mark.parametrize("kind", ["distinct", "copies", "codes", "rounded"])
def test_agrees_with_an_oracle_on_250_random_problems(kind: str) -> None:
    generator = torch.Generator().manual_seed(len(kind))
    differences: list[float] = []
    while len(differences) < 250:
        n, asked, classes, exclude, split = (
            int(torch.randint(low, high, (), generator=generator))
            for low, high in ((4, 61), (1, 31), (2, 13), (0, 3), (0, 2))
        )
        gallery = random_items(generator, n, classes, kind)
        queries = random_items(generator, asked, classes, kind, first=n) if split else gallery
        groups, query_groups = (
            torch.randint(3, (len(side.labels),), generator=generator) for side in (gallery, queries)
        )
        query_groups = query_groups if split else groups
        alike = [
            np.equal.outer(q.numpy(), g.numpy())
            for q, g in zip((query_groups, queries.labels), (groups, gallery.labels), strict=True)
        ]
        own = np.equal.outer(queries.ids.numpy(), gallery.ids.numpy())
        searched = ~(own | (False, alike[0] & alike[1], alike[0])[exclude])
        if not (searched & alike[1]).any():
            continue
        options = {"groups": groups, "exclude": EXCLUSIONS[exclude]} if exclude else {}
        options |= {"query_groups": query_groups} if exclude and split else {}
        found = evaluate(gallery, queries=queries if split else None, metrics=NAMES, clusters=False, **options)
        differences.append(largest_difference(found, gallery, queries, searched))
    assert max(differences) <= 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_learn_where_nothing_ties(seed: int) -> None:
    items = random_items(torch.Generator().manual_seed(seed), 50, 6, "distinct")
    found = evaluate(items, metrics=("map@100", "ndcg@5", "ndcg@100"), clusters=False)
    scores = cosines(items, items)
    for row, query in enumerate(found.query_ids.tolist()):
        others = np.arange(50) != query
        right = (items.labels[query] == items.labels).numpy()[others]
        precision = average_precision_score(right, scores[query][others])
        assert float(found.per_query["map@100"][row]) == pytest.approx(precision, abs=1e-12)
        for name, k in (("ndcg@5", 5), ("ndcg@100", None)):
            # scores below 0 are no trouble to it; gains must not be, and are 0 or 1
            expected = ndcg_score([right], [scores[query][others]], k=k)
            assert float(found.per_query[name][row]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pytorch_metric_learning_where_nothing_ties(seed: int) -> None:
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator").AccuracyCalculator
    generator = torch.Generator().manual_seed(seed)
    items = random_items(generator, 60, 6, "distinct")
    rows = torch.nn.functional.normalize(items.embeddings).float()
    names = {
        "precision_at_1": "recall@1",
        "r_precision": "r_precision",
        "mean_average_precision_at_r": "map@r",
        "mean_average_precision": "map@100",
        "mean_reciprocal_rank": "mrr",
    }
    peer = calculator(include=tuple(names), k=59, device=torch.device("cpu")).get_accuracy(rows, items.labels)
    found = evaluate(items, metrics=tuple(names.values()), clusters=False).metrics
    assert found == pytest.approx({ours: peer[theirs] for theirs, ours in names.items()}, abs=1e-12)

"""Figures that must not be wrong in silence: ties, singletons, distributed shares, near-ties, and a numpy oracle.

`figures` and `votes` are written from the formulas of docs/evaluation.md, not from the code they judge.
"""

import datetime
import itertools
import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.metrics import average_precision_score, ndcg_score
from torch import distributed
from torch.utils.data import DistributedSampler

from accord.errors import BatchError
from accord.evaluation import evaluate, merge_labelled
from accord.types import Evaluation, Labelled
from conformance import without_shape_checks

CUTS = (1, 3, 8, 100)
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
    pairs = [(found.per_query[name].numpy(), expected[name]) for name in found.per_query]
    pairs += [(found.aside[f"optimistic/{name}"].numpy(), best[name]) for name in best if name in found.per_query]
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
        rows[torch.randint(n, (n // 4,), generator=generator)] = rows[0].clone()
        rows[n // 2 :: 2] = rows[: len(rows[n // 2 :: 2])].clone()
    if kind == "rounded":
        rows = rows.round(decimals=0) + torch.tensor([0, 0, 0, 0, 0.5], dtype=torch.float64)
    return labelled(rows, labels, first)


# C3 — ties count against the query, and the other end is told


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(4, 7))
def test_worst_and_optimistic_are_the_ends_of_all_orders_of_tied_items(data: st.DataObject, n: int) -> None:
    codes = data.draw(st.lists(st.sampled_from([(1, 1), (1, -1), (2, 2)]), min_size=n, max_size=n))
    labels = torch.tensor([0, 0, 1, *data.draw(st.lists(st.integers(0, 2), min_size=n - 3, max_size=n - 3))])
    items = labelled(torch.tensor(codes, dtype=torch.float64), labels)
    with without_shape_checks():
        found = evaluate(items, metrics=NAMES, clusters=False)
    scores = cosines(items, items)
    for row, query in enumerate(found.query_ids.tolist()):
        orders = np.array(list(itertools.permutations([other for other in range(n) if other != query])))
        orders = orders[(np.diff(scores[query][orders], axis=1) <= 0).all(1)]
        ranked, own = labels.numpy()[orders], int(labels[query])
        tried = figures(ranked == own)
        for name, values in tried.items():
            worst, best = float(found.per_query[name][row]), float(found.aside[f"optimistic/{name}"][row])
            assert (worst, best) == pytest.approx((values.min(), values.max()), abs=1e-12), name
            assert worst - 1e-12 <= values.mean() <= best + 1e-12
        voted = all(votes(list(start), own) for start in set(map(tuple, ranked[:, :3].tolist())))
        assert found.per_query["knn_accuracy"][row] == float(voted)


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


def _rank(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    wait = datetime.timedelta(seconds=60)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world, timeout=wait
    )
    said: list[object] = []
    for n, shuffle in itertools.product(SIZES, (False, True)):
        said.append(_judged(merge_labelled(_gathered(_shared_items(n), rank, world, shuffle))))
    if world > 1:  # 7 items are padded
        with pytest.raises(BatchError, match=r"(?s)an id must mean one item, but 1 are.*evaluation mode"):
            merge_labelled(_gathered(_shared_items(7), rank, world, False, spoil=True))
    distributed.destroy_process_group()
    (folder / str(rank)).write_text(repr(said))  # as text, floats keep every bit


def _forked(rank: int, world: int, folder: Path) -> int:
    """A process of its own, by a bare fork: importing everything again would take most of the time."""
    if process := os.fork():
        return process
    try:
        _rank(rank, world, folder)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


SIZES = (1, 2, 3, 7, 21, 64)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_rank_of_a_distributed_run_gets_the_bits_of_one_process(world: int, tmp_path: Path) -> None:
    ranks = [_forked(rank, world, tmp_path) for rank in range(world)]
    assert [os.waitpid(process, 0)[1] for process in ranks] == [0] * world
    expected = [_judged(_shared_items(n)) for n, _ in itertools.product(SIZES, (False, True))]
    assert [len(said) for said in expected] == [1] * 4 + [6] * 8  # one or two items are refused
    assert [(tmp_path / str(rank)).read_text() for rank in range(world)] == [repr(expected)] * world


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
        together = np.equal.outer(query_groups.numpy(), groups.numpy())
        alike = np.equal.outer(queries.labels.numpy(), gallery.labels.numpy())
        own = np.equal.outer(queries.ids.numpy(), gallery.ids.numpy())
        searched = ~(own | (False, together & alike, together)[exclude])
        if not (searched & alike).any():
            continue
        k = CUTS[len(differences) % len(CUTS)]  # one at a time, for speed
        names = [name for name in NAMES if "@" not in name or name == "map@r" or name.endswith(f"@{k}")]
        options = {"groups": groups, "exclude": EXCLUSIONS[exclude]} if exclude else {}
        options |= {"query_groups": query_groups} if exclude and split else {}
        with without_shape_checks():  # they would take four fifths of the time
            found = evaluate(gallery, queries=queries if split else None, metrics=names, clusters=False, **options)
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
            expected = ndcg_score([right], [scores[query][others]], k=k)
            assert float(found.per_query[name][row]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pytorch_metric_learning_where_nothing_ties(seed: int) -> None:
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
    peer = AccuracyCalculator(
        include=tuple(names), k=59, device=torch.device("cpu"), knn_func=CustomKNN(LpDistance())
    ).get_accuracy(rows, items.labels)
    found = evaluate(items, metrics=tuple(names.values()), clusters=False).metrics
    for theirs, ours in names.items():  # its reciprocal ranks are single precision
        assert found[ours] == pytest.approx(peer[theirs], abs=1e-7 if ours == "mrr" else 1e-12)


# C7 — items alone in their class


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.integers(0, 2**31))
def test_classes_of_one_are_counted_and_stand_in_the_way(sizes: list[int], seed: int) -> None:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    generator = torch.Generator().manual_seed(seed)
    items = labelled(torch.randn(len(labels), 4, generator=generator, dtype=torch.float64), labels)
    with without_shape_checks():
        if max(sizes) == 1:
            with pytest.raises(BatchError, match="no item has another one"):
                evaluate(items)
            return
        found = evaluate(items, metrics=NAMES, clusters=False)
    assert found.counts["singletons"] == found.counts["queries_without_match"] == sizes.count(1)
    assert found.counts["queries"] == sum(size for size in sizes if size > 1)
    others = ~np.eye(len(labels), dtype=bool)
    assert largest_difference(found, items, items, others) <= 1e-12


# C10 — scores that single precision cannot order


@pytest.mark.parametrize("high", [7, 64, 1000])
@pytest.mark.parametrize("noise", [1.0, 1e-3])
def test_single_precision_in_any_block_ranks_as_double_precision_does(high: int, noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    items = labelled(1 + noise * torch.randn(200, 16, generator=generator), torch.arange(200) % 20)
    with without_shape_checks():
        found = evaluate(items, metrics=NAMES, clusters=False, budget_bytes=high * 200 * 4)
    order = (-exact(items)).argsort(axis=1, kind="stable")[:, :-1]
    for name, values in figures(items.labels.numpy()[order] == items.labels.numpy()[:, None]).items():
        assert np.abs(found.per_query[name].numpy() - values).max() <= 1e-12, name
    assert found.counts["tied_queries"] == 0  # scores closer than 2⁻⁴⁰ would be tied, and counted


def exact(items: Labelled) -> np.ndarray:
    """Cosines in double precision, each item last in its own list."""
    unit = torch.nn.functional.normalize(items.embeddings.double())
    return (unit @ unit.T).fill_diagonal_(-2).numpy()

"""Chance levels against the mean over every order of a small set, and against the field's known value."""

import itertools
import math

import pytest
import torch

from accord.evaluation import chance_levels, evaluate, random_map_at_r, random_recall
from accord.types import Labelled

NAMES = (
    *(f"recall@{k}" for k in (1, 2, 5, 9)),
    *("map@r", "r_precision", "mrr", "knn_accuracy"),
    *(f"{family}@{k}" for family in ("precision", "map", "ndcg") for k in (1, 3, 9)),
)


def over_all_orders(sizes, ks, knn):
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    totals, queries = {}, 0
    for query, own in enumerate(labels):
        others = labels[:query] + labels[query + 1 :]
        if own not in others:
            continue
        queries += 1
        orders = list(itertools.permutations(others))
        for order in orders:
            for name, value in one(order, own, ks, knn).items():
                totals[name] = totals.get(name, 0) + value / len(orders)
    return {name: total / queries for name, total in totals.items()}


def one(order, own, ks, knn):
    hits = [label == own for label in order]
    relevant = sum(hits)
    votes = order[:knn]
    most = max(map(votes.count, votes))
    return {
        **{f"recall@{k}": any(hits[:k]) for k in ks},
        "map@r": sum(hits[i] * sum(hits[: i + 1]) / (i + 1) for i in range(relevant)) / relevant,
        "r_precision": sum(hits[:relevant]) / relevant,
        "mrr": 1 / (hits.index(True) + 1),
        **{f"precision@{k}": sum(hits[:k]) / k for k in (1, 3, 9)},
        **{
            f"map@{k}": sum(hit * sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits[:k])) / min(k, relevant)
            for k in (1, 3, 9)
        },
        **{
            f"ndcg@{k}": sum(hit / math.log2(i + 2) for i, hit in enumerate(hits[:k]))
            / sum(1 / math.log2(i + 2) for i in range(min(k, relevant)))
            for k in (1, 3, 9)
        },
        "knn_accuracy": next(label for label in votes if votes.count(label) == most) == own,
    }


@pytest.mark.parametrize("sizes", [(2, 2), (3, 2, 1), (4, 2), (2, 2, 2, 1), (3, 1, 1, 1), (3, 4), (2, 1)])
@pytest.mark.parametrize("knn", [1, 2, 3])
def test_is_the_mean_over_all_orders(sizes, knn):
    expected = over_all_orders(sizes, (1, 2, 5, 9), knn)
    found = chance_levels(torch.tensor(sizes), metrics=NAMES, knn=knn)
    assert found == pytest.approx(expected, abs=1e-12)


def test_recall_follows_the_hypergeometric_distribution():
    four, thousand = torch.tensor([[4.0], [1000.0]], dtype=torch.float64)
    found = random_recall(four, thousand, 8)
    assert float(found) == pytest.approx(1 - math.comb(996, 8) / math.comb(1000, 8), abs=1e-13)


def test_a_single_other_item_is_always_found():
    one_other = torch.ones(1, dtype=torch.float64)
    assert float(random_map_at_r(one_other, one_other)) == pytest.approx(1)


def test_votes_of_more_than_three_neighbours_have_no_level():
    assert "knn_accuracy" not in chance_levels(torch.tensor([5, 5]), knn=4)


def test_random_embeddings_score_about_chance():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(1500) % 30
    found = evaluate(Labelled(torch.randn(1500, 64, generator=generator), labels, torch.arange(1500)), clusters=False)
    for name, level in found.chance.items():
        assert found.metrics[name] == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 1500) + 1e-3)

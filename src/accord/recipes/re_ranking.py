"""Judges rankings that were changed after a first search, beside the plain one: the two are not comparable."""

from dataclasses import replace
from typing import NamedTuple

import torch

from accord.checks import check_count
from accord.errors import UnknownNameError, UsageError
from accord.evaluation import database_augmentation, evaluate, evaluate_lists, k_reciprocal, query_expansion
from accord.types import Evaluation, Json, Labelled

NEIGHBOURS = {"query_expansion": 10, "database_augmentation": 10, "k_reciprocal": 20}
NAMES = ("none", *NEIGHBOURS)
BY_LISTS = ("map@r", "r_precision")
LISTED = ("recall@1", "recall@2", "recall@4", "recall@8", *BY_LISTS)
NOTE = "The ranking was changed after a first search ({name}): not comparable with a plain one, which stands beside it."


class Reranked(NamedTuple):
    """Figures of the changed ranking, and what was done: method, neighbours, and the plain figures."""

    evaluation: Evaluation
    facts: Json


def re_ranked(
    name: str, gallery: Labelled, queries: Labelled | None, *, metrics: tuple[str, ...], knn: int, k: int | None
) -> Reranked:
    """Judge what re-ranking by `name` makes of a search; `k` neighbours take part, its usual number where None.

    `query_expansion` moves the queries, `database_augmentation` the gallery while its own items ask as they were, and
    `k_reciprocal` (of k1 = `k`) gives new lists, of which only recall@k, map@r and r_precision are known.
    """
    if name not in NEIGHBOURS:
        raise UnknownNameError("re-ranking", name, NAMES)
    asking, taken = gallery if queries is None else queries, NEIGHBOURS[name] if k is None else k
    check_count("judge", "rerank_k", taken)
    plain = evaluate(gallery, queries=queries, metrics=metrics, knn=knn, clusters=False)
    if name == "query_expansion":
        moved = query_expansion(asking, gallery, k=taken)
        found = evaluate(gallery, queries=moved, metrics=metrics, knn=knn, clusters=False)
    elif name == "database_augmentation":
        augmented = database_augmentation(gallery, k=taken)
        found = evaluate(augmented, queries=asking, metrics=metrics, knn=knn, clusters=False)
    else:
        found = _by_lists(asking, gallery, metrics, taken)
        found = replace(found, counts={**found.counts, "classes": plain.counts["classes"]}, chance=plain.chance)
    facts: Json = {"method": name, "neighbours": taken, "plain": plain.metrics}
    return Reranked(found, facts)


def check_listed(metrics: tuple[str, ...]) -> None:
    """Refuse metrics that lists can't give."""
    strange = [name for name in metrics if name not in BY_LISTS and not name.startswith("recall@")]
    if strange:
        raise UsageError(
            f"Lists re-ranked by k_reciprocal give recall@k, map@r and r_precision only, not {', '.join(strange)}."
        )


def _by_lists(asking: Labelled, gallery: Labelled, metrics: tuple[str, ...], k1: int) -> Evaluation:
    check_listed(metrics)
    ks = [int(name.partition("@")[2]) for name in metrics if name.startswith("recall@")]
    largest = int(torch.unique(gallery.labels, return_counts=True)[1].max())
    others = len(gallery.ids) - 1
    depth = min(others, max([*ks, k1, largest if set(BY_LISTS) & set(metrics) else 1]))
    lists = k_reciprocal(asking, gallery, depth, k1=k1, k2=min(6, k1))
    found = evaluate_lists(lists, asking, gallery, ks=[k for k in ks if k <= depth])
    kept = {name: values for name, values in found.per_query.items() if name in metrics}
    return Evaluation(kept, found.query_ids, found.query_labels, counts=found.counts, notes=found.notes)

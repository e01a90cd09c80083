"""Retrieval metrics of neighbour lists that came from elsewhere: re-ranked, approximate, or another program's."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.checks import check_count, describe
from accord.errors import BatchError, UsageError
from accord.geometry import places
from accord.types import Evaluation, Labelled, Neighbours

NOTE = "These are figures of given neighbour lists, not of embeddings: not comparable with plain ones if re-ranked."


def evaluate_lists(
    neighbours: Neighbours,
    queries: Labelled,
    gallery: Labelled,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    allow_absent: bool = False,
) -> Evaluation:
    """Judge neighbour lists: `recall@k`, `map@r` and `r_precision` per query, as `evaluate` defines them.

    Row i of the lists belongs to query i. An item with the query's own id is skipped. Of items with equal scores the
    wrong ones count as first; what ties with the last item but is not in the list can't be seen. Queries without
    another item of their class in the gallery are left out and counted as `singletons`. `map@r` and `r_precision` are
    left out, with a note, unless the lists are as long as the largest class asks for. A list with absent neighbours
    (id -1) is only as long as what it holds; with `allow_absent` a k may go beyond, and they count as misses.

    Raises BatchError for lists that do not fit the queries or name ids that are not in the gallery, and where no query
    has anything to find; UsageError for a k beyond the length of the lists.

        evaluate_lists(k_reciprocal(gallery, gallery, 100), gallery, gallery).metrics["recall@1"]
    """
    right, filled = _right(neighbours, queries, gallery)
    # a list may hold the query itself once, which is no neighbour
    length = int(filled.sum(dim=1).min()) if len(filled) else 0
    _check_ks(ks, right.shape[1] if allow_absent else length)
    relevant = right_items(queries, gallery)
    asked = relevant > 0
    if not bool(asked.any()):
        raise BatchError("evaluate_lists: no query has another item of its class in the gallery.")
    right, relevant = right[asked], relevant[asked]
    whole = int(relevant.max()) <= length
    per_query = {f"recall@{k}": right[:, :k].any(dim=1).double() for k in ks}
    if whole:
        per_query |= _with_r(right, relevant)
    short = f"map@r and r_precision need lists of {int(relevant.max())} items, but these have {length}."
    return Evaluation(
        per_query=per_query,
        query_ids=queries.ids[asked],
        query_labels=queries.labels[asked],
        counts={"queries": len(relevant), "gallery": len(gallery.ids), "singletons": int((~asked).sum())},
        notes=(NOTE,) if whole else (NOTE, short),
    )


def _right(
    neighbours: Neighbours, queries: Labelled, gallery: Labelled
) -> tuple[Bool[Tensor, "query rank"], Bool[Tensor, "query rank"]]:
    """Whether the item at each rank is of the query's class, and whether there is one; the query itself is put last."""
    scores, ids = neighbours
    if scores.shape != ids.shape or ids.shape[:1] != queries.ids.shape:
        shapes = f"  scores: {describe(scores)}\n  ids:    {describe(ids)}\n  query ids: {describe(queries.ids)}"
        raise BatchError(f"evaluate_lists: give one list of scores and ids per query.\n{shapes}")
    column = places(ids, gallery.ids)
    strange = ids[(column < 0) & (ids != -1)]
    if len(strange):
        raise BatchError(f"evaluate_lists: {len(strange)} neighbours are not in the gallery, such as id {strange[0]}.")
    ordered = ids.sort(dim=1).values
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != -1)).any(dim=1).nonzero()[:, 0]
    if len(twice):
        raise BatchError(f"evaluate_lists: a list must not name an item twice, but that of query {twice[0]} does.")
    filled = (column >= 0) & (ids != queries.ids[:, None])
    right = filled & (gallery.labels[column] == queries.labels[:, None])
    # two stable sorts: by score, and at equal scores wrong ones first
    order = right.byte().argsort(dim=1, stable=True)
    by_score = torch.where(filled, scores, -torch.inf).gather(1, order).argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, by_score)
    return right.gather(1, order), filled.gather(1, order)


def right_items(queries: Labelled, gallery: Labelled) -> Int[Tensor, " query"]:
    """R: how many gallery items share the query's class, itself left out."""
    known, counts = torch.unique(gallery.labels, return_counts=True)
    place = places(queries.labels, known)
    own = places(queries.ids, gallery.ids)
    itself = (own >= 0) & (gallery.labels[own] == queries.labels)
    return torch.where(place >= 0, counts[place], 0) - itself.long()


def _with_r(right: Tensor, relevant: Tensor) -> dict[str, Float[Tensor, " query"]]:
    """(1/R) Σ_{i≤R} P(i) · right(i), and the share of right items among the first R."""
    ranks = torch.arange(1, right.shape[1] + 1, device=right.device)
    counted = (right & (ranks <= relevant[:, None])).double()
    precision = counted.cumsum(dim=1) / ranks
    return {"map@r": (precision * counted).sum(dim=1) / relevant, "r_precision": counted.sum(dim=1) / relevant}


def _check_ks(ks: Sequence[int], length: int) -> None:
    for k in ks:
        check_count("evaluate_lists", "each of ks", k)
    if ks and max(ks) > length:
        raise UsageError(f"evaluate_lists: recall@{max(ks)} needs lists of that length, but these have {length} items.")

"""Verification against k negatives: how often an item's partner scores higher than k items of other classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count
from accord.errors import BatchError, UsageError
from accord.evaluation._cross_scores import BUDGET_BYTES, products, some, tile_of, tiles
from accord.evaluation._gallery import Items
from accord.evaluation._scores import TIE
from accord.types import Labelled


def verify_against(
    labelled: Labelled, *, negatives: Sequence[int] = (1, 71), budget_bytes: int = BUDGET_BYTES
) -> dict[int, Float[Tensor, " query"]]:
    """For each query and k: how often one of its class scores higher than k random items of other classes, all at once.

    The VRF of Sohn (NIPS 2016, table 1) with neg = k. Nothing is drawn: the chance that k of N negatives, drawn without
    replacement, all lie below is C(b, k)/C(N, k) where b of them do, averaged over the others of the query's class.
    A negative that ties with the positive counts as above. 1/(k + 1) is guessing; k = 1 is the area under the query's
    own ROC, ties aside. Items alone in their class are no queries; values come in the order of the others.

    Raises BatchError where there is nothing to compare, UsageError where a query has fewer than k negatives.
    """
    for k in negatives:
        check_count("verify_against", "each of negatives", k)
    check_count("verify_against", "budget_bytes", budget_bytes, high=2**63)
    items = some("verify_against", "items", labelled)
    classes, sizes = torch.unique(labelled.labels, return_inverse=True, return_counts=True)[1:]
    # class by class, so that the partners of a tile's rows stand together
    order = classes.argsort(stable=True)
    sorted_items, kinds = items.only(order), classes[order]
    strangers, queries = len(classes) - sizes[kinds], sizes[classes] > 1
    _check(int(queries.sum()), strangers[sizes[kinds] > 1], negatives)
    tile = tile_of(budget_bytes, items.embeddings.shape[1], per_row=6 * int(sizes.max()))
    found = {k: items.norms.new_empty(len(classes)) for k in negatives}
    reached = torch.empty(0)
    for rows, columns, scores in tiles(sorted_items, sorted_items, tile):
        if not columns.start:
            reached = _partners(sorted_items, kinds, sizes, rows)
            counts = torch.zeros(len(reached), reached.shape[1] + 1, dtype=torch.int64)
        # those of the own class stand above everything, and so are never counted as beaten
        scores.masked_fill_(kinds[rows, None] == kinds[columns], torch.inf)
        places = torch.searchsorted(reached, scores, right=True)
        counts.scatter_add_(1, places, torch.ones((), dtype=torch.int64).expand(places.shape))
        if columns.stop == len(kinds):
            below, partners = counts.cumsum(1)[:, :-1], reached < torch.inf
            for k, values in found.items():
                chances = _all_below(below, strangers[rows, None], k) * partners
                values[order[rows]] = chances.sum(dim=1) / partners.sum(dim=1)
    return {k: values[queries] for k, values in found.items()}


def _partners(items: Items, kinds: Tensor, sizes: Tensor, rows: slice) -> Float[Tensor, "query partner"]:
    """The scores a negative must stay below, rising: those of the query's class, less a tie; infinity where none is."""
    starts = sizes.cumsum(0) - sizes
    own = kinds[rows]
    left, right = int(starts[own[0]]), int(starts[own[-1]] + sizes[own[-1]])
    scores = products(items, items, rows, slice(left, right)) - TIE
    places = starts[own, None] + torch.arange(int(sizes.max()))
    itself = torch.arange(rows.start, rows.stop)[:, None]
    absent = (places >= (starts + sizes)[own, None]) | (places == itself)
    found = scores.gather(1, (places - left).clamp_max(right - left - 1)).masked_fill_(absent, torch.inf)
    return found.sort(dim=1).values


def _all_below(below: Int[Tensor, "..."], total: Int[Tensor, "..."], k: int) -> Float[Tensor, "..."]:
    """The chance that k drawn of `total`, none twice, are all among the `below`: C(below, k)/C(total, k)."""
    chance = torch.ones_like(below, dtype=torch.float64)
    for drawn in range(k):
        chance *= (below - drawn).clamp_min(0).double() / (total - drawn).clamp_min(1)
    return chance


def _check(queries: int, strangers: Tensor, negatives: Sequence[int]) -> None:
    if not queries or not len(negatives):
        raise BatchError("verify_against: no item has another one of its class. Give a class with two items.")
    fewest = int(strangers.min())
    if fewest < max(negatives):
        raise UsageError(
            f"verify_against: {max(negatives)} negatives are asked for, but a query has only {fewest} items of other "
            "classes.\nAsk for fewer, or judge more classes together."
        )

"""Who belongs with whom where there are no classes: pairs and triplets by row number, checked and made ready."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from accord.checks import check_finite, describe
from accord.errors import BatchError
from accord.types import Embeddings, Labels, Pairs, Relations, Triplets

Supervision = Labels | Pairs | Triplets
_SHOWN = 5


def check_relations(who: str, embeddings: Embeddings, relations: Relations) -> None:
    """Refuse row numbers that are no rows of the batch, and relations of an item with itself, naming the first of them.

    Looks at the numbers, so on an accelerator it waits.
    """
    check_finite(who, "embeddings", embeddings)
    parts = dict(zip(relations._fields, relations, strict=True))
    for name, rows in parts.items():
        if rows.ndim != 1 or rows.is_floating_point() or rows.device != embeddings.device:
            raise BatchError(
                f"{who}: {name} must be whole row numbers, (relation,), on the device of the embeddings.\n"
                f"  {name}: {describe(rows)}\n  embeddings: {describe(embeddings)}"
            )
    if len({len(rows) for rows in parts.values()}) > 1:
        shapes = "\n".join(f"  {name}: {describe(rows)}" for name, rows in parts.items())
        raise BatchError(f"{who}: {' and '.join(parts)} must be equally many.\n{shapes}")
    for name, rows in parts.items():
        _none(who, (rows < 0) | (rows >= len(embeddings)), f"{name} must be rows 0 … {len(embeddings) - 1}", relations)
    kind = "pair" if isinstance(relations, Pairs) else "triplet"
    names = list(parts)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            wish = f"{first} and {second} of a {kind} must be two items"
            _none(who, parts[first] == parts[second], wish, relations)


def _none(who: str, wrong: Bool[Tensor, " relation"], wish: str, relations: Relations) -> None:
    if not bool(wrong.any()):
        return
    places = wrong.nonzero()[:, 0].tolist()
    table = torch.stack(list(relations), dim=1)
    shown = ", ".join(f"{place}: {tuple(table[place].tolist())}" for place in places[:_SHOWN])
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    raise BatchError(f"{who}: {wish}, but {len(places)} of {len(wrong)} are not so. Number and rows: {shown}{more}.")


def linked_labels(pairs: Pairs, items: int) -> Int[Tensor, " item"]:
    """A label for each of `items` rows, equal for those that pairs link, directly or by way of others.

    Belonging together is transitive: of (0, 1) and (1, 2) follows (0, 2). The label is the smallest row number that can
    be reached, so an item without a pair is a class of its own.

    >>> linked_labels(Pairs(torch.tensor([3, 1]), torch.tensor([1, 4])), 5).tolist()
    [0, 1, 2, 1, 1]
    """
    first, second = pairs.anchors.to(torch.int64), pairs.others.to(torch.int64)
    labels = torch.arange(items, device=first.device)
    while True:
        lower = labels.scatter_reduce(0, first, labels[second], "amin")
        lower = lower.scatter_reduce(0, second, lower[first], "amin")
        lower = lower[lower]
        if torch.equal(lower, labels):
            return labels
        labels = lower


class Contests:
    """Triplets gathered by anchor and positive: each such pair against all negatives that triplets give it.

    `anchors` and `positives` are (pair,) rows; `negatives` is (pair, place), filled up with row 0 where not `kept`.
    """

    def __init__(self, triplets: Triplets, items: int) -> None:
        anchors, positives, negatives = (rows.to(torch.int64) for rows in triplets)
        names, pair = torch.unique(anchors * items + positives, return_inverse=True)
        self.anchors, self.positives = names // max(1, items), names % max(1, items)
        order = pair.argsort(stable=True)
        counts = torch.bincount(pair, minlength=len(names))
        first = counts.cumsum(0) - counts
        place = torch.arange(len(pair), device=pair.device) - first[pair[order]]
        width = int(counts.max()) if len(counts) else 1
        shape = (len(names), width)
        self.negatives = torch.zeros(shape, dtype=torch.int64, device=pair.device)
        self.negatives[pair[order], place] = negatives[order]
        self.kept = torch.arange(width, device=pair.device) < counts[:, None]

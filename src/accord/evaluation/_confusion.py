"""Which classes are taken for which: counted over the nearest neighbours that are wrong."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from accord.types import Confusion


def confusions(
    labels: Int[Tensor, " query"], taken_for: Int[Tensor, " query"], known: Bool[Tensor, " query"], limit: int
) -> tuple[Confusion, ...]:
    """The labels most often taken for another one, most queries first; at most `limit` pairs.

    `known` tells which queries were taken for another class, `taken_for` for which. A pair is ordered: (label, other)
    and (other, label) are two. Pairs met equally often stand in the order of their labels.
    """
    pairs, times = torch.unique(torch.stack([labels, taken_for])[:, known], dim=1, return_counts=True)
    order = times.argsort(descending=True, stable=True)[:limit]
    asked, queries = torch.unique(labels, return_counts=True)
    sizes = dict(zip(asked.tolist(), queries.tolist(), strict=True))
    return tuple(
        Confusion(own, other, count, count / sizes[own])
        for own, other, count in zip(*pairs[:, order].tolist(), times[order].tolist(), strict=True)
    )

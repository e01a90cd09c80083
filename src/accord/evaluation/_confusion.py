"""Which classes are taken for which: counted over the nearest neighbours that are wrong."""

from typing import NamedTuple

import torch

from accord.checks import check_count
from accord.evaluation._gallery import gather
from accord.evaluation._ranking import BUDGET_BYTES, rank
from accord.evaluation._scores import TIE
from accord.types import Labelled


class Confusion(NamedTuple):
    """`times` queries of the class `label` had their nearest neighbour in `other`: that `share` of its queries."""

    label: int
    other: int
    times: int
    share: float


def confused_pairs(labelled: Labelled, limit: int = 20, *, budget_bytes: int = BUDGET_BYTES) -> list[Confusion]:
    """The classes most often taken for another one, most queries first; at most `limit` pairs.

    A pair is ordered: (label, other) and (other, label) are two. A right neighbour tied with a wrong one counts as
    wrong; of several wrong ones that tie, the one given first is counted.
    """
    check_count("confused_pairs", "limit", limit)
    gallery = gather("confused_pairs", labelled)
    queries = gallery.queries()
    classes = len(gallery.sizes)
    pairs = []
    for group in rank(gallery, queries, torch.ones_like(queries), budget_bytes=budget_bytes):
        own = gallery.classes[group.queries]
        wrong = gallery.classes[group.columns] != own[:, None]
        wrong &= group.scores >= group.scores[:, :1] - TIE
        missed = wrong.any(dim=1)
        first = group.columns.masked_fill(~wrong, len(gallery.ids)).amin(dim=1)[missed]
        pairs.append(own[missed] * classes + gallery.classes[first])
    values, counts = torch.unique(torch.cat(pairs), return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:limit]
    labels = torch.unique(gallery.labels)
    return [
        Confusion(int(labels[own]), int(labels[other]), count, count / int(gallery.sizes[own]))
        for own, other, count in zip(
            (values[order] // classes).tolist(), (values[order] % classes).tolist(), counts[order].tolist(), strict=True
        )
    ]

"""Who belongs with whom where triplets say so: a row's positives and negatives are those that were named for it."""

import torch
from torch import Tensor

from accord.mining._groups import Own
from accord.types import Triplets


class NamedGroups:
    """For any block of rows the columns that triplets name: positives and negatives of their anchors, and no others.

    Stands in the place of `Groups`, as masks over all columns: items² bits. A column that is named as both is a
    positive. Rows that are no anchor have neither. `taken` says whether somebody has asked.
    """

    triangle, listed = False, False

    def __init__(self, triplets: Triplets, items: int) -> None:
        anchors, positives, negatives = (rows.to(torch.int64) for rows in triplets)
        self.kept = torch.zeros(items, items, dtype=torch.bool, device=anchors.device)
        self.same = torch.ones_like(self.kept)
        self.kept[anchors, positives] = True
        self.same[anchors, negatives] = False
        self.same |= self.kept
        self.rows = self.columns = self.slots = items
        self.taken = False

    @property
    def totals(self) -> tuple[Tensor, Tensor]:
        """How many positive and how many negative pairs were named."""
        return self.kept.sum(), (~self.same).sum()

    def span(self, rows: slice) -> slice:
        """Which columns a block of rows is held against: all."""
        return slice(None)

    def own(self, rows: slice) -> Own:
        """What was named for these rows."""
        self.taken = True
        same = self.same[rows]
        return Own(None, None, same, self.kept[rows], (~same).sum(dim=1))

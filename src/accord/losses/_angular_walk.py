"""The angular loss by hand: each positive pair's sum over all negatives, and its gradient, from blocks of negatives.

A pair's Σ_n exp(c (a + p)ᵀn) is Σ_n exp(c aᵀn) exp(c pᵀn): products of one table of exponentials, row by row of it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.geometry import row_blocks
from accord.losses._powers import exp_
from accord.losses._settings import settings
from accord.losses._vectors import Vectors
from accord.mining import Groups

STEPS_SHARE = 32  # pairs are found step by step while the largest class fills less than 1/32 of a batch


class Walk:
    """All pairs of items sorted by class against blocks of negatives.

    With small classes a pair is an item and the one k places further on, `steps` such k; otherwise `steps` is 0 and
    every item is paired with every other, in matrix products.
    """

    def __init__(self, vectors: Vectors, groups: Groups, t: float) -> None:
        self.vectors, self.x, self.groups, self.t = vectors, vectors[slice(None)], groups, t
        small = groups.listed and groups.slots * STEPS_SHARE <= groups.columns
        self.steps = groups.slots if small else 0
        items, size = len(self.x), self.x.element_size()
        self.blocks = list(row_blocks(items, items, budget_bytes=settings().block_bytes, itemsize=size))
        self.kept: Tensor | None = None

    def go(self) -> Tensor:
        """The value; remembers what the derivatives need."""
        items = len(self.x)
        sums = self.x.new_zeros(self.steps or items, items)
        for rows in self.blocks:
            self._gather_(sums, self._table(rows))
        scores, alive = self._scores(), self._alive() & (sums > 0)
        gaps = torch.where(alive, sums, 1).log_().add_(8 * self.t).sub_(scores, alpha=2 * (1 + self.t))
        gaps.masked_fill_(~alive, -torch.inf)
        count = alive.sum().clamp_min(1)
        value = F.softplus(gaps).sum() / count
        self.slopes = gaps.sigmoid_().div_(count)
        self.weights = self.slopes / torch.where(alive, sums, 1)
        return value

    def back(self) -> Tensor:
        """The gradient by the raw vectors."""
        found = self._back_scores()
        for rows in self.blocks:
            slopes = self._spread(self._table(rows)).mul_(4 * self.t)
            found.addmm_(slopes.T, self.x[rows])
            found[rows].addmm_(slopes, self.x)
        return self.vectors.back_(found)

    def _table(self, rows: slice) -> Tensor:
        """exp(4t (s - 1)) of some negatives with all items, 0 with those of their own class."""
        if self.kept is not None:
            return self.kept
        table = exp_((self.x[rows] @ self.x.T).sub_(1), 4 * self.t)
        own = self.groups.own(rows)
        if own.columns is not None:
            table.scatter_(1, own.columns, 0.0)
        else:
            assert own.same is not None
            table.masked_fill_(own.same, 0.0)
        if len(self.blocks) == 1:
            self.kept = table
        return table

    def _shifts(self) -> Sequence[tuple[int, slice, slice]]:
        """For each step its number, the firsts of pairs and the seconds."""
        items = len(self.x)
        return [(k, slice(0, items - k - 1), slice(k + 1, items)) for k in range(min(self.steps, items - 1))]

    def _gather_(self, sums: Tensor, table: Tensor) -> None:
        """Add each pair's products over these negatives."""
        if not self.steps:
            sums.addmm_(table.T, table)
        for k, first, second in self._shifts():
            sums[k, first] += (table[:, first] * table[:, second]).sum(dim=0)

    def _spread(self, table: Tensor) -> Tensor:
        """The derivatives by the exponents, over 4t."""
        if not self.steps:
            return (table @ self.weights).mul_(table).mul_(2)
        found = torch.zeros_like(table)
        for k, first, second in self._shifts():
            weights = self.weights[k, first]
            found[:, first].addcmul_(table[:, second], weights)
            found[:, second].addcmul_(table[:, first], weights)
        return found.mul_(table)

    def _scores(self) -> Tensor:
        """aᵀp of all pairs."""
        if not self.steps:
            return self.x @ self.x.T
        scores = self.x.new_zeros(self.steps, len(self.x))
        for k, first, second in self._shifts():
            scores[k, first] = (self.x[first] * self.x[second]).sum(dim=1)
        return scores

    def _back_scores(self) -> Tensor:
        """The gradient by unit vectors through aᵀp."""
        slopes = self.slopes * (-2 * (1 + self.t))
        if not self.steps:
            return 2 * slopes @ self.x
        found = torch.zeros_like(self.x)
        for k, first, second in self._shifts():
            found[first].addcmul_(slopes[k, first, None], self.x[second])
            found[second].addcmul_(slopes[k, first, None], self.x[first])
        return found

    def _alive(self) -> Tensor:
        """Which places hold a pair of one class."""
        labels = self.groups.labels
        if not self.steps:
            itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
            return (labels[:, None] == labels) & ~itself
        alive = torch.zeros(self.steps, len(labels), dtype=torch.bool)
        for k, first, second in self._shifts():
            alive[k, first] = labels[first] == labels[second]
        return alive

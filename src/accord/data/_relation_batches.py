"""Batches of pairs or triplets, where those were given in place of classes."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import check_count
from accord.data._sampling import generator_for
from accord.errors import BatchError
from accord.types import Pairs, Relations, Triplets


class RelationBatches:
    """Batches of relations with at most `images` images, as rows of `labels` and places in those rows.

    Every relation comes once in an epoch, in an order that is a function of the seed and the epoch. A batch holds as
    many triplets (pairs) as fit if each brings three (two) images of its own, or one less, so that the steps of an
    epoch are alike; an image that comes in several is in the batch once. A batch of pairs holds two at least: of an odd
    number, dealt by twos, one batch has three.

    Pairs are dealt group by group, so that those of a batch are of different groups unless a group has more pairs than
    an epoch has steps. Where two pairs of a group meet, a third says that they belong together: nobody will find two
    classes in one group.

    `rows(step)` and `relations(step)` depend on nothing but the arguments and the step; steps may be asked for in any
    order. Raises BatchError without relations, and where one group has so many of the pairs that a batch would have no
    other group to be told from.
    """

    def __init__(
        self, relations: Sequence[tuple[int, ...]], labels: Int[Tensor, " item"], *, images: int, seed: int
    ) -> None:
        check_count("sampler", "images", images, low=4)
        if not relations:
            raise BatchError("sampler: there are no relations to make batches of.")
        self._table = torch.tensor(relations, dtype=torch.int64)
        self._labels, self.seed = labels, seed
        self.triplets = self._table.shape[1] == 3
        self._groups = labels[self._table[:, 0]]
        self._steps = -(-len(self._table) // (images // self._table.shape[1]))
        if not self.triplets:
            self._steps = max(1, min(self._steps, len(self._table) // 2))
            self._check_groups(images)
        self._kept: tuple[int, Tensor, Tensor] | None = None  # order and hands of the epoch last asked for

    def __len__(self) -> int:
        """Steps per epoch."""
        return self._steps

    def rows(self, step: int) -> Int[Tensor, " row"]:
        """The images of one step, each once, as rows of `labels`."""
        rows: Tensor = torch.unique(self._dealt(step))
        return rows

    def relations(self, step: int) -> Relations:
        """The relations of one step, as places in `rows(step)`."""
        rows, places = torch.unique(self._dealt(step), return_inverse=True)
        if self.triplets:
            return Triplets(*places.unbind(dim=1))
        anchors, others = places.unbind(dim=1)
        first, second = self._neighbours(self._labels[rows])
        met = torch.bincount(self._labels[rows[anchors]], minlength=1)[self._labels[rows[first]]] > 1
        return Pairs(torch.cat([anchors, first[met]]), torch.cat([others, second[met]]))

    def _neighbours(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Places that follow each other among those of one label."""
        ascending, order = labels.sort(stable=True)
        same = ascending[1:] == ascending[:-1]
        return order[:-1][same], order[1:][same]

    def _dealt(self, step: int) -> Int[Tensor, "relation part"]:
        if step < 0:
            raise BatchError(f"sampler: steps count from 0; {step} came.")
        epoch, place = divmod(step, self._steps)
        if self._kept is None or self._kept[0] != epoch:
            hands = torch.randperm(self._steps, generator=generator_for(self.seed, "hands", epoch))
            self._kept = epoch, self._order(epoch), hands
        _, order, hands = self._kept
        return self._table[order[int(hands[place]) :: self._steps]]

    def _order(self, epoch: int) -> Int[Tensor, " relation"]:
        """All relations; pairs group by group, the largest group first, so that the others reach every hand."""
        order = torch.randperm(len(self._table), generator=generator_for(self.seed, "relations", epoch))
        if self.triplets:
            return order
        names, sizes = torch.unique(self._groups, return_counts=True)
        turn = torch.randperm(int(names[-1]) + 1, generator=generator_for(self.seed, "groups", epoch))
        turn[names[sizes.argmax()]] = -1
        return order[turn[self._groups[order]].argsort(stable=True)]

    def _check_groups(self, images: int) -> None:
        sizes = torch.unique(self._groups, return_counts=True)[1]
        most, pairs = int(sizes.max()), len(self._table)
        if pairs - most < self._steps:
            raise BatchError(
                f"sampler: {most:,} of {pairs:,} pairs are of one group; {self._steps:,} batches of {images} images "
                "can't all be given another to tell it from.\n"
                "  Ask for larger batches (training.classes_per_batch), leave out pairs of that group, or add others."
            )

"""One triplet per anchor or per positive pair: which it is, its gap, and the derivatives of that by hand."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from accord.losses._triplet_sets import few_slots, slots_at_once
from accord.mining import Block

Pick = Literal["semi_hard", "batch_hard"]


class Picks(NamedTuple):
    """Triplets of a block, (row, pick): the positive's slot, the negative's column, and which of them are triplets."""

    slots: Tensor
    columns: Tensor
    kept: Tensor


def pick(block: Block, mining: Pick) -> Picks:
    """Choose triplets by their distances alone; no gradient passes."""
    positives, negatives = block.positives.detach(), block.negatives.detach()
    if mining == "batch_hard":
        farthest = torch.where(block.kept, positives, -torch.inf).argmax(dim=1, keepdim=True)
        return Picks(farthest, negatives.argmin(dim=1, keepdim=True), block.whole[:, None])
    find = _by_slots if few_slots(block) else _by_sorting
    slots = torch.arange(positives.shape[1], device=positives.device).expand_as(positives)
    return Picks(slots, find(positives, negatives), block.kept & block.whole[:, None])


def _by_slots(positives: Tensor, negatives: Tensor) -> Tensor:
    """For each positive the column of the closest negative that is farther, or of the farthest where none is."""
    farthest = torch.where(negatives.isfinite(), negatives, -torch.inf).argmax(dim=1, keepdim=True)
    high = torch.finfo(negatives.dtype).max / 4
    size, columns = slots_at_once(negatives), []
    for start in range(0, positives.shape[1], size):
        here = positives[:, start : start + size, None]
        lifted = negatives.new_empty(*here.shape[:2], negatives.shape[1])
        torch.le(negatives[:, None, :], here, out=lifted)
        # those that are no farther are lifted above all others; the others stay what they are, to the last digit
        lowest, column = lifted.mul_(high).add_(negatives[:, None, :]).min(dim=2)
        columns.append(torch.where(lowest < high, column, farthest))
    return torch.cat(columns, dim=1)


def _by_sorting(positives: Tensor, negatives: Tensor) -> Tensor:
    """The same for many positives: one sort of each row."""
    ascending, order = negatives.sort(dim=1)
    place = torch.searchsorted(ascending, positives.contiguous(), right=True)
    count = ascending.isfinite().sum(dim=1, keepdim=True)
    return order.gather(1, torch.minimum(place, count - 1).clamp_min(0))


def gaps(block: Block, picks: Picks, other: Tensor | None) -> Tensor:
    """d(a,p) - d(a,n) of each pick, or with `other`, the distances d(p,n), less the smaller of both; else 0."""
    far = block.negatives.gather(1, picks.columns)
    if other is not None:
        far = torch.where(other < far, other, far)
    near = torch.where(picks.kept, block.positives.gather(1, picks.slots), 0)
    return near - torch.where(picks.kept, far, 0)


class Others:
    """The distances d(p,n) between the positive and the negative of each pick, from the vectors themselves.

    `chosen` are the columns of a row's slots. Makes a row × pick × dim table.
    """

    def __init__(self, picks: Picks, vectors: Tensor, chosen: Tensor, *, squared: bool) -> None:
        self.ends = chosen.gather(1, picks.slots), picks.columns
        self.apart = vectors[self.ends[0]] - vectors[self.ends[1]]
        squares = self.apart.square().sum(dim=2)
        # the input of the root is masked, not its output: 0 · inf in the backward pass would be NaN
        self.distances = squares if squared else torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)
        self.squared = squared

    def back(self, by_distances: Tensor, vectors: Tensor) -> Tensor:
        """By hand: the derivative by the vectors."""
        shape = torch.where(self.distances > 0, self.distances.reciprocal(), 0) if not self.squared else 2.0
        steps = ((by_distances * shape)[:, :, None] * self.apart).flatten(0, 1)
        first, second = (end.flatten() for end in self.ends)
        return torch.zeros_like(vectors).index_add_(0, first, steps).index_add_(0, second, steps, alpha=-1)

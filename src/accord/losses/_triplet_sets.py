"""Sums over whole sets of triplets of a row, all of them, the hard or the semi-hard, without writing triplets down."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.mining import Block

Set = Literal["all", "hard", "all_semi_hard"]
TABLE = 2**18  # numbers of a row × slot × column table that stays in cache
FEW = 48  # up to so many such tables are quicker than a sort


class Sums(NamedTuple):
    """Costs of a row's triplets, how many are in the set, and how many cost something."""

    costs: Tensor
    mined: Tensor
    violating: Tensor


def hinges_sorted(block: Block, kind: Set, margin: float, band: float) -> Sums:
    """The hinge over a set, for autograd: with a row's negatives sorted, a positive's set is a run of them.

    Its costs sum to count · (d(a,p) + margin) - (the run's sum), which prefix sums give. A sort per row, whatever the
    number of positives.
    """
    positives = torch.where(block.kept, block.positives, 0)
    ascending, order = block.negatives.detach().sort(dim=1)
    here, reach = positives.detach().contiguous(), (positives + margin).detach().contiguous()
    first, last = torch.zeros_like(here, dtype=torch.int64), block.negative_count[:, None].to(torch.int64)
    if kind == "hard":
        last = torch.searchsorted(ascending, here, right=True)
    if kind == "all_semi_hard":
        first = torch.searchsorted(ascending, here, right=True)
        last = torch.searchsorted(ascending, (positives + band).detach().contiguous(), right=True)
    costly = torch.minimum(last, torch.searchsorted(ascending, reach)).clamp_min(first)
    finite = torch.where(ascending.isfinite(), block.negatives.gather(1, order), 0)
    prefix = F.pad(finite.cumsum(dim=1), (1, 0))
    costs = (costly - first) * (positives + margin) - prefix.gather(1, costly) + prefix.gather(1, first)
    mined, violating = ((part - first).masked_fill(~block.kept, 0).sum(dim=1) for part in (last, costly))
    return Sums(torch.where(block.kept, costs, 0).sum(dim=1), mined, violating)


def softly(block: Block, kind: Set) -> Sums:
    """The soft margin over a set, for autograd; makes a row × slot × column table."""
    gaps = block.positives[:, :, None] - block.negatives[:, None, :]
    some = block.kept[:, :, None] & block.negatives.isfinite()[:, None, :]
    if kind == "hard":
        some = some & (gaps.detach() >= 0)
    costs = torch.where(some, F.softplus(torch.where(some, gaps, 0)), 0)
    mined, violating = (part.sum(dim=(1, 2)) for part in (some, costs > 0))
    return Sums(costs.sum(dim=(1, 2)), mined, violating)


def by_slots(block: Block, kind: Set, margin: float | None, band: float) -> tuple[Sums, Tensor, Tensor]:
    """By hand: the sums with their derivatives by positives and negatives, some slots after the other.

    A few passes over row × column numbers for each slot, so it pays for few of them. `margin=None` is the soft margin.
    """
    # a slot that is not kept is nearer than any negative
    positives = torch.where(block.kept, block.positives, -torch.inf)[:, :, None]
    negatives, by_negatives = block.negatives[:, None, :], torch.zeros_like(block.negatives)
    size = slots_at_once(block.negatives)
    tables = block.negatives.new_empty(2, len(positives), min(size, positives.shape[1]), negatives.shape[2])
    parts = []
    for start in range(0, positives.shape[1], size):
        here = positives[:, start : start + size]
        reach = here + (margin or 0)
        gaps, inside = tables[:, :, : here.shape[1]]
        if kind == "all":
            mined = block.negative_count[:, None] * block.kept[:, start : start + size]
        else:
            mined = torch.le(negatives, here, out=inside).sum(dim=2)
        if kind == "all_semi_hard":
            within = negatives <= here + band
            mined = within.sum(dim=2) - mined
            inside.neg_().add_(within)
        torch.sub(reach, negatives, out=gaps)
        costs, violating, slopes = (_soft_ if margin is None else _hinge_)(gaps, None if kind == "all" else inside)
        by_negatives.sub_(slopes.sum(dim=1) if size > 1 else slopes[:, 0])
        parts.append((costs, mined, violating, slopes.sum(dim=2)))
    costs, mined, violating, by_positives = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return Sums(costs.sum(dim=1), mined.sum(dim=1), violating.sum(dim=1)), by_positives, by_negatives


def slots_at_once(negatives: Tensor) -> int:
    """For how many slots a row × slot × column table is small; at least one."""
    return max(1, TABLE // max(1, negatives.numel()))


def few_slots(block: Block) -> bool:
    """Whether going through the slots is quicker than a sort of each row."""
    return block.positives.shape[1] <= FEW * slots_at_once(block.negatives)


def _hinge_(gaps: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Costs, how many of them, and the slopes, which are written over the gaps."""
    gaps.relu_()
    if inside is not None:
        gaps.mul_(inside)
    costs = gaps.sum(dim=2)
    torch.gt(gaps, 0, out=gaps)
    return costs, gaps.sum(dim=2), gaps


def _soft_(gaps: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the soft margin."""
    costs = F.softplus(gaps)
    gaps.sigmoid_()
    if inside is not None:
        costs.mul_(inside)
        gaps.mul_(inside)
    return costs.sum(dim=2), (costs > 0).sum(dim=2), gaps

"""Pairs for verification in folds that share no class, drawn as a published list of pairs is made."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from accord.checks import check_count
from accord.errors import BatchError
from accord.types import Pairs

# beyond so many pairs a few are drawn one by one, and not cut from a shuffled list of all
MANY = 1_000_000


class FoldPairs(NamedTuple):
    """Pairs by row number, whether both items are of one class, and the fold of each, counted from 0."""

    pairs: Pairs
    same: Bool[Tensor, " pair"]
    fold: Int[Tensor, " pair"]


def class_fold_pairs(
    labels: Int[Tensor, " item"], *, folds: int = 10, each: int = 300, generator: torch.Generator
) -> FoldPairs:
    """Deal the classes into folds and draw from each `each` pairs of one class and as many of two, or all there are.

    No class is in two folds, so a threshold chosen on the others (`verify_pairs(…, folds=…)`) has never seen the
    classes it judges. A fold has as many pairs of the one kind as of the other, so that guessing gives one half; no
    pair is drawn twice. `pairs.txt` of Labeled Faces in the Wild is made up so: 10 × (300 + 300) (Huang et al. 2007).

    Raises BatchError where a fold would lack a class with two items, or a second class.

        drawn = class_fold_pairs(labelled.labels, generator=generator)
        scores = pair_scores(labelled, drawn.pairs, by="row")
        verify_pairs(scores, drawn.same, folds=drawn.fold).accuracy
    """
    check_count("class_fold_pairs", "folds", folds)
    check_count("class_fold_pairs", "each", each)
    classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    if folds > (most := most_class_folds(labels)):
        raise BatchError(
            f"class_fold_pairs: {folds} folds need as many classes with two items, and twice as many classes in all.\n"
            f"There are {int((sizes > 1).sum())} and {len(sizes)}: ask for {most} or fewer, or give more classes."
        )
    dealt = torch.empty_like(sizes)
    # classes with pairs of their own go first, so that every fold gets some
    shuffled = torch.randperm(len(sizes), generator=generator)
    dealt[shuffled[(sizes[shuffled] < 2).long().argsort(stable=True)]] = torch.arange(len(sizes)) % folds
    drawn = []
    for fold in range(folds):
        members = (dealt[classes] == fold).nonzero()[:, 0]
        members = members[classes[members].argsort(stable=True)]
        drawn.append(_draw(members, classes[members], each, generator))
    first, second, same = (torch.cat(column) for column in zip(*drawn, strict=True))
    fold_of = torch.repeat_interleave(torch.arange(folds), torch.tensor([len(part[0]) for part in drawn]))
    return FoldPairs(Pairs(first, second), same, fold_of)


def most_class_folds(labels: Int[Tensor, " item"]) -> int:
    """How many folds `class_fold_pairs` can make of these items; 0 where there are none to be made."""
    sizes: Tensor = torch.unique(labels, return_counts=True)[1]
    return min(int((sizes > 1).sum()), len(sizes) // 2)


def _draw(members: Tensor, classes: Tensor, each: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """As many pairs of one class as of two among the members, which stand class by class."""
    sizes: Tensor = torch.unique_consecutive(classes, return_counts=True)[1]
    ends = torch.repeat_interleave(sizes.cumsum(0), sizes)
    after = torch.arange(len(members)) + 1
    # an item's partners of its own class follow it up to the end of that, strangers from there on
    kinds = [(ends - after, after), (len(members) - ends, ends)]
    count = min(each, *(int(partners.sum()) for partners, _ in kinds))
    sides = [_picked(partners, begin, count, generator) for partners, begin in kinds]
    first, second = (members[torch.cat(side)] for side in zip(*sides, strict=True))
    return first, second, torch.arange(2 * count) < count


def _picked(partners: Tensor, begin: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Some of all pairs of an item and one of so many partners of its, who stand from `begin` on."""
    through = partners.cumsum(0)
    numbers = _numbers(int(through[-1]), count, generator)
    first = torch.searchsorted(through, numbers, right=True)
    return first, begin[first] + numbers - (through - partners)[first]


def _numbers(total: int, count: int, generator: torch.Generator) -> Tensor:
    """So many different numbers below `total`, all sets of them equally likely."""
    if total <= max(MANY, 4 * count):
        return torch.randperm(total, generator=generator)[:count]
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < count:
        found = torch.unique(torch.cat([found, torch.randint(total, (count,), generator=generator)]))
    return found[torch.randperm(len(found), generator=generator)[:count]]

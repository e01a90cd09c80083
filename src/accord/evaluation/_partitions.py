"""How alike two partitions of the same items are, from how many items of each class lie in each group."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import describe
from accord.errors import BatchError
from accord.geometry import row_blocks


class Overlaps(NamedTuple):
    """Sizes of classes and of groups, and of every overlap of the two that is not empty, in no order."""

    cells: Int[Tensor, " cell"]
    classes: Int[Tensor, " class"]
    groups: Int[Tensor, " group"]
    largest: Int[Tensor, " group"]

    @property
    def same(self) -> bool:
        """Whether the two are one partition: every class is a group."""
        return len(self.cells) == len(self.classes) == len(self.groups)


def overlaps(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> Overlaps:
    """Count the overlaps; memory and time grow with the items, never with classes × groups."""
    if classes.shape != groups.shape or classes.ndim != 1 or not len(classes):
        shapes = f"  classes: {describe(classes)}\n  groups:  {describe(groups)}"
        raise BatchError(f"overlaps: give a class and a group for each item, and at least one item.\n{shapes}")
    _, class_of, class_sizes = torch.unique(classes, return_inverse=True, return_counts=True)
    _, group_of, group_sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    pairs, cells = torch.unique(class_of * len(group_sizes) + group_of, return_counts=True)
    largest = torch.zeros_like(group_sizes).scatter_reduce_(0, pairs % len(group_sizes), cells, "amax")
    return Overlaps(cells, class_sizes, group_sizes, largest)


def normalised_mutual_information(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> float:
    """How much groups tell about classes, from 0 (nothing) to 1 (the same partition): 2 I(C; G) / (H(C) + H(G)).

    The arithmetic mean of the entropies is used, as in scikit-learn's default; values made with the geometric mean
    (older papers) are higher. Two partitions of one part each agree: 1. Not corrected for chance: many small groups
    share much information with anything.

        normalised_mutual_information(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 3, 3]))  # 1.0
    """
    table = overlaps(classes, groups)
    if table.same:
        return 1.0
    information, entropies = _information(table)
    # rounding must not leave the range
    return min(1.0, max(0.0, 2 * information / entropies))


def adjusted_mutual_information(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> float:
    """Mutual information corrected for chance: (I − E[I]) / ((H(C) + H(G)) / 2 − E[I]); 1 for the same partition.

    E[I] is the mean over all ways to deal the items to groups of these sizes (Vinh, Epps & Bailey, JMLR 2010, eq. 24a),
    so random groups score 0 on average, and a little less is possible. Exact: sizes that occur often are handled once,
    which leaves a sum over pairs of different sizes.
    """
    table = overlaps(classes, groups)
    if table.same:
        return 1.0
    information, entropies = _information(table)
    expected = _expected_information(table)
    return min(1.0, (information - expected) / (entropies / 2 - expected))


def adjusted_rand_index(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> float:
    """Pairs of items on which both partitions agree, corrected for chance: (S − E) / ((A + B) / 2 − E), at most 1.

    S pairs share class and group, A share the class, B the group, and E = AB / (all pairs) is expected of random groups
    (Hubert & Arabie, J. Classification 1985, eq. 5). Random groups score 0 on average; less is possible.
    """
    table = overlaps(classes, groups)
    if table.same:
        return 1.0
    both, same_class, same_group = _pair_counts(table)
    everything = len(classes) * (len(classes) - 1) // 2
    # whole numbers until the last step: products of pair counts leave 2⁵³, even 2⁶³
    above = 2 * (both * everything - same_class * same_group)
    return above / ((same_class + same_group) * everything - 2 * same_class * same_group)


def pairwise_f1(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> float:
    """F1 of saying "one class" of each pair of items in one group, in [0, 1]: 2 S / (A + B).

    S pairs share class and group, A share the class, B the group. This is the F1 beside NMI since Oh Song et al.
    (CVPR 2016). Not corrected for chance. Where no two items share either, the partitions are the same: 1.
    """
    table = overlaps(classes, groups)
    both, same_class, same_group = _pair_counts(table)
    return 1.0 if same_class + same_group == 0 else 2 * both / (same_class + same_group)


def purity(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> float:
    """Share of items that belong to the largest class of their group, in (0, 1]; many small groups are always pure."""
    return int(overlaps(classes, groups).largest.sum()) / len(classes)


def _information(table: Overlaps) -> tuple[float, float]:
    """I(C; G), and H(C) + H(G), in nats."""
    entropies = _entropy(table.classes) + _entropy(table.groups)
    return entropies - _entropy(table.cells), entropies


def _entropy(sizes: Tensor) -> float:
    shares = sizes.double() / sizes.sum()
    return float(-torch.special.xlogy(shares, shares).sum())


def _pair_counts(table: Overlaps) -> tuple[int, int, int]:
    both, same_class, same_group = (int((sizes * (sizes - 1)).sum()) // 2 for sizes in table[:3])
    return both, same_class, same_group


def _expected_information(table: Overlaps) -> float:
    """E[I] = Σ over pairs of sizes (a, b) and overlaps n of n/N · log(N n / (a b)) · P(n), hypergeometric."""
    items = int(table.cells.sum())
    log_factorial = torch.lgamma(torch.arange(1, items + 2, dtype=torch.float64, device=table.cells.device))
    sizes, times = torch.unique(table.groups, return_counts=True)
    different, often = torch.unique(table.classes, return_counts=True)
    expected = 0.0
    for a, a_times in zip(different.tolist(), often.tolist(), strict=True):
        n = torch.arange(1, min(a, int(sizes.max())) + 1, device=sizes.device)
        for part in row_blocks(len(sizes), len(n), itemsize=8):
            terms = _terms(n, a, sizes[part, None], items, log_factorial)
            expected += a_times * float((times[part, None] * terms).sum())
    return expected


def _terms(n: Tensor, a: int, b: Tensor, items: int, log_factorial: Tensor) -> Float[Tensor, "size overlap"]:
    free = items - a - b + n
    ways = log_factorial[a] + log_factorial[items - a] + log_factorial[b] + log_factorial[items - b]
    parts = sum(log_factorial[count.clamp_min(0)] for count in (n, a - n, b - n, free))
    chance = (ways - log_factorial[items] - parts).exp()
    value = n.double() / items * (items * n.double() / (a * b)).log() * chance
    return torch.where((n <= b) & (free >= 0), value, 0)

"""Clustering metrics: whether groups found by k-means are the classes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.evaluation._kmeans import kmeans


def contingency(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> Float[Tensor, "class group"]:
    """How many items of each class lie in each group; both are numbered from 0."""
    rows, columns = int(classes.max()) + 1, int(groups.max()) + 1
    return torch.bincount(classes * columns + groups, minlength=rows * columns).reshape(rows, columns).double()


def normalised_mutual_information(classes: Int[Tensor, " item"], groups: Int[Tensor, " item"]) -> float:
    """How much groups tell about classes, from 0 (nothing) to 1 (the same partition): 2 I(C; G) / (H(C) + H(G)).

    The arithmetic mean of the entropies is used, as in scikit-learn's default; values made with the geometric mean
    (older papers) are higher. Two partitions of one part each agree: 1.
    """
    joint = contingency(classes, groups) / len(classes)
    entropies = _entropy(joint.sum(dim=1)) + _entropy(joint.sum(dim=0))
    if entropies == 0:
        return 1.0
    # I(C; G) = H(C) + H(G) − H(C, G); rounding must not leave the range
    return min(1.0, max(0.0, 2 * (entropies - _entropy(joint)) / entropies))


def nmi(
    points: Float[Tensor, "item dim"], classes: Int[Tensor, " item"], *, clusters: int, seeds: int, seed: int
) -> float:
    """Mean normalised mutual information over k-means runs with the seeds `seed`, `seed + 1`, …"""
    runs = [kmeans(points, clusters, generator=torch.Generator().manual_seed(seed + run)) for run in range(seeds)]
    return sum(normalised_mutual_information(classes, groups) for groups in runs) / seeds


def _entropy(shares: Tensor) -> float:
    return float(-torch.special.xlogy(shares, shares).sum())

"""Clustering metrics: whether groups found by k-means are the classes, averaged over seeds."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, describe
from accord.errors import BatchError
from accord.evaluation._kmeans import kmeans
from accord.evaluation._partitions import (
    adjusted_mutual_information,
    adjusted_rand_index,
    normalised_mutual_information,
    pairwise_f1,
    purity,
)

MEASURES = {
    "nmi": normalised_mutual_information,
    "ami": adjusted_mutual_information,
    "ari": adjusted_rand_index,
    "f1": pairwise_f1,
    "purity": purity,
}


def cluster_scores(
    points: Float[Tensor, "item dim"], classes: Int[Tensor, " item"], *, clusters: int, seeds: int, seed: int
) -> dict[str, float]:
    """`nmi`, `ami`, `ari`, `f1` (of pairs) and `purity` of k-means groups, each the mean over `seeds` runs.

    The field sets `clusters` to the number of classes. Runs draw from the seeds `seed`, `seed + 1`, …; their values one
    by one, and so their deviation, come from `cluster_runs`. All lie in [0, 1], but `ami` and `ari` may fall below 0
    where groups are worse than random ones.

        cluster_scores(embeddings, labels, clusters=100, seeds=10, seed=0)["nmi"]
    """
    runs = cluster_runs(points, classes, clusters=clusters, seeds=seeds, seed=seed)
    return {name: float(values.mean()) for name, values in runs.items()}


def cluster_runs(
    points: Float[Tensor, "item dim"], classes: Int[Tensor, " item"], *, clusters: int, seeds: int, seed: int
) -> dict[str, Float[Tensor, " run"]]:
    """What `cluster_scores` averages: for each measure a float64 value per k-means run."""
    check_count("cluster_runs", "seeds", seeds)
    if points.shape[:1] != classes.shape:
        shapes = f"  points:  {describe(points)}\n  classes: {describe(classes)}"
        raise BatchError(f"cluster_runs: give one class per point.\n{shapes}")
    runs = [kmeans(points, clusters, generator=torch.Generator().manual_seed(seed + run)) for run in range(seeds)]
    return {
        name: torch.tensor([measure(classes, groups) for groups in runs], dtype=torch.float64)
        for name, measure in MEASURES.items()
    }


def nmi(
    points: Float[Tensor, "item dim"], classes: Int[Tensor, " item"], *, clusters: int, seeds: int, seed: int
) -> float:
    """Mean normalised mutual information over k-means runs with the seeds `seed`, `seed + 1`, …"""
    return cluster_scores(points, classes, clusters=clusters, seeds=seeds, seed=seed)["nmi"]

"""k-means of items into as many groups as they have classes, one value per run for each figure of clusters."""

import torch
from jaxtyping import Float
from torch import Tensor

from accord.evaluation._clustering import cluster_runs
from accord.evaluation._gallery import gather
from accord.types import Labelled


def class_clusters(labelled: Labelled, *, seeds: int = 10, seed: int = 0) -> dict[str, Float[Tensor, " run"]]:
    """`nmi`, `f1` and the others of `evaluate`, run by run: their means are what it gives, their spread is beside it.

    Embeddings are brought to length one. Raises what `evaluate` raises for items that do not fit.
    """
    items = gather("class_clusters", labelled)
    classes = torch.unique(items.labels)
    return cluster_runs(items.whole(), items.labels, clusters=len(classes), seeds=seeds, seed=seed)

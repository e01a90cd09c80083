"""How many runs of k-means the clusters of an evaluation are averaged over, so that they don't take hours."""

import torch

from accord.types import Labelled

# items × numbers × classes is what one pass of one run costs; all runs together make do with so many passes
BUDGET = 100_000_000_000
# a single run beyond this is left out unless asked for
MOST = 2_000_000_000_000


def pass_cost(labelled: Labelled) -> int:
    """What one pass of one run of k-means costs: items × numbers × classes, and at least 1."""
    return max(1, labelled.embeddings.numel() * len(torch.unique(labelled.labels)))


def affordable_seeds(labelled: Labelled, wanted: int) -> int:
    """As many runs as are wanted, or fewer where one takes minutes; at least one."""
    return max(1, min(wanted, BUDGET // pass_cost(labelled)))


def fewer_seeds(seeds: int, wanted: int) -> list[str]:
    """What a reader must know where there were fewer runs than were wanted; nothing where there were not."""
    few = f"NMI is the mean over {seeds} k-means runs, not {wanted}: the set is large."
    return [few] if seeds < wanted else []

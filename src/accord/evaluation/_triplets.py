"""Triplet accuracy: how often an anchor is closer to what belongs with it than to what does not."""

import math

from accord.errors import BatchError
from accord.evaluation._verification import pair_scores
from accord.types import Labelled, Pairs, Triplets


def triplet_accuracy(labelled: Labelled, triplets: Triplets) -> float:
    """The share of triplets with score(anchor, positive) > score(anchor, negative), in [0, 1]; a tie counts half.

    `triplets` name items by id; scores are exact cosines, so of equal length the closer is the one at the smaller
    distance. A random or a constant embedding scores 0.5 on average. Raises BatchError without triplets, and for ids
    that the items do not have.

    >>> import torch
    >>> labelled = Labelled(torch.eye(3)[[0, 0, 1]], torch.zeros(3, dtype=torch.int64), torch.arange(3))
    >>> triplet_accuracy(labelled, Triplets(*torch.tensor([[0], [1], [2]])))
    1.0
    """
    if not len(triplets.anchors):
        raise BatchError("triplet_accuracy: there are no triplets to judge.")
    near = pair_scores(labelled, Pairs(triplets.anchors, triplets.positives))
    far = pair_scores(labelled, Pairs(triplets.anchors, triplets.negatives))
    right = (near > far).double() + (near == far).double() / 2
    return math.fsum(right.tolist()) / len(right)

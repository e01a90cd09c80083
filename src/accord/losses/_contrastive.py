"""Contrastive loss: pairs of one class together, other pairs a margin apart."""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import nn

from accord.checks import check_batch, check_range
from accord.errors import UnknownNameError
from accord.geometry import euclidean, full, normalise
from accord.losses._shared import mean_where
from accord.mining import pair_masks
from accord.types import Embeddings, Labels, Scalar

Hinge = Literal["squared", "linear"]
Average = Literal["pairs", "kinds"]


def contrastive(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: float = 0.5,
    hinge: Hinge = "squared",
    average: Average = "pairs",
) -> Scalar:
    """Pull pairs of one class together; push other pairs until they are `margin` apart.

    With d the Euclidean distance of unit-length embeddings (in [0, 2]), a pair of one class costs d² and any other
    max(0, margin - d)²; `hinge="linear"` drops the squares. The result is the mean over all pairs of the batch;
    `average="kinds"` adds the mean over positive pairs to the mean over negative ones, which keeps the few positives
    of a large batch from being drowned. Value ≥ 0. A batch without pairs costs zero and still carries a gradient.

    Hadsell, Chopra & LeCun, CVPR 2006, eq. 4, and Sohn, NIPS 2016, section 2. We differ from both: embeddings are
    normalised and the sum over pairs is a mean; from Hadsell's: no factor ½. Cost: batch × batch.
    """
    check_batch("contrastive", embeddings, labels)
    _check_options(margin, hinge, average)
    unit = normalise(embeddings, dtype=full(embeddings).dtype)
    distances = euclidean(unit, unit)
    positives, negatives = pair_masks(labels)
    pulls, pushes = distances, F.relu(margin - distances)
    if hinge == "squared":
        pulls, pushes = pulls.square(), pushes.square()
    if average == "kinds":
        return mean_where(pulls, positives) + mean_where(pushes, negatives)
    return mean_where(pulls.where(positives, pushes), positives | negatives)


class Contrastive(nn.Module):
    """Contrastive loss with its options remembered; see `contrastive`."""

    def __init__(self, *, margin: float = 0.5, hinge: Hinge = "squared", average: Average = "pairs") -> None:
        super().__init__()
        _check_options(margin, hinge, average)
        self.margin, self.hinge, self.average = margin, hinge, average

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return contrastive(embeddings, labels, margin=self.margin, hinge=self.hinge, average=self.average)


def _check_options(margin: float, hinge: Hinge, average: Average) -> None:
    check_range("contrastive", "margin", margin, low=0, high=2, open_low=True)
    if hinge not in get_args(Hinge):
        raise UnknownNameError("hinge of contrastive", hinge, get_args(Hinge))
    if average not in get_args(Average):
        raise UnknownNameError("average of contrastive", average, get_args(Average))

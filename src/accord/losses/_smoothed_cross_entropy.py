"""Cross-entropy of a linear classifier with smoothed labels: the plain classification baseline and ensemble member."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_classes, check_count, check_range
from accord.errors import UnknownNameError, UsageError
from accord.geometry import inner
from accord.losses._shared import class_table, mean
from accord.types import Embeddings, Labels, Scalar

Spread = Literal["all", "others"]


def smoothed_cross_entropy(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    bias: Float[Tensor, " class"],
    *,
    smoothing: float = 0.1,
    spread: Spread = "all",
) -> Scalar:
    """Classify each item by `weight @ embedding + bias`, without asking for full certainty.

    The target gives the true class 1 - smoothing and spreads `smoothing` evenly over all classes, the true one
    included, or with `spread="others"` over the others only. The cross-entropy's mean over the batch is returned, ≥ 0.
    Embeddings are used as they are, not normalised. An empty batch costs zero. Labels are class numbers from 0.

    Szegedy et al., CVPR 2016, section 7 (`all`, 0.1). Zabihzadeh et al., arXiv 2107.01130, train with `others`, 0.15.
    """
    check_batch("smoothed_cross_entropy", embeddings, labels)
    _check_options(smoothing, spread)
    classes = len(weight)
    if classes < 2:
        raise UsageError(f"smoothed_cross_entropy: needs the weights of at least 2 classes, not {classes}.")
    check_classes("smoothed_cross_entropy", labels, classes)
    guesses = (inner(embeddings, weight) + bias).log_softmax(dim=1)
    own = labels[:, None] == torch.arange(classes, device=labels.device)
    right = torch.where(own, guesses, 0).sum(dim=1)
    # over the others alone is over all with a larger share
    share = smoothing if spread == "all" else smoothing * classes / (classes - 1)
    return mean(-(1 - share) * right - share * guesses.mean(dim=1))


class SmoothedCrossEntropy(nn.Module):
    """Smoothed cross-entropy with its own linear classifier `weight`, `bias`; see `smoothed_cross_entropy`.

    Weights start at N(0, 1/dim), biases at 0.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        smoothing: float = 0.1,
        spread: Spread = "all",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_options(smoothing, spread)
        check_count("smoothed_cross_entropy", "dim", dim)
        self.smoothing, self.spread = smoothing, spread
        self.weight = class_table(
            "smoothed_cross_entropy", dim=dim, classes=classes, spread=dim**-0.5, generator=generator
        )
        self.bias = nn.Parameter(torch.zeros(classes, device=self.weight.device))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return smoothed_cross_entropy(
            embeddings, labels, self.weight, self.bias, smoothing=self.smoothing, spread=self.spread
        )


def _check_options(smoothing: float, spread: Spread) -> None:
    check_range("smoothed_cross_entropy", "smoothing", smoothing, low=0, high=1, open_high=True)
    if spread not in get_args(Spread):
        raise UnknownNameError("spread of smoothed_cross_entropy", spread, get_args(Spread))

"""Margin loss: pairs of one class within a learned radius, other pairs outside it, each by a margin."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_classes, check_count, check_range, describe
from accord.errors import UnknownNameError, UsageError
from accord.geometry import full
from accord.losses._engine import sweep
from accord.losses._rule import Pull, Rule, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Average = Literal["pairs", "triplets"]


@dataclass(frozen=True)
class MarginRule:
    """What one row of distances costs, given the anchors' radius; see `margin`."""

    alpha: float = 0.2
    average: Average = "pairs"
    shared: bool = False
    name = "margin"
    measure: Measure = "euclidean"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "alpha", self.alpha, low=0)
        if self.average not in get_args(Average):
            raise UnknownNameError("average of margin", self.average, get_args(Average))

    @property
    def mutual(self) -> bool:
        """Whether both items of a pair play the same part: with one radius for all."""
        return self.shared and self.average == "pairs"

    def costs(self, block: Block, beta: Tensor) -> Tally:
        """Hinges on both sides of the radius, and how many of them cost something."""
        radius = beta[:, None] if beta.ndim else beta
        pulls = F.relu(torch.where(block.kept, block.positives - radius + self.alpha, 0))
        pushes = F.relu(radius + self.alpha - block.negatives)
        by_pull, by_push = self._weights(block)
        counts = (pulls > 0).sum(dim=1) * by_pull + (pushes > 0).sum(dim=1) * by_push
        return Tally(pulls.sum(dim=1) * by_pull + pushes.sum(dim=1) * by_push, counts + torch.zeros_like(pulls[:, 0]))

    def pull(self, block: Block, beta: Tensor) -> Pull:
        """By hand: 1 for each pull and -1 for each push that costs something, the opposite for the radius."""
        radius = beta[:, None] if beta.ndim else beta
        pulls = torch.where(block.kept, block.positives - (radius - self.alpha), 0).clamp_min_(0)
        pushes = torch.sub(radius + self.alpha, block.negatives).relu_()
        by_pull, by_push = self._weights(block)
        costs = pulls.sum(dim=1) * by_pull + pushes.sum(dim=1) * by_push
        pulling, pushing = pulls.sign_().sum(dim=1) * by_pull, pushes.sign_().sum(dim=1) * by_push
        if isinstance(by_pull, Tensor) and isinstance(by_push, Tensor):
            pulls, by_negatives = pulls.mul_(by_pull[:, None]), pushes.mul_(-by_push[:, None])
        else:
            by_negatives = pushes.neg_()
        by_beta = pushing - pulling
        learned = (by_beta if beta.ndim else by_beta.sum(),)
        return Pull(Tally(costs, pulling + pushing), pulls, by_negatives, learned)

    def _weights(self, block: Block) -> tuple[Tensor | float, Tensor | float]:
        """How often a pull and a push of each row count."""
        return (1.0, 1.0) if self.average == "pairs" else (block.negative_count, block.positive_count)


def margin(
    embeddings: Embeddings,
    labels: Labels,
    beta: Float[Tensor, "*class"],
    *,
    alpha: float = 0.2,
    nu: float = 0.0,
    average: Average = "pairs",
) -> Scalar:
    """Bring pairs of one class within `beta - alpha` of each other, and all other pairs beyond `beta + alpha`.

    With d the Euclidean distance of unit-length embeddings (in [0, 2]) and y = 1 for pairs of one class, else -1, a
    pair costs max(0, alpha + y (d - beta)). The result is the mean over the pairs that cost something, ≥ 0, plus
    `nu` times the mean beta of the batch's items, which keeps a learned radius from growing. `beta` is a number (a
    tensor without axes) or one per class, that of the anchor being used; labels are then class numbers from 0.
    `average="triplets"` counts a pair as often as it is part of a triplet, which keeps the few positives of a large
    batch from being drowned. A batch in which no pair costs anything costs zero, but for `nu`.

    Wu et al., ICCV 2017, with beta per class but not per image. We differ: all pairs are used instead of a
    sample by distance, and `nu` weighs a mean, not a sum. alpha 0.2 and beta 1.2 are widely used defaults.
    """
    check_range("margin", "nu", nu, low=0)
    return _around(MarginRule(alpha, average, shared=not beta.ndim), embeddings, labels, beta, nu)


def _around(rule: Rule, embeddings: Tensor, labels: Tensor, beta: Tensor, nu: float) -> Scalar:
    """The sweep with the radius of each anchor, and what the radii cost."""
    check_batch("margin", embeddings, labels)
    radius = full(beta)
    if radius.ndim > 1:
        raise UsageError(f"margin: beta must be one number or one per class, not {describe(beta)}.")
    if not radius.ndim:
        value = sweep(rule, embeddings, labels, learned=(radius,))
        return value + nu * radius * min(1, len(labels)) if nu else value
    check_classes("margin", labels, len(radius))
    radii = radius[labels.long()]
    value = sweep(rule, embeddings, labels, per_row=(radii,))
    return value + nu * radii.sum() / max(1, len(radii)) if nu else value


class Margin(nn.Module):
    """Margin loss with its learned radius, the parameter `beta`: one, or with `classes` one per class; see `margin`.

    It wants a learning rate of its own; `beta.requires_grad_(False)` keeps it where it starts.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        beta: float = 1.2,
        classes: int | None = None,
        nu: float = 0.0,
        average: Average = "pairs",
    ) -> None:
        super().__init__()
        self.rule, self.nu = MarginRule(alpha, average, shared=classes is None), nu
        check_range("margin", "beta", beta, low=0, high=2)
        check_range("margin", "nu", nu, low=0)
        if classes is not None:
            check_count("margin", "classes", classes, low=2)
        self.beta = nn.Parameter(torch.full(() if classes is None else (classes,), float(beta)))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _around(self.rule, embeddings, labels, self.beta, self.nu)

"""Cross-entropy of a linear classifier with smoothed labels: the plain classification baseline and ensemble member."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_classes, check_count, check_range
from accord.errors import UnknownNameError
from accord.geometry import full
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import check_table, sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_parts
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Spread = Literal["all", "others"]


@dataclass(frozen=True)
class SmoothedCrossEntropyRule:
    """What one item costs against all classes; see `smoothed_cross_entropy`.

    The products are completed by the biases: `bias` of every class, `own_bias` of each row's own.
    """

    smoothing: float = 0.1
    spread: Spread = "all"
    name = "smoothed_cross_entropy"
    measure: Measure = "score"
    unit = False

    def __post_init__(self) -> None:
        check_range(self.name, "smoothing", self.smoothing, low=0, high=1, open_high=True)
        if self.spread not in get_args(Spread):
            raise UnknownNameError("spread of smoothed_cross_entropy", self.spread, get_args(Spread))

    def costs(self, block: Block, bias: Tensor, own_bias: Tensor) -> Tally:
        """The cross-entropy, and the own logit's lead over those that the target gives a share to."""
        others, own = block.negatives + bias, own_score(block) + own_bias
        tally, each = target_costs(own, others, 1.0), self._each(block)
        total = torch.where(block.negatives.isfinite(), others, 0).sum(dim=1)
        return tally._replace(costs=tally.costs + each * (block.negative_count * own - total))

    def pull(self, block: Block, bias: Tensor, own_bias: Tensor) -> Pull:
        """By hand: the softmax, less the target."""
        others, own = block.negatives + bias, own_score(block) + own_bias
        (costs, counts), by_own, by_others = target_parts(own, others, 1.0)
        each = self._each(block)
        if each:
            absent = others == block.far
            by_others.sub_(each).masked_fill_(absent, 0)
            costs = costs + each * (block.negative_count * own - others.masked_fill_(absent, 0).sum(dim=1))
            by_own = by_own + each * block.negative_count
        by_positives = by_own[:, None].expand_as(block.positives)
        return Pull(Tally(costs, counts), by_positives, by_others, (by_others.sum(dim=0), by_own))

    def _each(self, block: Block) -> float:
        """What the target gives to each other class."""
        classes = block.negatives.shape[1]
        return self.smoothing / (classes if self.spread == "all" else classes - 1)


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
    return _smoothed(SmoothedCrossEntropyRule(smoothing, spread), embeddings, labels, weight, bias)


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
        self.rule = SmoothedCrossEntropyRule(smoothing, spread)
        check_count(self.rule.name, "dim", dim)
        self.weight = class_table(self.rule.name, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)
        self.bias = nn.Parameter(torch.zeros(classes, device=self.weight.device))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _smoothed(self.rule, embeddings, labels, self.weight, self.bias)


def _smoothed(
    rule: SmoothedCrossEntropyRule, embeddings: Embeddings, labels: Labels, weight: Tensor, bias: Tensor
) -> Scalar:
    # here and not in the sweep: a label out of range would be looked up among the biases first
    check_table(rule.name, embeddings, labels, weight)
    check_classes(rule.name, labels, len(bias))
    biases = full(bias)
    own = biases.index_select(0, labels.to(torch.int64))
    return sweep_table(rule, embeddings, labels, weight, learned=(biases,), per_row=(own,))

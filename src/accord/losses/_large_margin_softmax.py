"""Large-margin softmax: a linear classifier in which the angle to the own class counts `margin` times."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.geometry import full
from accord.losses._multiple_angle import MOST_TURNS, multiple_angle
from accord.losses._rule import Pull, Tally
from accord.losses._settings import settings
from accord.losses._shared import class_table
from accord.losses._tables import check_table, sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_parts
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class LargeMarginSoftmaxRule:
    """What one item costs against all class vectors; see `large_margin_softmax`.

    `lengths` are those of each item times that of its own class vector.
    """

    margin: int = 4
    annealing: float = 0.0
    name = "large_margin_softmax"
    measure: Measure = "score"
    unit = False

    def __post_init__(self) -> None:
        check_count(self.name, "margin", self.margin, high=MOST_TURNS)
        check_range(self.name, "annealing", self.annealing, low=0)

    def costs(self, block: Block, lengths: Tensor) -> Tally:
        """The cross-entropy of inner products, with psi for the own cosine."""
        value, _ = multiple_angle(own_score(block) / lengths, self.margin, self.annealing)
        return target_costs(lengths * value, block.negatives, 1.0)

    def pull(self, block: Block, lengths: Tensor) -> Pull:
        """By hand: the softmax less one at the own class."""
        cosine = own_score(block) / lengths
        value, slope = multiple_angle(cosine, self.margin, self.annealing)
        tally, by_target, by_others = target_parts(lengths * value, block.negatives, 1.0)
        by_own = (by_target * slope)[:, None].expand_as(block.positives)
        return Pull(tally, by_own, by_others, (by_target * (value - slope * cosine),))


def large_margin_softmax(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    margin: int = 4,
    annealing: float = 0.0,
) -> Scalar:
    """Classify by inner product with a vector per class, the angle to the own one counted `margin` times.

    The logits are ‖w_j‖ ‖x‖ cos t_j, with t_j the angle between embedding x and class vector w_j; for the own class
    ‖w‖ ‖x‖ (annealing · cos t + psi(t)) / (1 + annealing), psi(t) = (-1)^k cos(margin · t) - 2k on
    [k pi/margin, (k+1) pi/margin], a whole `margin`. The cross-entropy's mean over the batch is returned, ≥ 0; an empty
    batch costs zero. Nothing is normalised, and there is no bias. Labels are class numbers from 0.

    Liu et al., "Large-margin softmax", ICML 2016, where the margin is 1 to 4 and `annealing` falls while
    training. psi is a polynomial of the cosine here: no arccosine, its slope is at most margin². With normalised class
    vectors it is `sphere_face`.
    """
    return _large(LargeMarginSoftmaxRule(margin, annealing), embeddings, labels, weight)


class LargeMarginSoftmax(nn.Module):
    """Large-margin softmax with a learned vector per class, `weight`, from N(0, 1/dim); see `large_margin_softmax`.

    `annealing` may be set while training: lower it step by step, from 1000 say to 5.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: int = 4,
        annealing: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.margin, self.annealing = margin, annealing
        check_count(self.rule.name, "dim", dim)
        self.weight = class_table(self.rule.name, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _large(self.rule, embeddings, labels, self.weight)

    @property
    def rule(self) -> LargeMarginSoftmaxRule:
        """The rule as options stand now; they are checked anew."""
        return LargeMarginSoftmaxRule(self.margin, self.annealing)


def _large(rule: LargeMarginSoftmaxRule, embeddings: Embeddings, labels: Labels, weight: Tensor) -> Scalar:
    # here and not in the sweep: a label out of range would be looked up among the class vectors first
    check_table(rule.name, embeddings, labels, weight)
    places = labels.to(torch.int64)
    if len(places) and weight.requires_grad and torch.is_grad_enabled() and not settings().plain:
        weight, own = _OwnLengths.apply(weight, places)  # type: ignore[no-untyped-call]
    else:
        own = _lengths(weight.index_select(0, places))
    lengths = _lengths(embeddings) * own
    # never 0, for the cosine is the inner product by it
    lengths = lengths.clamp_min(torch.finfo(torch.float32).tiny)
    return sweep_table(rule, embeddings, labels, weight, per_row=(lengths,))


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(full(vectors), dim=1)
    return lengths


class _OwnLengths(torch.autograd.Function):
    """The table as it is, and the lengths of the own class vectors, whose gradient joins the table's.

    Autograd would make a second gradient as large as the table for the few vectors that were looked up.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, places)
        return weight.view_as(weight), _lengths(weight.index_select(0, places))

    @staticmethod
    def backward(ctx: Any, by_weight: Tensor, by_lengths: Tensor) -> tuple[Tensor, None]:
        weight, places = ctx.saved_tensors
        own = full(weight.index_select(0, places))
        share = by_lengths / _lengths(own).clamp_min(torch.finfo(own.dtype).tiny)
        by_own = (share[:, None] * own).to(by_weight.dtype)
        if torch.is_grad_enabled() or not by_weight.is_contiguous():
            return by_weight.index_add(0, places, by_own), None
        # nobody else holds it: only the sweep sees this view of the table
        return by_weight.index_add_(0, places, by_own), None

"""SphereFace: classification by angle to a class vector, where the own angle counts `margin` times."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_count, check_range
from accord.geometry import full
from accord.losses._multiple_angle import MOST_TURNS, multiple_angle
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_parts
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class SphereFaceRule:
    """What one item of a given length costs against all class vectors; see `sphere_face`."""

    margin: int = 4
    annealing: float = 0.0
    name = "sphere_face"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_count(self.name, "margin", self.margin, high=MOST_TURNS)
        check_range(self.name, "annealing", self.annealing, low=0)

    def costs(self, block: Block, lengths: Tensor) -> Tally:
        """The cross-entropy of length · cosine, with psi for the own cosine."""
        value, _ = multiple_angle(own_score(block), self.margin, self.annealing)
        # of a column that is no negative nothing may flow into the length: -inf times 0 is NaN
        others = torch.where(block.negatives.isfinite(), block.negatives, 0) * lengths[:, None]
        return target_costs(lengths * value, others.masked_fill(block.negatives == block.far, -torch.inf), 1.0)

    def pull(self, block: Block, lengths: Tensor) -> Pull:
        """By hand: the softmax less one at the own class; the length's derivative is its mean cosine."""
        value, slope = multiple_angle(own_score(block), self.margin, self.annealing)
        tally, by_target, by_others = target_parts(lengths * value, block.negatives, lengths[:, None])
        # a column that is no negative has weight 0, and -inf times 0 is NaN
        total = torch.linalg.vecdot(by_others, block.negatives.clamp_min(-2))
        by_own = (by_target * lengths * slope)[:, None].expand_as(block.positives)
        return Pull(tally, by_own, by_others, (total / lengths + by_target * value,))


def sphere_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    margin: int = 4,
    annealing: float = 0.0,
) -> Scalar:
    """Classify by angle: an item must be `margin` times nearer to its class vector, in angle, than to any other.

    With t_j the angle between embedding x and class vector j, the logits are ‖x‖ cos t_j, for the own class
    ‖x‖ (annealing · cos t + psi(t)) / (1 + annealing), psi(t) = (-1)^k cos(margin · t) - 2k on
    [k pi/margin, (k+1) pi/margin], a whole `margin`. The cross-entropy's mean over the batch is returned, ≥ 0; an
    empty batch costs zero. Class vectors are normalised and have no bias, embeddings keep their length: it is the
    sharpness. Labels are class numbers from 0.

    Liu et al., "SphereFace", CVPR 2017 (A-Softmax), margin 4, trained with `annealing` falling from large to small, for
    psi alone rarely starts to learn. psi is a polynomial of the cosine here: no arccosine, its slope is at most
    margin². Large-margin softmax (`large_margin_softmax`) is the same with class vectors that keep their length.
    """
    return _sphere(SphereFaceRule(margin, annealing), embeddings, labels, weight)


class SphereFace(nn.Module):
    """SphereFace with a learned vector per class, `weight`, of about unit length; see `sphere_face`.

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
        return _sphere(self.rule, embeddings, labels, self.weight)

    @property
    def rule(self) -> SphereFaceRule:
        """The rule as options stand now; they are checked anew."""
        return SphereFaceRule(self.margin, self.annealing)


def _sphere(rule: SphereFaceRule, embeddings: Embeddings, labels: Labels, weight: Tensor) -> Scalar:
    check_batch(rule.name, embeddings, labels)
    # never 0, for infinitely far times 0 is NaN
    lengths = torch.linalg.vector_norm(full(embeddings), dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    return sweep_table(rule, embeddings, labels, weight, per_row=(lengths,))

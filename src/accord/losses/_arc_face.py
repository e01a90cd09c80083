"""ArcFace: classification by cosine in which the own class must win by a margin of angle; also with sub-centres."""

from dataclasses import dataclass
from math import cos, pi, sin

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class ArcFaceRule:
    """What one item costs against all classes; see `arc_face`."""

    margin: float = 0.5
    scale: float = 64.0
    name = "arc_face"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=pi / 2)
        check_range(self.name, "scale", self.scale, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """The cross-entropy with a widened own angle."""
        target = widened(own_score(block), self.margin)[0]
        return target_costs(self.scale * target, block.negatives, self.scale)

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax, and the slope of the widened angle's cosine."""
        target, slope = widened(own_score(block), self.margin)
        return target_pull(block, self.scale * target, self.scale * slope, block.negatives, self.scale)


def widened(cosines: Float[Tensor, " row"], margin: float) -> tuple[Float[Tensor, " row"], Float[Tensor, " row"]]:
    """The cosine of an angle t made wider by `margin`, given cos t, and its derivative by cos t.

    cos(t + m) = cos t cos m - sin t sin m, so no arc cosine is needed. The sine has no derivative at cos t = ±1; within
    16 rounding errors of there a line takes its place, which is exact at ±1 and keeps the derivative finite, whatever
    rounding makes of a cosine. Where t + m exceeds π the value would rise again; there it is cos t - m sin m, which
    falls on with t.
    """
    noise = 16 * torch.finfo(cosines.dtype).eps
    squares = 1 - cosines.square()
    inverse = squares.clamp_min(noise).rsqrt()
    steep = cosines * inverse * (1 + (squares <= noise))
    inside = cosines > -cos(margin)
    target = torch.where(
        inside, cos(margin) * cosines - sin(margin) * squares * inverse, cosines - margin * sin(margin)
    )
    return target, torch.where(inside, cos(margin) + sin(margin) * steep, 1)


def arc_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    margin: float = 0.5,
    scale: float = 64.0,
) -> Scalar:
    """Classify by angle, but let the own class look `margin` radians farther than it is, so that it must win clearly.

    With t_j the angle between an item and the vector of class j, an item of class y costs the cross-entropy of the
    logits scale · cos t_j for j ≠ y and scale · cos(t_y + margin) for its own; the mean over the batch is returned,
    ≥ 0. An empty batch costs zero. Labels are class numbers from 0. The margin is in radians, in [0, π/2].

    Deng et al., CVPR 2019, eq. 3. Margin and scale are the widely used defaults. Where t_y + margin > π, which the
    equation leaves open, the own logit is scale · (cos t_y - margin · sin margin), as is usual: it falls on with the
    angle, with a step down where that begins. No arc cosine is taken: value and gradient are finite also for an item
    that lies on the vector of its class or opposite to it.
    """
    return sweep_table(ArcFaceRule(margin, scale), embeddings, labels, weight)


class ArcFace(nn.Module):
    """ArcFace with a learned vector per class, `weight`, of about unit length; see `arc_face`."""

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule = ArcFaceRule(margin, scale)
        check_count("arc_face", "dim", dim)
        self.weight = class_table("arc_face", dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.weight)

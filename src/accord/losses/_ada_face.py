"""AdaFace: a margin that suits the quality of each image, which the length of its embedding tells."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_count, check_range
from accord.geometry import full
from accord.losses._own_margins import sine
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import check_table, sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

SHORTEST, LONGEST = 1e-3, 100.0


@dataclass(frozen=True)
class AdaFaceRule:
    """What one item of a given quality costs against all class vectors; see `ada_face`."""

    margin: float = 0.4
    h: float = 0.333
    scale: float = 64.0
    name = "ada_face"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=pi / 2)
        check_range(self.name, "h", self.h, low=0)
        check_range(self.name, "scale", self.scale, low=0, open_low=True)

    def costs(self, block: Block, quality: Tensor) -> Tally:
        """The cross-entropy with an own angle and cosine changed according to quality."""
        return target_costs(self.scale * self._target(block, quality)[0], block.negatives, self.scale)

    def pull(self, block: Block, quality: Tensor) -> Pull:
        """By hand: a softmax, and the slope of the changed cosine; nothing for the quality, which is measured."""
        target, slope = self._target(block, quality)
        pull = target_pull(block, self.scale * target, self.scale * slope, block.negatives, self.scale)
        return pull._replace(learned=(torch.zeros_like(quality),))

    def _target(self, block: Block, quality: Tensor) -> tuple[Tensor, Tensor]:
        """cos(t - margin · quality) - margin · (1 + quality), its angle kept in [0, π], and its slope by cos t."""
        own, angle = own_score(block), -self.margin * quality
        along, across = angle.cos(), angle.sin()
        sines, by_cosine = sine(own)
        below, beyond = (angle < 0) & (own >= along), (angle > 0) & (own <= -along)
        moved = torch.where(below | beyond, torch.where(below, 1.0, -1.0), own * along - sines * across)
        slope = torch.where(below | beyond, 0.0, along - by_cosine * across)
        return moved - self.margin * (1 + quality), slope.detach()


def ada_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    mean: Scalar,
    deviation: Scalar,
    *,
    margin: float = 0.4,
    h: float = 0.333,
    scale: float = 64.0,
) -> Scalar:
    """Classify by cosine with a margin that asks more of hard images if they are good, of easy ones if they are bad.

    An item's quality z = h · (‖x‖ - mean) / (deviation + 0.001), kept in [-1, 1], compares the length of its embedding
    (kept in [0.001, 100]) with a running `mean` and `deviation`; nothing flows into it. With t the angle to the own
    class vector, the own logit is scale · (cos(t - margin · z) - margin · (1 + z)), the angle kept in [0, π] (outside,
    an item's own class teaches nothing), the others scale · cos. The cross-entropy's mean over the batch is returned,
    ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Kim, Jain & Liu, "AdaFace", CVPR 2022, with the widely used defaults. No arccosine is taken:
    value and gradient are finite also on and opposite to a class vector.
    """
    rule = AdaFaceRule(margin, h, scale)
    check_batch(rule.name, embeddings, labels)
    return _ada(rule, embeddings, labels, weight, lengths(embeddings), mean, deviation)


class AdaFace(nn.Module):
    """AdaFace with a learned vector per class, `weight`, of about unit length; see `ada_face`.

    The buffers `mean` and `deviation` (20 and 100 at first) follow the lengths of the embeddings it is trained on: each
    batch of two items or more moves them by the share `t_alpha`, before it is used. An evaluating module leaves them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.4,
        h: float = 0.333,
        scale: float = 64.0,
        t_alpha: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule, self.t_alpha = AdaFaceRule(margin, h, scale), t_alpha
        check_range(self.rule.name, "t_alpha", t_alpha, low=0, high=1)
        check_count(self.rule.name, "dim", dim)
        self.weight = class_table(self.rule.name, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)
        self.register_buffer("mean", torch.full_like(self.weight.detach()[0, 0], 20.0))
        self.register_buffer("deviation", torch.full_like(self.weight.detach()[0, 0], 100.0))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        # here and not in the sweep: a batch that is refused moves no statistics
        check_table(self.rule.name, embeddings, labels, self.weight)
        found = lengths(embeddings)
        if self.training and len(found) > 1:
            now = found.to(self.mean.dtype)
            # a new tensor and not a change of the old one, which a compiled graph would lose
            self.mean = self.mean.lerp(now.mean(), self.t_alpha)
            self.deviation = self.deviation.lerp(now.std(), self.t_alpha)
        return _ada(self.rule, embeddings, labels, self.weight, found, self.mean, self.deviation)


def lengths(embeddings: Embeddings) -> Float[Tensor, " item"]:
    """How long embeddings are, as AdaFace measures it: detached, and kept in a range."""
    found: Tensor = torch.linalg.vector_norm(full(embeddings.detach()), dim=1)
    return found.clamp(SHORTEST, LONGEST)


def _ada(
    rule: AdaFaceRule,
    embeddings: Embeddings,
    labels: Labels,
    weight: Tensor,
    found: Tensor,
    mean: Tensor,
    deviation: Tensor,
) -> Scalar:
    quality = (rule.h * (found - mean.detach()) / (deviation.detach() + 1e-3)).clamp(-1, 1)
    return sweep_table(rule, embeddings, labels, weight, per_row=(quality.to(found.dtype),))

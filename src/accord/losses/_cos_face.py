"""CosFace: classification by cosine in which the own class must win by a margin of cosine."""

from dataclasses import dataclass

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
class CosFaceRule:
    """What one item costs against all classes; see `cos_face`."""

    margin: float = 0.35
    scale: float = 64.0
    name = "cos_face"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=2)
        check_range(self.name, "scale", self.scale, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """The cross-entropy with a lowered own cosine."""
        target = self.scale * (own_score(block) - self.margin)
        return target_costs(target, block.negatives, self.scale)

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax, for a shifted cosine has slope one."""
        target = self.scale * (own_score(block) - self.margin)
        return target_pull(block, target, self.scale, block.negatives, self.scale)


def cos_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    margin: float = 0.35,
    scale: float = 64.0,
) -> Scalar:
    """Classify by cosine, but let the own class count `margin` less than it is, so that it must win clearly.

    With c_j the cosine of an item and the vector of class j, an item of class y costs the cross-entropy of the logits
    scale · c_j for j ≠ y and scale · (c_y - margin) for its own; the mean over the batch is returned, ≥ 0. An empty
    batch costs zero. Labels are class numbers from 0. Margin in [0, 2], 0 makes it a normalised softmax.

    Wang et al., CVPR 2018 (large margin cosine loss, eq. 4); also additive-margin softmax. Margin and scale are the
    widely used defaults; what suits a data set differs much.
    """
    return sweep_table(CosFaceRule(margin, scale), embeddings, labels, weight)


class CosFace(nn.Module):
    """CosFace with a learned vector per class, `weight`, of about unit length; see `cos_face`."""

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.35,
        scale: float = 64.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule = CosFaceRule(margin, scale)
        check_count("cos_face", "dim", dim)
        self.weight = class_table("cos_face", dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.weight)

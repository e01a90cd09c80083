"""Sub-centre ArcFace: an ArcFace whose classes have several centres, of which the nearest counts."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.losses._arc_face import widened
from accord.losses._centres import by_centre, by_column, check_centres
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_parts
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class SubCentreArcFaceRule:
    """What one item costs against all centres of all classes; see `sub_centre_arc_face`."""

    centres: int = 3
    margin: float = 0.5
    scale: float = 64.0
    name = "sub_centre_arc_face"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_count(self.name, "centres", self.centres)
        check_range(self.name, "margin", self.margin, low=0, high=pi / 2)
        check_range(self.name, "scale", self.scale, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """The cross-entropy over nearest centres, with a widened own angle."""
        target = widened(own_score(block), self.margin)[0]
        nearest = by_centre(block.negatives, self.centres).amax(dim=1)
        return target_costs(self.scale * target, nearest, self.scale)

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax over classes, handed to the nearest centre of each; equally near ones share."""
        own = torch.where(block.kept, block.positives, -torch.inf)
        nearest_own = own.amax(dim=1, keepdim=True)
        target, slope = widened(nearest_own[:, 0], self.margin)
        centres = by_centre(block.negatives, self.centres)
        nearest = centres.amax(dim=1)
        tally, by_target, by_nearest = target_parts(self.scale * target, nearest, self.scale)
        chosen_own, chosen = own.eq_(nearest_own), centres.eq_(nearest[:, None])
        by_own = (by_target * slope)[:, None] * self.scale / chosen_own.sum(dim=1, keepdim=True)
        by_nearest.div_(chosen.sum(dim=1))
        return Pull(tally, chosen_own.mul_(by_own), by_column(chosen.mul_(by_nearest[:, None])))


def sub_centre_arc_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "centre dim"],
    *,
    centres: int = 3,
    margin: float = 0.5,
    scale: float = 64.0,
) -> Scalar:
    """Classify by angle as ArcFace does, but let a class have several centres: an item need only be near one of them.

    The cosine of an item and a class is the largest of those with the class's `centres` centres, and the gradient goes
    to that one alone; everything else is as in `arc_face`. So outliers and wrong labels gather around a centre of their
    own and do not spoil the main one. Rows `centres * c` … `centres * (c + 1) - 1` of `weight` are those of class c.
    The mean over the batch is returned, ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Deng et al., ECCV 2020. Three centres, margin and scale are the widely used defaults.
    """
    rule = SubCentreArcFaceRule(centres, margin, scale)
    check_centres(rule.name, weight, centres)
    return sweep_table(rule, embeddings, labels, weight, per_class=centres)


class SubCentreArcFace(nn.Module):
    """Sub-centre ArcFace with `centres` learned vectors per class, one after another in `weight`.

    They are of about unit length at first; see `sub_centre_arc_face`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        centres: int = 3,
        margin: float = 0.5,
        scale: float = 64.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule = SubCentreArcFaceRule(centres, margin, scale)
        check_count("sub_centre_arc_face", "dim", dim)
        check_count("sub_centre_arc_face", "classes", classes, low=2)
        self.weight = class_table(
            "sub_centre_arc_face", dim=dim, classes=classes * centres, spread=dim**-0.5, generator=generator
        )

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.weight, per_class=self.rule.centres)

"""Softmax over cosines in which every item has a margin of its own: what ElasticFace, MagFace and others share."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.losses._rule import Pull, Tally
from accord.losses._target_softmax import own_score, target_costs, target_parts
from accord.mining import Block, Measure

MarginOn = Literal["angle", "cosine"]
Rows = Float[Tensor, " row"]


@dataclass(frozen=True)
class OwnMarginsRule:
    """The cross-entropy of scale · cosine, where the own angle is widened, or the own cosine lowered, by `margins`."""

    name: str
    scale: float = 64.0
    margin_on: MarginOn = "angle"
    measure: Measure = "score"
    unit: bool = True

    def __post_init__(self) -> None:
        check_range(self.name, "scale", self.scale, low=0, open_low=True)
        if self.margin_on not in get_args(MarginOn):
            raise UnknownNameError(f"margin_on of {self.name}", self.margin_on, get_args(MarginOn))

    def costs(self, block: Block, margins: Tensor) -> Tally:
        """The cross-entropy with the changed own cosine."""
        return target_costs(self.scale * self._target(block, margins)[0], block.negatives, self.scale)

    def pull(self, block: Block, margins: Tensor) -> Pull:
        """By hand: a softmax, and the slopes of the changed cosine."""
        target, by_cosine, by_margin = self._target(block, margins)
        tally, by_target, by_scores = target_parts(self.scale * target, block.negatives, self.scale)
        by_target = self.scale * by_target
        by_own = (by_target * by_cosine)[:, None].expand_as(block.positives)
        return Pull(tally, by_own, by_scores, (by_target * by_margin,))

    def _target(self, block: Block, margins: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = own_score(block)
        if self.margin_on == "angle":
            return widened_each(own, margins)
        one = torch.ones_like(own)
        return own - margins, one, -one


def widened_each(cosines: Rows, margins: Rows) -> tuple[Rows, Rows, Rows]:
    """cos(t + margin) given cos t, row by row, and its derivatives by cos t and by the margin.

    Where t + margin exceeds π the value would rise again; there it is cos t - margin · sin margin, as in `arc_face`.
    """
    along, across = margins.cos(), margins.sin()
    sines, by_cosine = sine(cosines)
    inside = (cosines > -along) | (margins <= 0)
    target = torch.where(inside, cosines * along - sines * across, cosines - margins * across)
    slope = torch.where(inside, along - by_cosine * across, 1)
    by_margin = torch.where(inside, -cosines * across - sines * along, -across - margins * along)
    return target, slope.detach(), by_margin.detach()


def sine(cosines: Rows) -> tuple[Rows, Rows]:
    """The sine of an angle from its cosine, and its derivative by the cosine, finite also at ±1.

    Within 16 rounding errors of ±1, where the derivative would grow without bound, a line takes the root's place.
    """
    noise = 16 * torch.finfo(cosines.dtype).eps
    squares = 1 - cosines.square()
    well = squares > noise
    # the input of the root is masked, not its output: 0 · inf in the backward pass would be NaN
    sines = torch.where(well, torch.where(well, squares, 1).sqrt(), squares * noise**-0.5)
    return sines, torch.where(well, -cosines / sines, -2 * noise**-0.5 * cosines).detach()

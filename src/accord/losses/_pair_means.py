"""Means over all positive or all negative pairs of a batch, of their cosines or of the squares of these."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure


@dataclass(frozen=True)
class PairMeanRule:
    """The mean cosine (to some power) of the pairs of one kind; without such pairs 0. Not for users: no checks."""

    name: str
    kind: Literal["positive", "negative"]
    power: Literal[1, 2] = 1
    measure: Measure = "score"
    unit = True
    mutual = True

    def costs(self, block: Block) -> Tally:
        """The sum over the row's pairs."""
        if self.kind == "positive":
            values, counts = torch.where(block.kept, block.positives, 0), block.positive_count
        else:
            values = torch.where(block.negatives > block.far, block.negatives, 0)
            counts = block.negative_count
        return Tally((values**self.power).sum(dim=1), counts)

    def pull(self, block: Block) -> Pull:
        """By hand: 1, or twice the cosine."""
        positives, negatives = block.positives, block.negatives
        if self.kind == "positive":
            return Pull(self.costs(block), self._slope(positives), torch.zeros_like(negatives))
        return Pull(self.costs(block), torch.zeros_like(positives), self._slope(negatives))

    def _slope(self, cosines: Tensor) -> Tensor:
        return torch.ones_like(cosines) if self.power == 1 else 2 * cosines

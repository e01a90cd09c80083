"""Miners by threshold: pairs that are still informative by a cosine, an angle or a distance."""

from dataclasses import dataclass
from math import cos, radians, sin

import torch

from accord.checks import check_range
from accord.mining._block import Block
from accord.mining._miner import squares


@dataclass(frozen=True)
class MultiSimilarityPairs:
    """Keep pairs that their rivals around the same anchor make informative.

    With s the cosine, a negative is kept where s + epsilon > the row's lowest positive, a positive where s - epsilon <
    the row's highest negative. Rows without a positive or without a negative keep nothing. Needs unit vectors.

    Wang et al., "Multi-Similarity Loss", CVPR 2019, eq. 7 and 8; epsilon .1. `MultiSimilarity` mines so by itself.
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        check_range("MultiSimilarityPairs", "epsilon", self.epsilon, low=0)

    def __call__(self, block: Block) -> Block:
        """What reaches its rivals."""
        positives, negatives = block.cosines()
        lowest = positives.masked_fill(~block.kept, torch.inf).amin(dim=1, keepdim=True)
        highest = negatives.amax(dim=1, keepdim=True)
        return block.only(positives - self.epsilon < highest, negatives + self.epsilon > lowest)


@dataclass(frozen=True)
class AngularPairs:
    """Keep pairs that violate a margin of `angle` degrees between an anchor's own class and others.

    A negative is kept where its angle to the anchor is less than `angle` wider than that of the row's farthest
    positive; a positive where its own is less than `angle` narrower than that of the row's closest negative. Rows
    without a positive or without a negative keep nothing. Needs unit vectors; computed without any inverse cosine.

    `MultiSimilarityPairs` with angles for cosines: a margin in angles is as wide between near neighbours as between
    far ones. This is *not* the angle at the negative of Wang et al., "Deep Metric Learning with Angular Loss", ICCV
    2017, which belongs to a triplet: it needs the distance of positive and negative, which no row holds.
    """

    angle: float = 20.0

    def __post_init__(self) -> None:
        check_range("AngularPairs", "angle", self.angle, low=0, high=90)

    def __call__(self, block: Block) -> Block:
        """What reaches its rivals."""
        positives, negatives = block.cosines()
        turn, lift = cos(radians(self.angle)), sin(radians(self.angle))
        lowest = positives.masked_fill(~block.kept, torch.inf).amin(dim=1, keepdim=True).detach()
        highest = negatives.amax(dim=1, keepdim=True).detach()
        # cos(θ + angle), and beyond π everything is within reach
        bounded = lowest.clamp(-1, 1)
        reach = turn * bounded - lift * (1 - bounded.square()).sqrt()
        reach = torch.where(bounded < -turn, -torch.inf, reach).where(lowest < torch.inf, torch.inf)
        # cos(θ - angle), and within `angle` of the anchor nothing is too close
        bounded = highest.clamp(-1, 1)
        limit = turn * bounded + lift * (1 - bounded.square()).sqrt()
        limit = torch.where(bounded > turn, torch.inf, limit).where(highest > -torch.inf, -torch.inf)
        return block.only(positives < limit, negatives > reach)


@dataclass(frozen=True)
class PairMargin:
    """Keep positives farther than `positive` and negatives closer than `negative`, by Euclidean distance.

    The distance is that of the vectors the loss compares, unit-length or not; scores need unit-length ones.

    A threshold like that of contrastive losses (Hadsell, Chopra & LeCun, CVPR 2006); .2 and .8 are widely used
    defaults.
    """

    positive: float = 0.2
    negative: float = 0.8

    def __post_init__(self) -> None:
        check_range("PairMargin", "positive", self.positive, low=0)
        check_range("PairMargin", "negative", self.negative, low=0)

    def __call__(self, block: Block) -> Block:
        """What has not reached its margin."""
        positives, negatives = squares(block)
        return block.only(positives > self.positive**2, negatives < self.negative**2)

"""Miners by rank: whole rows, hardest pairs, semi-hard negatives, easiest positives."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.mining._block import Block
from accord.mining._miner import first_largest

Rivals = Literal["all", "hard", "semi_hard"]


@dataclass(frozen=True)
class AllPairs:
    """Keep every pair of the rows that have both a positive and a negative.

    Rows without one of the two would only pull, or only push.
    """

    def __call__(self, block: Block) -> Block:
        """Whole rows."""
        whole = block.whole[:, None]
        return block.only(whole, whole)


@dataclass(frozen=True)
class HardPairs:
    """Keep each row's farthest positive and closest negative: "batch hard".

    Among equals the first is kept. Rows without a positive or without a negative keep nothing.

    Hermans, Beyer & Leibe, "In Defense of the Triplet Loss", arXiv 1703.07737, 2017, section 2, there for triplets.
    """

    def __call__(self, block: Block) -> Block:
        """One pair of each kind in each whole row."""
        positives, negatives = block.closeness()
        whole = block.whole[:, None]
        farthest = first_largest((-positives).masked_fill(~block.kept, -torch.inf))
        return block.picked(farthest & whole, negatives.argmax(dim=1, keepdim=True), whole)


@dataclass(frozen=True)
class SemiHard:
    """Leave out the negatives that lie closer than every positive of their row: pushing those invites a collapse.

    Kept is a negative that is strictly farther than the row's closest positive, so that it is semi-hard for one
    positive at least, and, with a `margin`, by less than that farther than the row's farthest positive; the margin is
    between squared distances of unit vectors. Rows that keep a negative keep all their positives, others keep nothing.

    Schroff et al., "FaceNet", CVPR 2015, section 3.2, speaks of triplets; this is what is left of their rule when a
    pair has no partner. `triplets(kind="semi_hard")` and `TripletMargin` follow the rule itself.
    """

    margin: float | None = None

    def __post_init__(self) -> None:
        if self.margin is not None:
            check_range("SemiHard", "margin", self.margin, low=0, open_low=True)

    def __call__(self, block: Block) -> Block:
        """The negatives between the closest positive and the farthest one with its margin."""
        positives, negatives = block.closeness() if self.margin is None else block.cosines()
        closest = positives.masked_fill(~block.kept, -torch.inf).amax(dim=1, keepdim=True)
        kept = negatives < closest
        if self.margin is not None:
            farthest = positives.masked_fill(~block.kept, torch.inf).amin(dim=1, keepdim=True)
            # d² = 2 - 2 cos
            kept &= negatives > farthest - self.margin / 2
        kept &= negatives.isfinite()
        return block.only(kept.any(dim=1, keepdim=True), kept)


@dataclass(frozen=True)
class EasyPositive:
    """Keep each row's closest positive only, so that a class may stay spread out and need not become one point.

    `negatives` says against what: `all` of the row, the `hard` one, which is the closest, or the `semi_hard` one, the
    closest that is strictly farther than the kept positive. Rows that lack either side keep nothing. Among equals the
    first is kept.

    Xuan, Stylianou & Pless, "Improved Embeddings with Easy Positive Triplet Mining", WACV 2020: "EPHN" is `hard`,
    "EPSHN" `semi_hard`, which is our default and theirs.
    """

    negatives: Rivals = "semi_hard"

    def __post_init__(self) -> None:
        if self.negatives not in get_args(Rivals):
            raise UnknownNameError("kind of negatives of EasyPositive", self.negatives, get_args(Rivals))

    def __call__(self, block: Block) -> Block:
        """The closest positive and its rivals."""
        positives, negatives = block.closeness()
        positives = positives.masked_fill(~block.kept, -torch.inf)
        closest, whole = first_largest(positives), block.whole[:, None]
        if self.negatives == "all":
            return block.only(closest & whole, whole)
        if self.negatives == "semi_hard":
            negatives = negatives.masked_fill(negatives >= positives.amax(dim=1, keepdim=True), -torch.inf)
        highest, column = negatives.detach().max(dim=1, keepdim=True)
        whole = whole & highest.isfinite()
        return block.picked(closest & whole, column, whole)

"""A cap on how many pairs one row may bring, so that large classes and full memories don't drown the rest."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from accord.checks import check_count
from accord.errors import UnknownNameError, UsageError
from accord.mining._block import Block
from accord.mining._distance_weighted import row_numbers
from accord.mining._noise import uniform

Choice = Literal["hardest", "draw"]


@dataclass(frozen=True)
class PerRowCap:
    """Keep at most so many `positives` and so many `negatives` of each row; None keeps all.

    `choice="hardest"` keeps the farthest positives and the closest negatives, `"draw"` some at random, each set as
    likely as any other. Rows with fewer keep what they have. Among equals any may be kept, but never more than asked
    for. For random ones `draw` numbers the batches; inside `Mined` and `CrossBatchMemory` it is counted and saved.

    A device of our own; with `negatives=1, positives=1` and `hardest` it is `HardPairs` that keeps one-sided rows.
    """

    positives: int | None = None
    negatives: int | None = None
    choice: Choice = "hardest"
    draw: int | Tensor = field(default=0, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("positives", "negatives"):
            if getattr(self, name) is not None:
                check_count("PerRowCap", name, getattr(self, name))
        if self.positives is None and self.negatives is None:
            raise UsageError("PerRowCap: give positives= or negatives=, else nothing is capped.")
        if self.choice not in get_args(Choice):
            raise UnknownNameError("choice of PerRowCap", self.choice, get_args(Choice))

    def bound(self, draw: int | Tensor, dim: int) -> "PerRowCap":
        """For one batch."""
        return replace(self, draw=draw)

    def __call__(self, block: Block) -> Block:
        """What is left under the cap."""
        positives, negatives = block.closeness()
        if self.choice == "hardest":
            merits = -positives.detach(), negatives.detach()
        else:
            rows, columns = row_numbers(block), torch.arange(negatives.shape[1], device=negatives.device)
            place = block.kept.cumsum(dim=1)
            # columns count from below zero, so that no positive shares its number with a negative
            merits = uniform(self.draw, rows, place), uniform(self.draw, rows, columns - len(columns))
        kept = _best(merits[0], block.kept, self.positives)
        if self.negatives is None or self.negatives >= negatives.shape[1]:
            return block.only(kept, negatives.isfinite())
        return block.picked(kept, _places(merits[1], negatives.isfinite(), self.negatives))


def _best(merit: Tensor, present: Tensor, most: int | None) -> Tensor:
    """A mask of the `most` present places of the largest merit in each row."""
    if most is None or most >= merit.shape[1]:
        return present
    return torch.zeros_like(present).scatter_(1, _places(merit, present, most), True) & present


def _places(merit: Tensor, present: Tensor, most: int) -> Tensor:
    """The `most` places of the largest merit in each row, present ones first."""
    return merit.masked_fill(~present, -torch.inf).topk(most, dim=1, sorted=False).indices

"""Soft ranks: how many columns of a row lie above each of its marks, counted by a smooth step, and the way back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from accord.losses._settings import settings
from accord.mining import Block

Itself = Literal["excluded", "included"]


@runtime_checkable
class Step(Protocol):
    """A step from 0 up, as a function of how far a column lies above a mark, in units of the temperature."""

    def value(self, gaps: Tensor) -> Tensor:
        """The step; autograd may follow."""

    def both_(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the step over the last axis and its derivative, which is written over the gaps; by hand."""


@dataclass(frozen=True)
class SigmoidStep:
    """The logistic function; -inf counts nothing."""

    def value(self, gaps: Tensor) -> Tensor:
        """Between 0 and 1, ½ for a tie."""
        return gaps.sigmoid()

    def both_(self, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """By hand: the derivative is s - s²."""
        gaps.sigmoid_()
        return gaps.sum(dim=-1), gaps.addcmul_(gaps, gaps, value=-1)


SIGMOID = SigmoidStep()


class Ranking(NamedTuple):
    """A block's similarities as losses on ranks want them; what is not kept is -inf, or harmless as a mark."""

    positives: Float[Tensor, "row slot"]
    marks: Float[Tensor, "row slot"]
    weights: Float[Tensor, "row slot"]
    negatives: Float[Tensor, "row column"]

    @property
    def present(self) -> Float[Tensor, " row"]:
        """One for rows with a positive, which are those that count."""
        return (self.weights > 0).any(dim=1).to(self.weights.dtype)


def ranking(block: Block, itself: Itself = "excluded") -> Ranking:
    """A block's cosines, and weights that average over each row's positives.

    With "included" a row's own item is one more positive, of cosine 1, wherever there is another.
    """
    positives, kept = block.positives, block.kept
    if itself == "included":
        positives = F.pad(positives, (0, 1), value=1.0)
        kept = torch.cat([kept, kept.any(dim=1, keepdim=True)], dim=1)
    count = kept.sum(dim=1, keepdim=True).clamp_min(1).to(positives.dtype)
    marks = torch.where(kept, positives, 0)
    return Ranking(torch.where(kept, positives, -torch.inf), marks, kept / count, block.negatives)


def above(
    values: Float[Tensor, "row column"], marks: Float[Tensor, "row slot"], tau: float, step: Step = SIGMOID
) -> Float[Tensor, "row slot"]:
    """Σ_c step((values_c - mark) / tau) for each mark; autograd may follow. Works through the marks in parts."""
    values, marks = values / tau, marks / tau
    return torch.cat([step.value(values[:, None] - part[:, :, None]).sum(dim=2) for part in _parts(values, marks)], 1)


class Above:
    """The same by hand: `counts`, and `back` from derivatives by counts to those by values and marks.

    Slopes are kept if the table of gaps is in one part, and computed again if not, so that memory stays bounded.
    """

    def __init__(self, values: Tensor, marks: Tensor, tau: float, step: Step = SIGMOID) -> None:
        self.values, self.marks, self.tau, self.step = values / tau, marks / tau, tau, step
        self.parts = list(_parts(self.values, self.marks))
        found = []
        for part in self.parts:
            counts, self.slopes = self._both(part)
            found.append(counts)
        self.counts = torch.cat(found, dim=1)

    def back(self, by_counts: Float[Tensor, "row slot"]) -> tuple[Tensor, Tensor]:
        """Derivatives by the values and by the marks."""
        by_counts = by_counts / self.tau
        by_values, by_marks, first = None, [], 0
        for part in self.parts:
            slopes = self.slopes if len(self.parts) == 1 else self._both(part)[1]
            here = by_counts[:, first : first + part.shape[1]]
            first += part.shape[1]
            pushed = torch.bmm(here[:, None], slopes)[:, 0]
            by_values = pushed if by_values is None else by_values.add_(pushed)
            by_marks.append(-here * slopes.sum(dim=2))
        assert by_values is not None
        return by_values, torch.cat(by_marks, dim=1)

    def _both(self, part: Tensor) -> tuple[Tensor, Tensor]:
        return self.step.both_(self.values[:, None] - part[:, :, None])


def _parts(values: Tensor, marks: Tensor) -> Iterator[Tensor]:
    """The marks, so many at a time that their gaps to all values fill no more than a block."""
    row_bytes = max(1, values.numel() * values.element_size())
    yield from torch.split(marks, max(1, settings().block_bytes // row_bytes), dim=1)

"""A block of products as a rule wants to see it, and the way back for its gradient."""

from typing import NamedTuple

import torch
from torch import Tensor

from accord.mining import FAR, Block, Groups, Measure, NamedGroups, Own, TableGroups


class Sides(NamedTuple):
    """Squared lengths of a block's rows and of its columns, for distances; None where all are one."""

    rows: Tensor | None
    columns: Tensor | None


def measured(products: Tensor, measure: Measure, sides: Sides, *, unit: bool) -> Tensor:
    """Scores, squared or plain Euclidean distances, (row, column), from inner products; autograd may follow.

    A distance below the rounding error of its own computation is exactly 0 and passes a zero sub-gradient.
    """
    if measure == "score":
        return products
    if sides.rows is None or sides.columns is None:
        squares = torch.rsub(products, 2, alpha=2)
    else:
        squares = torch.add(sides.columns, products, alpha=-2).add_(sides.rows[:, None])
    if measure == "squared":
        return squares.clamp_min_(0)
    noise = 8 * torch.finfo(products.dtype).eps
    if unit or sides.rows is None or sides.columns is None:
        return rooted(torch.threshold_(squares, 2 * noise, 0.0))
    scale = sides.rows[:, None].detach() + sides.columns.detach()
    return rooted(squares.where(squares > noise * scale, 0))


def rooted(squares: Tensor) -> Tensor:
    """Roots of numbers that are exactly 0 or well above it; the sub-gradient at 0 is 0."""
    if not (torch.is_grad_enabled() and squares.requires_grad):
        return squares.sqrt_()
    # the input of the root is masked, not its output: 0 · inf in the backward pass would be NaN
    return torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)


def as_block(
    values: Tensor,
    own: Own,
    groups: Groups | TableGroups | NamedGroups,
    rows: slice,
    measure: Measure,
    *,
    unit: bool,
    fresh: bool,
) -> Block:
    """The block a rule is handed. With `fresh`, `values` is the engine's own and is written to."""
    far = FAR[measure]
    if own.columns is None or own.chosen is None:
        assert own.same is not None
        positives, negatives = values, values.masked_fill(own.same, far)
    else:
        positives = values.gather(1, own.chosen)
        blank: Tensor | float = far
        if own.lone is not None:  # such a row's listed columns are not its own: they keep their values
            blank = torch.where(own.lone, values.gather(1, own.columns), far)
        if own.lone is not None and not fresh:
            # autograd would count a column once for each time it is listed, so here nothing is written over itself
            taken = torch.zeros_like(values, dtype=torch.bool).scatter_(1, own.columns, True) & ~own.lone
            negatives = values.masked_fill(taken, far)
        else:
            negatives = (values.scatter_ if fresh else values.scatter)(1, own.columns, blank)
    if own.earlier is not None:
        negatives = _without(negatives, own.earlier, far)
    count = own.negative_count.to(values.dtype)
    return Block(measure, unit, rows, positives, own.kept, negatives, count, groups)


def through_(gradient: Tensor, values: Tensor, measure: Measure) -> Tensor:
    """From the gradient by what was measured to that by products, but for a factor (`FACTOR`); writes to both."""
    if measure != "euclidean":
        return gradient
    # a distance of exactly 0 passes nothing
    return gradient.div_(torch.threshold_(values, 0.0, torch.inf))


FACTOR: dict[Measure, float] = {"score": 1.0, "squared": -2.0, "euclidean": -1.0}


def together_(negatives: Tensor, positives: Tensor, own: Own) -> Tensor:
    """One (row, column) gradient of both; written over that of the negatives."""
    positives = positives.masked_fill(~own.kept, 0)
    if own.columns is None or own.chosen is None:
        assert own.same is not None
        both = torch.where(own.same, positives, negatives)
    else:
        nothing: Tensor | float = 0.0
        if own.lone is not None:
            nothing = torch.where(own.lone, negatives.gather(1, own.columns), 0.0)
        both = negatives.scatter_(1, own.columns, nothing).scatter_add_(1, own.chosen, positives)
    if own.earlier is not None:
        both = _without(both, own.earlier, 0.0)
    return both


def _without(values: Tensor, earlier: Tensor, filling: float) -> Tensor:
    """The values with `filling` in the part of the leading square that belongs to earlier rows."""
    if torch.is_grad_enabled() and values.requires_grad:
        width = earlier.shape[1]
        return torch.cat([values[:, :width].masked_fill(earlier, filling), values[:, width:]], dim=1)
    values[:, : earlier.shape[1]].masked_fill_(earlier, filling)
    return values

"""An affine map of embeddings: what the closed forms of compression return, and what a head can hold."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_count, describe
from accord.errors import BatchError, UsageError


class Affine(NamedTuple):
    """x ↦ matrix · x + bias, as float64, with the share of what was to be kept that it keeps, in [0, 1]."""

    matrix: Float[Tensor, "dim number"]
    bias: Float[Tensor, " dim"]
    retained: float = 1.0

    def __call__(self, x: Float[Tensor, "item number"]) -> Float[Tensor, "item dim"]:
        """The map of each row, in float64."""
        return x.double() @ self.matrix.T + self.bias


def compose(outer: Affine, inner: Affine) -> Affine:
    """One map for `outer` after `inner`; what is retained is the outer one's share."""
    if outer.matrix.shape[1] != len(inner.matrix):
        raise UsageError(
            f"compose: the outer map takes {outer.matrix.shape[1]} numbers, and the inner one gives "
            f"{len(inner.matrix)}."
        )
    return Affine(outer.matrix @ inner.matrix, outer.matrix @ inner.bias + outer.bias, outer.retained)


def side_by_side(maps: Sequence[Affine], factors: Sequence[float]) -> Affine:
    """One map that puts several of the same input side by side, each times its factor."""
    if not maps or len(maps) != len(factors) or len({part.matrix.shape[1] for part in maps}) > 1:
        raise UsageError("side_by_side: give at least one map, all of one input, and one factor for each.")
    pairs = list(zip(maps, factors, strict=True))
    matrix = torch.cat([factor * part.matrix for part, factor in pairs])
    return Affine(matrix, torch.cat([factor * part.bias for part, factor in pairs]))


def check_table(who: str, table: Tensor, dim: int, *, most: int) -> None:
    """Refuse what no map to `dim` numbers can be fitted to; `most` is what the rows can span."""
    if table.ndim != 2 or not table.is_floating_point() or not table.numel():
        raise BatchError(f"{who}: wants a floating-point (item, number) tensor, not {describe(table)}.")
    if not bool(table.isfinite().all()):
        raise BatchError(f"{who}: every number must be finite, and not all of {describe(table)} are.")
    check_count(who, "dim", dim)
    if dim > table.shape[1]:
        raise UsageError(f"{who}: dim={dim} is more than the {table.shape[1]} numbers there are. Give fewer.")
    if dim > most:
        raise UsageError(
            f"{who}: dim={dim} takes more than {len(table)} items, which span {most} directions at most.\n"
            f"  Give dim={max(1, most)} or less, or more items."
        )


def signed(vectors: Float[Tensor, "number dim"]) -> Float[Tensor, "number dim"]:
    """Columns turned so that the largest number of each is positive: a direction has no sign, a file needs one."""
    largest = vectors.abs().argmax(dim=0, keepdim=True)
    signs = vectors.gather(0, largest).sign()
    return vectors * torch.where(signs == 0, 1, signs)

"""Diversity by distances: what one head finds near and far should not be what another does."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from accord.checks import check_flag, check_range
from accord.ensembles._heads import Rows, checked
from accord.geometry import euclidean, inner, row_blocks
from accord.types import Scalar

BLOCK_BYTES = 32 * 2**20
_NOISE = 1000  # times the rounding of a mean distance; a deviation below counts as none


def distance_decorrelation(
    heads: Mapping[str, Tensor], *, normalised: bool = True, block_bytes: int = BLOCK_BYTES
) -> Scalar:
    """The mean over pairs of heads of the squared correlation of their distances, in [0, 1].

    Each head has a vector of Euclidean distances, one for every two items of the batch; r is the Pearson correlation of
    two such vectors, and the result the mean of r² over all pairs of heads. It does not change if a head is rotated,
    shifted or scaled, heads may differ in width, and it is what retrieval sees of a head. `normalised` brings each
    vector to unit length first, as at test time. A head whose items are all equally far apart correlates with none; so
    fewer than three items cost zero.

    Ours, after distance correlation (Székely, Rizzo & Bakirov, Annals of Statistics 2007), without its centring of
    rows. Costs O(heads · items² · dim) time. Distances of all heads are kept in blocks of `block_bytes`; where one
    block does not do, they are computed a second time for the gradient.
    """
    check_flag("distance_decorrelation", "normalised", normalised)
    rows = checked("distance_decorrelation", heads, normalised=normalised)
    nothing = 0 * torch.stack([head.sum() for head in rows]).sum()
    if len(rows[0]) < 3:
        return nothing
    blocks = list(row_blocks(len(rows[0]), len(rows[0]) * len(rows), budget_bytes=block_bytes, itemsize=_size(rows)))
    means = _means(rows, blocks)
    covariance = _covariance(rows, blocks, means)
    variances = covariance.diagonal()
    # where all distances are equal what is left of their variance is rounding
    floor = (_NOISE * torch.finfo(means.dtype).eps * means).square()
    variances = torch.where(variances > floor, variances, torch.inf)
    parts = [covariance[p, q].square() / variances[p] / variances[q] for p, q in combinations(range(len(rows)), 2)]
    return nothing + torch.stack(parts).mean()


@torch.no_grad()
def _means(rows: list[Rows], blocks: list[slice]) -> Float[Tensor, " head"]:
    """The mean distance of two different items under each head."""
    return torch.stack([_distances(part, rows).sum(dim=1) for part in blocks]).sum(dim=0) / _pairs(rows)


def _covariance(rows: list[Rows], blocks: list[slice], means: Float[Tensor, " head"]) -> Float[Tensor, "head head"]:
    """The covariances of the heads' distances over all ordered pairs of different items."""

    def moments(part: slice, *heads: Rows) -> Float[Tensor, "head _"]:
        # around the means, taken for constants, no digits are lost; the first moments give their gradient
        distances = _distances(part, list(heads), means)
        return torch.cat([distances.sum(dim=1, keepdim=True), inner(distances, distances)], dim=1)

    if len(blocks) == 1:
        found = [moments(blocks[0], *rows)]
    else:
        found = [checkpoint(moments, part, *rows, use_reentrant=False) for part in blocks]
    total = torch.stack(found).sum(dim=0) / _pairs(rows)
    return total[:, 1:] - total[:, :1] * total[:, 0]


def _distances(part: slice, rows: list[Rows], means: Tensor | None = None) -> Float[Tensor, "head pair"]:
    """Distances of some rows to all under each head, less its mean; 0 where an item meets itself."""
    found = torch.stack([euclidean(head[part], head) for head in rows])
    if means is not None:
        found = found - means[:, None, None]
    others = torch.ones_like(found[0])
    others.diagonal(part.start).zero_()
    return (found * others).flatten(1)


def _pairs(rows: list[Rows]) -> int:
    return len(rows[0]) * (len(rows[0]) - 1)


def _size(rows: list[Rows]) -> int:
    return rows[0].element_size()


class DistanceDecorrelation(nn.Module):
    """Decorrelated distances with their options remembered, times `weight`; see `distance_decorrelation`."""

    def __init__(self, *, weight: float = 0.1, normalised: bool = True) -> None:
        super().__init__()
        check_range("distance_decorrelation", "weight", weight, low=0)
        check_flag("distance_decorrelation", "normalised", normalised)
        self.weight, self.normalised = weight, normalised

    def forward(self, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        """The penalty of one batch."""
        return self.weight * distance_decorrelation(heads, normalised=self.normalised)

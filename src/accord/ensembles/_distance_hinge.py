"""The ensemble paper's diversity term: the heads' vectors of one item should lie far apart."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from accord.checks import check_flag, check_range
from accord.ensembles._heads import checked
from accord.types import Scalar


def distance_hinge(heads: Mapping[str, Tensor], *, level: float = 2.0, normalised: bool = True) -> Scalar:
    """Push the vectors that the heads give one item apart, until their mean distance is `level`.

    With heads X_1 … X_m, all (item, dim), the result is

        max(0, level - 2 / (m (m - 1)) · Σ_{p<q} mean_b ‖X_p[b] - X_q[b]‖),

    between 0 and `level`. `normalised` brings each vector to unit length first, without which heads could grow apart by
    length alone. Where two vectors are equal, the gradient between them is zero. No items cost zero.

    Zabihzadeh, Alitbi & Mousavirad, arXiv 2107.01130, from the authors' program; `normalised` is ours. Two things to
    know: m unit vectors are at most √(2m / (m - 1)) apart on average (2, 1.73, 1.63, 1.58 for m = 2 … 5), so with three
    heads or more this never reaches 0 at level 2. And it compares vectors of spaces that nobody has aligned: heads that
    are rotations of each other, which find the same neighbours, get a low penalty. `cka` is not deceived so.
    """
    _check(level, normalised)
    rows = checked("distance_hinge", heads, alike=True, normalised=normalised)
    if not len(rows[0]):
        return 0 * torch.stack([head.sum() for head in rows]).sum()
    apart = [torch.linalg.vector_norm(p - q, dim=1).mean() for p, q in combinations(rows, 2)]
    return (level - torch.stack(apart).mean()).clamp_min(0)


def _check(level: float, normalised: bool) -> None:
    check_range("distance_hinge", "level", level, low=0, open_low=True)
    check_flag("distance_hinge", "normalised", normalised)


class DistanceHinge(nn.Module):
    """The distance hinge with its options remembered, times `weight`; see `distance_hinge`.

    `weight` is 0.1 as in the authors' best run; their program's own default is 0.01.
    """

    def __init__(self, *, weight: float = 0.1, level: float = 2.0, normalised: bool = True) -> None:
        super().__init__()
        check_range("distance_hinge", "weight", weight, low=0)
        _check(level, normalised)
        self.weight, self.level, self.normalised = weight, level, normalised

    def forward(self, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        """The penalty of one batch."""
        return self.weight * distance_hinge(heads, level=self.level, normalised=self.normalised)

"""Diversity by linear CKA: heads should not be rotations of each other."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_flag, check_range
from accord.ensembles._heads import Rows, checked
from accord.geometry import inner
from accord.types import Scalar

_FAINT = 1e-5  # of a centred head scaled to 1; a real one has at least 1 / √dim


def cka(heads: Mapping[str, Tensor], *, normalised: bool = True) -> Scalar:
    """The mean over pairs of heads of their linear CKA: 1 where one is a rotation of the other, in [0, 1].

    With X and Y two heads, (item, dim) each, less their means over the batch,

        CKA(X, Y) = ‖XᵀY‖² / (‖XᵀX‖ · ‖YᵀY‖)          (Frobenius norms).

    It does not change if a head is rotated, mirrored or scaled, and heads may differ in width. `normalised` brings each
    vector to unit length first, as at test time. A head that is the same for all items has CKA 0 with every other.

    Kornblith et al., ICML 2019; as a term to be minimised it is ours. Batches are small samples: heads that have
    nothing in common reach about dim / (dim + items), so it can't be brought to 0 where heads are wider than the
    batch. Costs O(items · dim²) time and O(dim²) memory, and where a head is wider than the batch O(items² · dim) and
    O(items²).
    """
    check_flag("cka", "normalised", normalised)
    rows = [_scaled(head) for head in checked("cka", heads, normalised=normalised)]
    items = len(rows[0])
    if not items:
        return 0 * torch.stack([head.sum() for head in rows]).sum()
    if any(head.shape[1] > items for head in rows):  # then the products of items are the smaller ones
        grams = [inner(head, head) for head in rows]
        own = [gram.square().sum() for gram in grams]
        shared = [(p * q).sum() for p, q in combinations(grams, 2)]
    else:
        own = [inner(head.T, head.T).square().sum() for head in rows]
        shared = [inner(p.T, q.T).square().sum() for p, q in combinations(rows, 2)]
    lengths = [total.clamp_min(_FAINT**2).sqrt() for total in own]
    parts = [value / (p * q) for value, (p, q) in zip(shared, combinations(lengths, 2), strict=True)]
    return torch.stack(parts).mean()


def _scaled(head: Rows) -> Float[Tensor, "item _"]:
    """A head less its mean, its norm over the whole batch 1: then no product of products leaves the dtype's range."""
    centred = head - head.mean(dim=0) if len(head) else head
    length: Tensor = torch.linalg.vector_norm(centred)
    # the mean of equal rows is rounded; what is left of them says nothing
    noise = 8 * torch.finfo(head.dtype).eps * torch.linalg.vector_norm(head.detach())
    scaled: Tensor = centred * (length > noise) / length.clamp_min(1e-12)
    return scaled


class CKADiversity(nn.Module):
    """Linear CKA between the heads with its options remembered, times `weight`; see `cka`."""

    def __init__(self, *, weight: float = 0.1, normalised: bool = True) -> None:
        super().__init__()
        check_range("cka", "weight", weight, low=0)
        check_flag("cka", "normalised", normalised)
        self.weight, self.normalised = weight, normalised

    def forward(self, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        """The penalty of one batch."""
        return self.weight * cka(heads, normalised=self.normalised)

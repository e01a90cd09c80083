"""Sums of exponentials over the negatives or positives of a row, safe where there are none, with their softmax."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from accord.losses._powers import exp_

Rows = Float[Tensor, " row"]


def log_one_plus_sum(x: Float[Tensor, "row column"]) -> Rows:
    """log(1 + Σ exp(x)) of each row; entries of -inf count nothing. The 1 is a column of its own: no row is empty."""
    return F.pad(x, (1, 0)).logsumexp(dim=1)


def kept_or(x: Float[Tensor, "row slot"], kept: Bool[Tensor, "row slot"], value: float) -> Float[Tensor, "row slot"]:
    """x where kept, elsewhere `value`; nothing flows through the latter."""
    return torch.where(kept, x, value)


def softmax_one_plus_(
    x: Float[Tensor, "row column"], factor: float = 1.0, shift: Float[Tensor, "row one"] | float = 0.0
) -> tuple[Rows, Float[Tensor, "row column"]]:
    """For y = factor · (x + shift): log(1 + Σ exp(y)) and its derivative exp(y) / (1 + Σ exp(y)), written over x.

    For rules by hand. `factor` must be positive.
    """
    top = (x.amax(dim=1, keepdim=True) + shift).clamp_min_(0)
    total = exp_(x.sub_(top - shift), factor).sum(dim=1, keepdim=True).add_(torch.exp(-factor * top))
    return (factor * top + total.log())[:, 0], x.div_(total)


def softmax_(x: Float[Tensor, "row column"], factor: float = 1.0) -> tuple[Rows, Float[Tensor, "row column"]]:
    """For y = factor · x: log Σ exp(y) and its derivative, written over x; a row of -inf gives -inf and zeros.

    For rules by hand. `factor` must be positive.
    """
    top = x.amax(dim=1, keepdim=True).clamp_min_(torch.finfo(x.dtype).min)
    total = exp_(x.sub_(top), factor).sum(dim=1, keepdim=True)
    return (factor * top + total.log())[:, 0], x.div_(total.clamp_min(torch.finfo(x.dtype).tiny))

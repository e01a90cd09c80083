"""The multiplicative angular margin of large-margin softmax and SphereFace, without an arccosine."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

MOST_TURNS = 16  # the largest margin; a polynomial of that degree

Rows = Float[Tensor, " row"]


def multiple_angle(cosine: Rows, margin: int, annealing: float) -> tuple[Rows, Rows]:
    """(annealing · cos t + psi(t)) / (1 + annealing) of the angle t with this cosine, and its derivative by the cosine.

    psi(t) = (-1)^k cos(margin · t) - 2k for t in [k pi/margin, (k+1) pi/margin]; it falls from 1 to 1 - 2 · margin and
    lies below cos t. cos(margin · t) is the Chebyshev polynomial T of cos t, and T' = margin · U: at most margin².
    """
    first, second = torch.ones_like(cosine), cosine  # T
    low, high = torch.zeros_like(cosine), torch.ones_like(cosine)  # U
    for _ in range(margin - 1):
        first, second = second, 2 * cosine * second - first
        low, high = high, 2 * cosine * high - low
    turns = torch.zeros_like(cosine)
    for k in range(1, margin):
        turns = turns + (cosine < math.cos(k * math.pi / margin))
    sign = 1 - 2 * (turns % 2)
    value = (annealing * cosine + sign * second - 2 * turns) / (1 + annealing)
    return value, (annealing + margin * sign * high) / (1 + annealing)

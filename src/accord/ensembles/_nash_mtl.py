"""Nash-MTL: the gradient on which members who bargain would agree, whatever the scales of their losses."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.ensembles._combine import Combined, Gradients, Gram, Weights, combine

_RIDGE = 1e-9  # on a diagonal of ones: gradients that cancel out would otherwise ask for infinite weights
_NEWTON = 200
_DONE = 1e-20


def nash_weights(table: Gram) -> Weights:
    """The α > 0 with Kα = 1/α, element by element, for the inner products K of m gradients.

    It is where ½ α · Kα − Σ log α is least, a convex function; Newton's method finds it.
    """
    lengths = np.sqrt(table.diagonal())
    cosines = table / np.outer(lengths, lengths) + _RIDGE * np.eye(len(table))
    b = 1 / np.sqrt(np.maximum(cosines.sum(axis=1), 1.0))
    for _ in range(_NEWTON):
        slope = cosines @ b - 1 / b
        step = np.linalg.solve(cosines + np.diag(b**-2.0), -slope)
        decrease = -slope @ step
        if decrease < _DONE:
            break
        # within the function's own ellipsoid every b stays positive, and near the optimum a whole step is right
        b = b + step / (1 + np.sqrt(decrease) if decrease > 1 / 16 else 1.0)
    found: Weights = b / lengths
    return found


def nash_mtl(gradients: Gradients, *, products: Tensor | None = None) -> Combined:
    """The Nash bargaining solution: d = Gα with GᵀGα = 1/α, so that α_i · (g_i · d) = 1 for all.

    Scaling a loss scales its α_i by the inverse, so the direction does not change. As every d = Gα is √m long, it is
    brought to the length that the authors' code gives it, √(m · ‖GᵀG‖), by dividing GᵀG by its norm first; that length
    follows the gradients. Opposite gradients have no agreement: what is left of them is next to zero.

    Navon et al., ICML 2022. We differ: the equation is solved exactly, in every step, not by up to 20 rounds of
    a convex-concave procedure; the gradient is not clipped to a length of 1.
    """
    return combine(gradients, lambda table: nash_weights(table) * np.sqrt(np.linalg.norm(table)), products)


@dataclass(frozen=True)
class NashMTL:
    """`nash_mtl` as a rule for a `GradientBalance`."""

    def __call__(self, gradients: Gradients, generator: torch.Generator, products: Tensor) -> Combined:
        """One gradient from all."""
        return nash_mtl(gradients, products=products)

"""CAGrad: near the mean gradient, the direction in which the member that gains least gains most."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.checks import check_range
from accord.ensembles._combine import Combined, Gradients, Gram, Weights, combine

_GAP = 1e-11  # how far from the optimum of the dual, in units of its largest entry
_NOTHING = 1e-7  # a length below this share of the longest gradient is rounding
_NEWTON = 50


def cagrad(gradients: Gradients, *, c: float = 0.5, products: Tensor | None = None) -> Combined:
    """The sum's neighbour that serves the worst-served member best: max_d min_i g_i · d, ‖d − g_0‖ ≤ c · ‖g_0‖.

    The dual finds w on the simplex that minimises g_w · g_0 + c · ‖g_0‖ · ‖g_w‖, with g_w = Σ_i w_i · g_i; then
    d = g_0 + c · ‖g_0‖ · g_w / ‖g_w‖. `c` = 0 gives the plain sum. Where g_w vanishes, since no direction serves all,
    d is the plain sum too.

    Liu, Liu, Jin, Stone & Liu, NeurIPS 2021, algorithm 1; c = 0.5. We differ: the total is a sum, so g_0 is
    the sum of the gradients and not their mean, which makes d m times as long; and d is not divided by 1 + c², as the
    authors' code does.
    """
    check_range("cagrad", "c", c, low=0, high=1, open_high=True)
    return combine(gradients, lambda table: _weights(table, c), products)


@dataclass(frozen=True)
class CAGrad:
    """`cagrad` as a rule for a `GradientBalance`."""

    c: float = 0.5

    def __post_init__(self) -> None:
        check_range("CAGrad", "c", self.c, low=0, high=1, open_high=True)

    def __call__(self, gradients: Gradients, generator: torch.Generator, products: Tensor) -> Combined:
        """One gradient from all."""
        return cagrad(gradients, c=self.c, products=products)


def _weights(table: Gram, c: float) -> Weights:
    table = table / table.diagonal().max()  # a common factor changes nothing
    length = np.sqrt(max(table.sum(), 0.0))
    if length < _NOTHING or c == 0:
        return np.ones(len(table))
    w = dual_optimum(table, c)
    mixed = np.sqrt(max(w @ table @ w, 0.0))
    return np.ones(len(table)) + (c * length / mixed * w if mixed > _NOTHING else 0)


def dual_optimum(table: Gram, c: float) -> Weights:
    """The w ≥ 0 with sum 1 that minimises w · K1 + c · √(1 · K1) · √(w · Kw), by an interior-point method."""
    linear, factor = table.sum(axis=1), c * np.sqrt(max(table.sum(), 0.0))
    w = np.full(len(table), 1 / len(table))
    barrier = 1.0
    while barrier * len(w) > _GAP:
        w = _centre(table, linear / barrier, factor / barrier, w)
        barrier /= 8
    return w


def _centre(table: Gram, linear: Weights, factor: float, w: Weights) -> Weights:
    """Newton's method on the simplex for linear · w + factor · √(w · Kw) − Σ log w."""

    def value(at: Weights) -> float:
        return float(linear @ at + factor * np.sqrt(max(at @ table @ at, 0.0) + _NOTHING**4) - np.log(at).sum())

    count = len(w)
    system = np.zeros((count + 1, count + 1))
    for _ in range(_NEWTON):
        side = table @ w
        size = np.sqrt(max(w @ side, 0.0) + _NOTHING**4)
        slope = linear + factor * side / size - 1 / w
        # in steps relative to w, whose entries differ by many orders; the last row keeps their sum
        curved = factor * (table / size - np.outer(side, side) / size**3) * np.outer(w, w)
        system[:count, :count] = curved + np.eye(count)
        system[count, :count] = system[:count, count] = w
        step = w * np.linalg.solve(system, np.append(-slope * w, 0.0))[:count]
        step -= step.sum() * w  # which rounding has left
        decrease = -slope @ step
        if decrease < 1e-9:
            break
        reach = 1.0
        while (w + reach * step <= 0).any() or value(w + reach * step) > value(w) - 0.1 * reach * decrease:
            reach /= 2
            if reach < _NOTHING:
                return w
        w = (w + reach * step) / (1 + reach * step.sum())
    return w

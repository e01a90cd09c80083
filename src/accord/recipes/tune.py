"""Which path of the processor multiplies matrices fastest here: measured, checked, and taken from then on."""

import time
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from accord.losses import ProductPath, choose_product_path, product_path, times

ROWS, COLUMNS, DIM, ROUNDS = 128, 4096, 128, 15
GAIN = 1.15  # below this, noise decides, and the default stays


class Tuning(NamedTuple):
    """What was measured: the path taken, and the speed of both in GFLOP/s; 0 where a path is missing or not exact."""

    path: str
    default: float
    onednn: float


def tune() -> Tuning:
    """Measure both paths for the losses' products on the processor, take the faster, and say which.

    oneDNN's is taken only if its results are as exact as single precision allows, against a product in double
    precision, and if it is clearly faster. Results then differ from the default path's in the last bits, and the choice
    may differ from day to day on a busy machine: leave it alone where runs must be equal to the bit.
    """
    before = product_path()
    q, k = (torch.randn(size, DIM, generator=torch.Generator().manual_seed(0)) for size in (ROWS, COLUMNS))
    speeds: dict[ProductPath, float] = {"default": _speed("default", q, k), "onednn": _speed("onednn", q, k)}
    taken: ProductPath = "onednn" if speeds["onednn"] > GAIN * speeds["default"] else "default"
    choose_product_path(taken if speeds[taken] else before)
    return Tuning(product_path(), speeds["default"], speeds["onednn"])


def _speed(path: ProductPath, q: Tensor, k: Tensor) -> float:
    """GFLOP/s of a path; 0 if it is missing or not as exact as it should be."""
    choose_product_path(path)
    if product_path() != path:
        return 0.0
    exact = q.double() @ k.double().T
    scale = q.double().norm(dim=1)[:, None] * k.double().norm(dim=1)
    if float(((times(q, k).double() - exact).abs() / scale).max()) > 8 * torch.finfo(torch.float32).eps:
        return 0.0
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        times(q, k)
        seconds.append(time.perf_counter() - begin)
    return 2 * ROWS * COLUMNS * DIM / median(seconds) / 1e9

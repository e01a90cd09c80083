"""The two matrix products of a sweep, on the faster of two paths of the processor."""

from typing import Literal, get_args

import torch
from torch import Tensor

from accord.errors import UnknownNameError
from accord.geometry import has_onednn, onednn_linear

ProductPath = Literal["default", "onednn"]
LARGE = 2**20  # multiplications; for fewer, calling oneDNN costs more than it saves
_chosen: list[ProductPath] = ["default"]


def product_path() -> ProductPath:
    """Which path single-precision products on the processor take."""
    return _chosen[0]


def choose_product_path(path: ProductPath) -> None:
    """Let single-precision products on the processor take torch's default path or oneDNN's.

    On some processors torch's default library leaves half of the arithmetic units idle and oneDNN does not; on others
    it is the other way round. `accord.tune` measures both, checks oneDNN's precision and calls this. Other dtypes and
    devices always take the default path.
    """
    if path not in get_args(ProductPath):
        raise UnknownNameError("path of products", path, get_args(ProductPath))
    _chosen[0] = path if path == "default" or has_onednn() else "default"


def times(q: Tensor, k: Tensor) -> Tensor:
    """qkᵀ."""
    if _other_path(q, len(k)):
        return onednn_linear(q, k)
    return q @ k.T


def fold_(target: Tensor, weights: Tensor, vectors: Tensor, factor: float) -> None:
    """target += factor · weights · vectors."""
    if _other_path(weights, vectors.shape[1]):
        target.add_(onednn_linear(weights, vectors.T), alpha=factor)
    else:
        target.addmm_(weights, vectors, alpha=factor)


def _other_path(x: Tensor, width: int) -> bool:
    large = x.numel() * width > LARGE
    return large and _chosen[0] == "onednn" and x.dtype == torch.float32 and x.device.type == "cpu"

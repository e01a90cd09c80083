"""From images of any size on the 0–255 scale to the normalised square a backbone wants."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from accord.errors import DataError, UnknownNameError
from accord.types import Preprocessing

AnyImages = Float[Tensor, "batch 3 height width"] | UInt8[Tensor, "batch 3 height width"]
FITS = ("crop", "pad", "stretch")
WHITE = 255.0


def to_input(
    images: AnyImages, preprocessing: Preprocessing, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "batch 3 size size"]:
    """Bring images to size, then to (x − mean) / std. Images of the right size are not resampled.

    On processors the result lies channels-last in memory, which halves the time of the convolutions after it.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise DataError(f"Embedder: images must be (batch, 3, height, width), but came as {tuple(images.shape)}.")
    x = images.to(dtype)
    if images.shape[2:] != (preprocessing.size, preprocessing.size):
        x = _fit(x, preprocessing)
    mean, std = (torch.tensor(row, dtype=dtype, device=x.device).view(3, 1, 1) for row in preprocessing[2:])
    x = (x - mean) / std
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def _fit(x: Tensor, preprocessing: Preprocessing) -> Tensor:
    size, fit = preprocessing.size, preprocessing.fit
    if fit not in FITS:
        raise UnknownNameError("way to fit an image", fit, FITS)
    if fit == "stretch":
        return _resize(x, size, size)
    height, width = x.shape[2:]
    scale = size / (min(height, width) if fit == "crop" else max(height, width))
    x = _resize(x, *(max(1, math.floor(side * scale + 0.5)) for side in (height, width)))
    top, left = ((side - size) // 2 for side in x.shape[2:])
    if fit == "crop":
        return x[..., top : top + size, left : left + size]
    below, right = size - x.shape[2] + top, size - x.shape[3] + left
    return F.pad(x, (-left, right, -top, below), value=WHITE)


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    if x.shape[2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False).clamp(0.0, WHITE)

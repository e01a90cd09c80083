"""Changes training images at random, a whole batch at once: cut, flip, turn and recolour."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from accord.errors import UsageError
from accord.types import Images

_BLOCK_BYTES = 4 * 2**20  # stays in the processor's cache: half the time of a whole batch at 128 pixels
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class AugmentOptions:
    """How far training images may be changed.

    `scale`: share of the picture's area that is cut out; `ratio`: width to height of the cut; `flip`: mirror half of
    the images left to right; `degrees`: greatest turn to either side; `brightness`, `contrast`, `saturation`: the
    factor is drawn from 1 ± the value. The defaults are mild; `AugmentOptions.none()` changes nothing.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    degrees: float = 15.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf or (name == "scale" and high > 1):
                raise UsageError(
                    f"augment: {name} must be two positive numbers in order"
                    f"{', at most 1' if name == 'scale' else ''}, not ({low}, {high})."
                )
        for name, most in (("degrees", 180), ("brightness", 1), ("contrast", 1), ("saturation", 1)):
            if not 0 <= getattr(self, name) <= most:
                raise UsageError(f"augment: {name} must lie between 0 and {most}, not {getattr(self, name)}.")

    @classmethod
    def none(cls) -> "AugmentOptions":
        """No change but the size."""
        return cls((1.0, 1.0), (1.0, 1.0), False, 0.0, 0.0, 0.0, 0.0)


class Augment:
    """Cuts, flips, turns and recolours a batch of uint8 images into float32 images of `size`, still on 0–255.

    The geometry is one bilinear sampling with mirrored borders, so a turn shows no black corners; the colours are one
    linear map per image. Everything is drawn from the generator handed in, nothing depends on the number of threads,
    and grey images stay grey.
    """

    def __init__(self, options: AugmentOptions, size: int) -> None:
        if size < 1:
            raise UsageError(f"augment: size must be at least 1 pixel, not {size}.")
        self.options, self.size = options, size

    def __call__(self, images: Images, generator: Generator) -> Float[Tensor, "batch 3 size size"]:
        """Augmented images; the same images and generator state give the same result."""
        count, _, height, width = images.shape
        draws = torch.rand((count, 9), generator=generator)  # all at once: how they are blocked below changes nothing
        result = torch.empty((count, 3, self.size, self.size))
        block = max(1, _BLOCK_BYTES // (3 * 4 * max(height * width, self.size**2)))
        for start in range(0, count, block):
            rows = slice(start, start + block)
            result[rows] = self._changed(images[rows], draws[rows])
        return result

    def _changed(self, images: Images, draws: Float[Tensor, "batch 9"]) -> Float[Tensor, "batch 3 size size"]:
        grid = self._grid(draws, images.shape[2] / images.shape[3])
        moved = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        return self._recolour(moved, images, draws)

    def _grid(self, draws: Float[Tensor, "batch 9"], aspect: float) -> Float[Tensor, "batch size size 2"]:
        """Where each output pixel is read, in coordinates from −1 to 1; elementwise, so the threads don't matter."""
        options = self.options
        area = _between(draws[:, 0], *options.scale)
        shape = _between(draws[:, 1], math.log(options.ratio[0]), math.log(options.ratio[1])).exp()
        half_width, half_height = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
        centre_x = (1 - half_width) * (2 * draws[:, 2] - 1)
        centre_y = (1 - half_height) * (2 * draws[:, 3] - 1)
        if options.flip:
            half_width = torch.where(draws[:, 4] < 0.5, -half_width, half_width)
        angle = _between(draws[:, 5], -math.radians(options.degrees), math.radians(options.degrees))
        cos, sin = angle.cos(), angle.sin()
        steps = (torch.arange(self.size, dtype=torch.float32) * 2 + 1) / self.size - 1
        across = _column(half_width) * steps[None, None, :]
        down = _column(half_height) * steps[None, :, None]
        x = _column(cos) * across - _column(sin * aspect) * down + _column(centre_x)
        y = _column(sin / aspect) * across + _column(cos) * down + _column(centre_y)
        return torch.stack([x, y], dim=-1)

    def _recolour(self, result: Tensor, images: Images, draws: Tensor) -> Tensor:
        """Brightness, then contrast about the image's mean grey, then saturation, folded into one linear map."""
        options = self.options
        if not (options.brightness or options.contrast or options.saturation):
            return result
        light, contrast, colour = (
            _between(draws[:, 6 + place], 1 - reach, 1 + reach)
            for place, reach in enumerate((options.brightness, options.contrast, options.saturation))
        )
        # whole numbers add up to the same mean in any order, hence with any number of threads
        means = images.sum(dim=(2, 3)).float() / (images.shape[2] * images.shape[3])
        offset = light * (1 - contrast) * _luma(means)
        gain = light * contrast
        if options.saturation:
            grey = _luma(result) * _column(gain * (1 - colour)) + _column(offset)
            result = result.mul_(_column(gain * colour)[:, None]).add_(grey[:, None])
        else:
            result = result.mul_(_column(gain)[:, None]).add_(_column(offset)[:, None])
        return result.clamp_(0, 255)


def _between(draws: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * draws


def _column(values: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1"]:
    return values[:, None, None]


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]

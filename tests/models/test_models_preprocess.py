"""Images of any size become the normalised square."""

import pytest
import torch

from accord.errors import DataError, UnknownNameError
from accord.models import to_input
from accord.types import Preprocessing

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def test_normalises_by_channel_without_resampling_what_has_the_size() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = to_input(images, Preprocessing(8, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0)))
    for channel, (mean, std) in enumerate([(10, 2), (20, 4), (30, 8)]):
        assert torch.equal(got[:, channel], (images[:, channel].float() - mean) / std)


def test_bytes_and_floats_give_the_same_input() -> None:
    images = torch.randint(0, 256, (2, 3, 9, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(to_input(images, Preprocessing(8)), to_input(images.float(), Preprocessing(8)))


def test_the_result_lies_channels_last() -> None:
    got = to_input(torch.zeros(2, 3, 8, 8), Preprocessing(8))
    assert got.is_contiguous(memory_format=torch.channels_last)


def _stripe(height: int, width: int) -> torch.Tensor:
    """Black, with the middle half of the longer side grey."""
    images = torch.zeros(1, 3, height, width)
    images[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = 100.0
    return images


@pytest.mark.parametrize("size", [(8, 16), (16, 8)])
def test_crop_keeps_the_middle(size: tuple[int, int]) -> None:
    images = torch.zeros(1, 3, *size)
    images[..., (size[0] - 8) // 2 : (size[0] + 8) // 2, (size[1] - 8) // 2 : (size[1] + 8) // 2] = 100.0
    assert torch.equal(to_input(images, Preprocessing(8, "crop", **PLAIN)), torch.full((1, 3, 8, 8), 100.0))


def test_pad_keeps_everything_and_fills_with_white() -> None:
    got = to_input(torch.zeros(1, 3, 8, 16), Preprocessing(8, "pad", **PLAIN))[0, 0]
    assert got[:, 0].tolist() == [255.0] * 2 + [0.0] * 4 + [255.0] * 2


def test_stretch_keeps_everything_without_borders() -> None:
    got = to_input(torch.full((1, 3, 8, 16), 7.0), Preprocessing(8, "stretch", **PLAIN))
    torch.testing.assert_close(got, torch.full((1, 3, 8, 8), 7.0))


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (3, 100), (31, 30), (9, 8), (100, 7)])
def test_every_size_comes_out_square(fit: str, size: tuple[int, int]) -> None:
    got = to_input(torch.full((1, 3, *size), 255.0), Preprocessing(8, fit, **PLAIN))
    torch.testing.assert_close(got, torch.full((1, 3, 8, 8), 255.0))


def test_shrinking_averages_instead_of_skipping_pixels() -> None:
    images = torch.zeros(1, 3, 32, 32)
    images[..., ::2] = 200.0
    got = to_input(images, Preprocessing(8, **PLAIN))
    assert float((got - 100).abs().max()) < 20


def test_a_shape_that_is_no_image_batch_is_refused() -> None:
    with pytest.raises(DataError, match=r"came as \(1, 3, 0, 4\)"):
        to_input(torch.zeros(1, 3, 0, 4), Preprocessing(8))


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'crop'"):
        to_input(torch.zeros(1, 3, 4, 4), Preprocessing(8, "crp"))

"""Augmentation is a function of the images and the generator, keeps grey grey, and does what its options say."""

import pytest
import torch

from accord.data import Augment, AugmentOptions
from accord.errors import UsageError

ONLY = AugmentOptions.none()


def _images(count: int = 4, size: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=_seeded(seed))


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _options(**changes: object) -> AugmentOptions:
    return AugmentOptions(**{**vars(ONLY), **changes})


def test_gives_floats_of_the_wanted_size_on_0_to_255() -> None:
    result = Augment(AugmentOptions(brightness=1.0, contrast=1.0, saturation=1.0), 16)(_images(), _seeded())
    assert result.shape == (4, 3, 16, 16)
    assert result.dtype == torch.float32
    assert result.min() >= 0
    assert result.max() <= 255


def test_changes_nothing_when_told_so() -> None:
    images = _images()
    assert torch.allclose(Augment(ONLY, 20)(images, _seeded()), images.float(), atol=1e-2)


def test_the_same_generator_gives_the_same_images_and_another_others() -> None:
    augment, images = Augment(AugmentOptions(), 16), _images()
    assert torch.equal(augment(images, _seeded(1)), augment(images, _seeded(1)))
    assert not torch.equal(augment(images, _seeded(1)), augment(images, _seeded(2)))


def test_does_not_touch_the_global_generator_or_its_input() -> None:
    images = _images()
    before, copy = torch.get_rng_state(), images.clone()
    Augment(AugmentOptions(), 16)(images, _seeded())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(images, copy)


@pytest.mark.parametrize(("count", "size"), [(1, 160), (7, 33), (64, 80)])
def test_the_number_of_threads_changes_no_bit(count: int, size: int) -> None:
    augment, images = Augment(AugmentOptions(), size - 8), _images(count, size)
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(augment(images, _seeded()))
    finally:
        torch.set_num_threads(1)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_an_image_does_not_depend_on_the_ones_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    augment, images = Augment(AugmentOptions(), 64), _images(64, 80)
    whole = augment(images, _seeded())
    assert torch.equal(whole[:10], augment(images[:10], _seeded()))
    monkeypatch.setattr("accord.data._augment._BLOCK_BYTES", 1)
    assert torch.equal(whole, augment(images, _seeded()))


def test_every_image_of_a_batch_is_changed_in_its_own_way() -> None:
    same = _images(1).expand(6, -1, -1, -1)
    result = Augment(AugmentOptions(), 20)(same, _seeded())
    assert len({tuple(image.flatten().tolist()) for image in result}) == 6


def test_grey_images_stay_grey() -> None:
    grey = _images()[:, :1].expand(-1, 3, -1, -1)
    result = Augment(AugmentOptions(saturation=1.0), 16)(grey, _seeded())
    assert torch.equal(result[:, 0], result[:, 1])
    assert torch.equal(result[:, 0], result[:, 2])


def test_flips_about_half_of_the_images() -> None:
    image = torch.zeros((1, 3, 8, 8), dtype=torch.uint8)
    image[..., :4] = 200
    result = Augment(_options(flip=True), 8)(image.expand(400, -1, -1, -1), _seeded())
    flipped = result[:, 0, 0, 7] > 100
    assert 150 < int(flipped.sum()) < 250
    assert torch.allclose(result[flipped], image.flip(3).float(), atol=1e-2)
    assert torch.allclose(result[~flipped], image.float(), atol=1e-2)


def test_cuts_out_the_share_asked_for() -> None:
    ramp = torch.arange(100).expand(100, 100).to(torch.uint8)[None, None].expand(200, 3, -1, -1)
    result = Augment(_options(scale=(0.25, 0.25)), 50)(ramp, _seeded())
    assert torch.allclose(result[:, 0, 0, -1] - result[:, 0, 0, 0], torch.tensor(49.0), atol=0.05)
    starts = result[:, 0, 0, 0]
    assert starts.min() < 5
    assert starts.max() > 45
    assert result.min() >= 0
    assert result.max() <= 99


def test_a_wide_cut_is_wide() -> None:
    ramp = torch.arange(100).expand(100, 100).to(torch.uint8)
    both = torch.stack([ramp, ramp.T, ramp])[None].expand(50, -1, -1, -1)
    result = Augment(_options(scale=(0.25, 0.25), ratio=(2.0, 2.0)), 50)(both, _seeded())
    wide = result[:, 0, 0, -1] - result[:, 0, 0, 0]
    high = result[:, 1, -1, 0] - result[:, 1, 0, 0]
    assert torch.allclose(wide / high, torch.tensor(2.0), atol=0.1)


def test_turns_by_no_more_than_the_degrees_and_mirrors_the_border() -> None:
    images = torch.full((50, 3, 21, 21), 77, dtype=torch.uint8)
    turned = Augment(_options(degrees=90.0), 21)(images, _seeded())
    assert torch.allclose(turned, torch.tensor(77.0), atol=1e-3)
    image = torch.zeros((1, 3, 21, 21), dtype=torch.uint8)
    image[..., 10, 15:] = 255
    slight = Augment(_options(degrees=5.0), 21)(image.expand(50, -1, -1, -1), _seeded())
    assert (slight[:, 0, 9:12, 15:].amax(dim=(1, 2)) > 100).all()
    assert slight[:, 0, 0:7].max() == 0
    assert not torch.allclose(slight[0], slight[1])


def test_a_turn_does_not_shear_a_picture_that_is_not_square() -> None:
    augment = Augment(_options(degrees=90.0), 4)
    grid = augment._grid(torch.rand((30, 9), generator=_seeded()), 41 / 81) * torch.tensor([81.0, 41.0])
    across, down = grid[:, 0, 3] - grid[:, 0, 0], grid[:, 3, 0] - grid[:, 0, 0]
    assert torch.allclose((across * down).sum(1), torch.zeros(30), atol=1e-2)
    assert torch.allclose(across.norm(dim=1) / down.norm(dim=1), torch.tensor(81 / 41), atol=1e-4)


def test_brightness_contrast_and_saturation_do_what_they_say() -> None:
    images = _images(30)
    plain = images.float()
    light = Augment(_options(brightness=0.3), 20)(images, _seeded())
    factors = (light.sum(dim=(1, 2, 3)) / plain.sum(dim=(1, 2, 3))).tolist()
    assert all(0.69 < factor < 1.31 for factor in factors)
    assert max(factors) > 1.1
    assert min(factors) < 0.9
    contrast = Augment(_options(contrast=0.3), 20)(images // 2 + 64, _seeded())
    assert torch.allclose(contrast.mean(dim=(1, 2, 3)), (images // 2 + 64).float().mean(dim=(1, 2, 3)), atol=1.0)
    spreads = contrast.std(dim=(1, 2, 3)) / (images // 2 + 64).float().std(dim=(1, 2, 3))
    assert spreads.max() > 1.1
    assert spreads.min() < 0.9
    colour = Augment(_options(saturation=0.5), 20)(images // 2 + 64, _seeded())
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert torch.allclose((colour * weights).sum(1), ((images // 2 + 64) * weights).sum(1), atol=0.1)
    assert not torch.allclose(colour, (images // 2 + 64).float(), atol=1.0)


def test_an_empty_batch_stays_empty() -> None:
    assert Augment(AugmentOptions(), 8)(_images(0), _seeded()).shape == (0, 3, 8, 8)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": (0.0, 1.0)},
        {"scale": (0.5, 1.5)},
        {"scale": (0.9, 0.5)},
        {"ratio": (2.0, 1.0)},
        {"degrees": -1.0},
        {"degrees": 181.0},
        {"brightness": 1.5},
        {"contrast": -0.1},
        {"saturation": float("nan")},
    ],
)
def test_refuses_options_out_of_range(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"augment: {next(iter(change))}"):
        AugmentOptions(**change)


def test_refuses_a_size_of_nothing() -> None:
    with pytest.raises(UsageError, match="at least 1 pixel"):
        Augment(ONLY, 0)

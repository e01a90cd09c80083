"""What is chosen from the data: sizes, batches, steps, and the words for it."""

from pathlib import Path

import pytest

from accord.errors import DataError, UsageError
from accord.recipes import resolve
from accord.recipes.choose import AIM_EPOCHS, choose_epochs, choose_shapes, smaller_size
from accord.types import Item, Manifest


def _train(classes: int, images: int) -> Manifest:
    items = (Item(c * images + i, f"{c}/{i}.jpg", f"class{c}") for c in range(classes) for i in range(images))
    return Manifest("made", Path("."), tuple(items))


@pytest.mark.parametrize(("side", "size"), [(20, 64), (42, 64), (64, 96), (96, 128), (480, 128), (4000, 128)])
def test_input_size_follows_the_pictures(side: int, size: int) -> None:
    choice = choose_shapes(resolve(), _train(20, 8), [side] * 5)
    assert choice.sections["model"]["size"] == size
    assert any(f"input {size} px" in reason for reason in choice.reasons)


def test_a_given_size_is_kept() -> None:
    choice = choose_shapes(resolve(settings=["model.size=224"]), _train(20, 8), [64])
    assert choice.sections["model"]["size"] == 224


def test_batches_shrink_to_the_classes_there_are() -> None:
    choice = choose_shapes(resolve(), _train(5, 3), [64])
    assert choice.sections["training"] == {"classes_per_batch": 5, "per_class": 3}


def test_a_batch_has_two_classes_however_many_images_of_each() -> None:
    choice = choose_shapes(resolve(settings=["training.per_class=50"]), _train(5, 60), [64])
    assert choice.sections["training"] == {"classes_per_batch": 2, "per_class": 50}


def test_one_usable_class_is_refused() -> None:
    with pytest.raises(DataError, match="two classes with two images"):
        choose_shapes(resolve(), _train(6, 1), [64])


def test_epochs_stay_within_the_cap() -> None:
    choice = choose_epochs(
        resolve(settings=["training.minutes=1"]), classes=100, steps_per_epoch=10, seconds_per_step=1.0
    )
    assert choice.sections["training"]["epochs"] == 6.0
    assert "--minutes" in choice.reasons[0]


def test_no_more_epochs_than_are_worth_it() -> None:
    choice = choose_epochs(resolve(), classes=100, steps_per_epoch=10, seconds_per_step=0.001)
    assert choice.sections["training"]["epochs"] == AIM_EPOCHS


@pytest.mark.parametrize(("classes", "epochs"), [(2, 6), (24, 6), (40, 10), (60, 15), (10_000, 15)])
def test_few_classes_are_gone_through_less_often(classes: int, epochs: int) -> None:
    choice = choose_epochs(resolve(), classes=classes, steps_per_epoch=2, seconds_per_step=0.001)
    assert choice.sections["training"]["epochs"] == epochs


def test_less_than_an_epoch_is_better_than_nothing() -> None:
    choice = choose_epochs(
        resolve(settings=["training.minutes=1"]), classes=100, steps_per_epoch=1000, seconds_per_step=0.6
    )
    assert choice.sections["training"]["epochs"] == pytest.approx(0.1)


def test_a_cap_below_one_step_is_refused() -> None:
    with pytest.raises(UsageError, match="smaller --size"):
        choose_epochs(
            resolve(settings=["training.minutes=0.01"]), classes=100, steps_per_epoch=10, seconds_per_step=5.0
        )


def test_given_epochs_are_taken_as_they_are() -> None:
    choice = choose_epochs(
        resolve(settings=["training.epochs=100"]), classes=100, steps_per_epoch=10, seconds_per_step=60.0
    )
    assert not choice.sections
    assert "as asked" in choice.reasons[0]


def test_the_input_shrinks_only_when_too_few_epochs_fit() -> None:
    assert smaller_size(128, epochs=2.0) == 96
    assert smaller_size(64, epochs=2.0) is None
    assert smaller_size(128, epochs=10.0) is None

"""Chooses input size, embedding size, batch and number of steps from the data, and says why."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from accord.errors import DataError, UsageError
from accord.recipes.config import RunConfig
from accord.recipes.head_names import own_heads
from accord.types import Manifest

SIZES = (64, 96, 128, 160, 224)
AIM_EPOCHS = 15
SHORT_EPOCHS = 6
CLASSES_PER_EPOCH = 4
FEWEST_EPOCHS = 4.0
LARGEST_BATCH = 64
LARGEST_SIZE = 128
ENLARGE = 1.5


class Choice(NamedTuple):
    """What was chosen and one plain sentence for each choice."""

    sections: Mapping[str, Mapping[str, object]]
    reasons: tuple[str, ...]


def choose_shapes(config: RunConfig, train: Manifest, sides: Sequence[int]) -> Choice:
    """Input size from the pictures' shorter sides, embedding size and batch from the number of classes."""
    counts = Counter(item.label for item in train.items)
    usable = sum(count >= 2 for count in counts.values())
    if usable < 2:
        raise DataError(
            f"Training needs at least two classes with two images each; the training side has {usable}.\n"
            "  Add images, or lower data.test so that more classes train."
        )
    reasons = []
    size = config.model.size or _size(sides)
    if config.model.size is None:
        reasons.append(f"input {size} px (the pictures' shorter sides are about {median(sides):.0f} px)")
    dim = config.model.dim or (64 if usable <= 500 else 128)
    if not own_heads(config):
        reasons.append(f"the embedding is the pooled feature; `accord compress` makes {dim} numbers of it (model.dim)")
    elif config.model.dim is None:
        reasons.append(f"{dim} numbers per embedding head ({usable} training classes)")
    per_class = min(config.training.per_class, max(counts.values()))
    if per_class < config.training.per_class:
        reasons.append(f"{per_class} images of each class in a batch: no class has {config.training.per_class}")
    classes = config.training.classes_per_batch or max(2, LARGEST_BATCH // per_class)
    if classes > usable:
        reasons.append(f"{usable} classes per batch instead of {classes}: there are no more")
        classes = usable
    reasons.append(f"batches of {classes} classes × {per_class} images")
    return Choice(
        {"model": {"size": size, "dim": dim}, "training": {"classes_per_batch": classes, "per_class": per_class}},
        tuple(reasons),
    )


def choose_epochs(config: RunConfig, *, classes: int, steps_per_epoch: int, seconds_per_step: float) -> Choice:
    """As many epochs as are worth it for so many training classes, within the time cap; a given number is kept."""
    if config.training.epochs is not None:
        seconds = config.training.epochs * steps_per_epoch * seconds_per_step
        return Choice({}, (f"{config.training.epochs:g} epochs as asked, about {_minutes(seconds)}",))
    budget = config.training.minutes * 60
    afford = budget / (seconds_per_step * steps_per_epoch)
    # few classes are soon learnt by heart, and what generalises is lost again
    aim = min(AIM_EPOCHS, max(SHORT_EPOCHS, math.ceil(classes / CLASSES_PER_EPOCH)))
    epochs = float(min(aim, math.floor(afford))) if afford >= 1 else round(afford, 3)
    if epochs * steps_per_epoch < 1:
        raise UsageError(
            f"One training step takes about {seconds_per_step:.0f} s here, more than {config.training.minutes:g}"
            " minutes allow. Give more --minutes or a smaller --size."
        )
    seconds = epochs * steps_per_epoch * seconds_per_step
    reason = f"{epochs:g} epochs of {steps_per_epoch} steps, about {_minutes(seconds)} on this machine"
    if epochs < aim:
        reason += f" ({aim} would be better; the cap is {config.training.minutes:g} minutes: see --minutes)"
    return Choice({"training": {"epochs": epochs}}, (reason,))


def smaller_size(size: int, *, epochs: float) -> int | None:
    """The next smaller input size when too few epochs fit into the time; None when it need not or can't shrink."""
    below = [other for other in SIZES if other < size]
    return below[-1] if epochs < FEWEST_EPOCHS and below else None


def _size(sides: Sequence[int]) -> int:
    """Half as large again as the pictures, up to 128: a trunk taught on 224 px sees little in small pictures."""
    wanted = ENLARGE * median(sides)
    return next((size for size in SIZES if size >= wanted and size <= LARGEST_SIZE), LARGEST_SIZE)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} minutes"

"""Who belongs with whom in a batch, as masks."""

import torch

from accord.types import Labels, Mask


def pair_masks(labels: Labels) -> tuple[Mask, Mask]:
    """Masks of the pairs of one class (an item is no pair with itself) and of the pairs of different classes.

    Both are (item, item) and symmetric. Items are told apart by row, so two copies of an image are a pair.
    """
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same

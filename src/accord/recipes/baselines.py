"""What needs no learning: the pixels themselves as an embedding, to stand beside chance and the frozen backbone."""

from collections.abc import Callable

import torch

from accord.data import ImageTable
from accord.types import Labelled, Manifest, Preprocessing

SIZE = 32
BATCH = 256


def raw_pixels(
    manifest: Manifest,
    *,
    size: int = SIZE,
    fit: str = "crop",
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Each image as its `size` × `size` × 3 pixels, with the mean of the set taken from every one of them.

    Their cosine is then the correlation of two pictures over what is common to all. A picture that is the mean itself
    has no direction; it is told from zero by a trace of its own brightness. Labels are numbers of `manifest.classes`.
    """
    table = ImageTable(manifest, Preprocessing(size, fit=fit), budget_bytes=0)
    rows = []
    for batch in table.batches(BATCH):
        rows.append(batch.inputs.flatten(1).float())
        if progress is not None:
            progress(min(len(rows) * BATCH, len(table)), len(table))
    pixels = torch.cat(rows)
    pixels -= pixels.mean(dim=0)
    return Labelled(_with_direction(pixels), table.labels, table.ids)


def _with_direction(pixels: torch.Tensor) -> torch.Tensor:
    blank = (pixels == 0).all(dim=1)
    pixels[blank] = 1.0
    return pixels

"""Closed-set identification on random galleries: some items of every class are known, the others ask."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import check_count
from accord.errors import BatchError
from accord.evaluation._cross_scores import BUDGET_BYTES
from accord.evaluation._identification import Draws, averaged, identify, in_random_order
from accord.types import Labelled


class ClosedSetSplit(NamedTuple):
    """Row numbers: what is known to the gallery, and who asks. Every probe's class is in the gallery."""

    gallery: Int[Tensor, " item"]
    probes: Int[Tensor, " probe"]


def closed_set_split(
    labels: Int[Tensor, " item"], *, gallery_images: int = 1, generator: torch.Generator
) -> ClosedSetSplit:
    """Draw `gallery_images` items of every class for the gallery; all others ask.

    A class with no more items than that is in the gallery with all of them and asks nothing, but is in the way. Raises
    BatchError where nobody is left to ask.
    """
    check_count("closed_set_split", "gallery_images", gallery_images)
    classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    if not bool((sizes > gallery_images).any()):
        raise BatchError(
            f"closed_set_split: no class has more than {gallery_images} items, so nobody is left to ask.\n"
            "Lower gallery_images, or give more items of a class."
        )
    shuffled, turn = in_random_order(classes, sizes, generator)
    inside = turn < gallery_images
    return ClosedSetSplit(*(shuffled[part].sort().values for part in (inside, ~inside)))


def closed_set_draws(
    labelled: Labelled,
    *,
    draws: int = 10,
    gallery_images: int = 1,
    ranks: Sequence[int] = (1, 5, 10),
    generator: torch.Generator,
    budget_bytes: int = BUDGET_BYTES,
) -> Draws:
    """`identify` on several draws of `closed_set_split`, averaged: `rank-1` and its kin.

    The deviation over draws says how much hangs on which items the gallery has, not how other classes would fare.
    """
    check_count("closed_set_draws", "draws", draws)
    found = []
    for _ in range(draws):
        split = closed_set_split(labelled.labels, gallery_images=gallery_images, generator=generator)
        gallery, probes = (Labelled(*(column[rows] for column in labelled)) for rows in split)
        found.append(identify(probes, gallery, ranks=ranks, budget_bytes=budget_bytes))
    return averaged(found)

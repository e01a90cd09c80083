"""Classes with several centres each: their columns seen class by class, and how far apart centres of a class are."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from accord.checks import describe
from accord.errors import UsageError
from accord.geometry import full, normalise
from accord.losses._measured import Sides, measured
from accord.losses._plan import no_autocast
from accord.types import Scalar

PART_BYTES = 8 * 2**20  # so much of a table is compared at once


def check_centres(who: str, weight: Tensor, centres: int) -> None:
    """Refuse a table that is not made of whole classes."""
    if len(weight) % centres:
        raise UsageError(
            f"{who}: needs {centres} rows for each class, one class after another, but {len(weight)} is no multiple of "
            f"{centres}.\n  weight: {describe(weight)}"
        )


def by_centre(columns: Float[Tensor, "row column"], centres: int) -> Float[Tensor, "row centre class"]:
    """A copy with a row for each place among a class's centres: sums over so few numbers are slow side by side."""
    return columns.view(len(columns), -1, centres).transpose(1, 2).contiguous()


def by_column(centres: Float[Tensor, "row centre class"]) -> Float[Tensor, "row column"]:
    """The way back from `by_centre`."""
    return centres.transpose(1, 2).flatten(1)


def centre_spread(weight: Float[Tensor, "centre dim"], centres: int) -> Scalar:
    """Half the mean distance between the normalised centres of a class: Σ √(2 - 2 cos) / (classes · K · (K - 1)).

    The sum is over each pair once; coinciding centres pass a zero sub-gradient. Only centres of one class are compared,
    a part of the table at a time, and nothing but the gradient is as large as the table. There must be two or more.
    """
    pairs = len(weight) * (centres - 1)
    size = centres * max(1, PART_BYTES // (centres * weight.shape[1] * weight.element_size()))
    parts = torch.split(weight, size)
    apart = partial(_apart, centres=centres)
    with no_autocast(weight.device.type):
        if len(parts) == 1:
            return apart(weight) / pairs
        again = partial(checkpoint, apart, use_reentrant=False, preserve_rng_state=False)
        return torch.stack([again(part) for part in parts]).sum() / pairs


def _apart(part: Tensor, centres: int) -> Tensor:
    """The sum of distances between centres of a class."""
    unit = normalise(full(part)).view(-1, centres, part.shape[1])
    distances = measured(unit @ unit.mT, "euclidean", Sides(None, None), unit=True)
    return distances.triu(1).sum()

"""The items of one evaluation, checked at the door: finite, not zero, known by id, with their classes numbered."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError, NumericError
from accord.geometry import full
from accord.types import Labelled

# Rows are read in pieces of this size wherever a wider copy is made, so that extra memory never grows with the gallery.
# Fixed, not taken from the budget: the bits of a norm must not depend on it.
CHUNK_NUMBERS = 2**19
# Directions this close count as one, and more than float32 rounding apart as two.
ONE_DIRECTION = 1e-6


class Gallery(NamedTuple):
    """Checked embeddings with what the metrics need to know about them.

    `unit` holds unit rows in float32, good for finding candidates; `norms` the float64 lengths of the rows as given,
    for exact scores. `classes` numbers the labels from 0 in ascending order; `sizes` counts the items of each class.
    """

    embeddings: Float[Tensor, "item dim"]
    unit: Float[Tensor, "item dim"]
    norms: Float[Tensor, " item"]
    labels: Int[Tensor, " item"]
    ids: Int[Tensor, " item"]
    classes: Int[Tensor, " item"]
    sizes: Int[Tensor, " class"]

    @property
    def relevant(self) -> Int[Tensor, " item"]:
        """How many other items share the item's class: R of the formulas."""
        return self.sizes[self.classes] - 1

    def queries(self) -> Int[Tensor, " query"]:
        """Row numbers of the items that have something to find: all but the only ones of their class."""
        return (self.relevant > 0).nonzero()[:, 0]


def gather(who: str, labelled: Labelled) -> Gallery:
    """Check what is to be evaluated and number its classes.

    Raises BatchError for shapes that do not fit, ids given twice, fewer than two classes or no class with two items;
    NumericError, naming the ids, for rows that are not finite or zero.
    """
    embeddings, labels, ids = labelled
    _check_ids(who, embeddings, ids)
    check_finite(who, "embeddings", embeddings, ids)
    check_batch(who, embeddings, labels)
    embeddings = full(embeddings.detach())
    norms = _lengths(embeddings)
    _check_directions(who, norms, ids)
    classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    _check_classes(who, sizes)
    return Gallery(embeddings, _unit(embeddings, norms), norms, labels, ids, classes, sizes)


def twins(embeddings: Float[Tensor, "item dim"]) -> tuple[int, int]:
    """How many items share their embedding with another one, bit for bit, and how many different embeddings there are.

    Rows are compared by 64-bit fingerprints, which costs no copy of the embeddings.
    """
    counts: Tensor = torch.unique(_fingerprints(embeddings), return_counts=True)[1]
    return int(counts[counts > 1].sum()), len(counts)


def collapsed(gallery: Gallery, different: int) -> bool:
    """Whether the embeddings lie on one line through the origin, or there are fewer of them than classes."""
    on_one_line: Bool[Tensor, ""] = ((gallery.unit @ gallery.unit[0]).abs() >= 1 - ONE_DIRECTION).all()
    return bool(on_one_line) or different < len(gallery.sizes)


def pieces(rows: int, columns: int) -> list[slice]:
    """Consecutive slices of rows with about CHUNK_NUMBERS numbers each."""
    size = max(1, CHUNK_NUMBERS // max(1, columns))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _check_ids(who: str, embeddings: Tensor, ids: Tensor) -> None:
    tensors = isinstance(embeddings, Tensor) and isinstance(ids, Tensor)
    if not tensors or ids.shape != embeddings.shape[:1] or ids.is_floating_point():
        wish = "ids must be an integer tensor with one entry per embedding."
        raise BatchError(f"{who}: {wish}\n  embeddings: {describe(embeddings)}\n  ids:        {describe(ids)}")
    values, counts = torch.unique(ids, return_counts=True)
    twice = values[counts > 1].tolist()
    if twice:
        raise BatchError(
            f"{who}: ids must be unique, but {len(twice)} are given more than once: {_shown(twice)}.\n"
            "An item is kept out of its own results by its id; merge the parts of a distributed run by id first."
        )


def _check_directions(who: str, norms: Tensor, ids: Tensor) -> None:
    wrong = ids[~(norms.isfinite() & (norms > 0))].tolist()
    if wrong:
        raise NumericError(
            f"{who}: an embedding of length zero (or not finite) has no direction to compare, but {len(wrong)} of "
            f"{len(ids)} items have one: id {_shown(wrong)}.\nLook at these items and at what the model does to them."
        )


def _check_classes(who: str, sizes: Tensor) -> None:
    if len(sizes) < 2:
        raise BatchError(
            f"{who}: there must be at least two classes, but there are {len(sizes)}.\n"
            "With one class every answer is right; evaluate more classes together."
        )
    if int(sizes.max()) < 2:
        raise BatchError(
            f"{who}: no item has another one of its class to find: {len(sizes)} items, {len(sizes)} classes.\n"
            "Give at least one class with two items."
        )


def _shown(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")


def _lengths(embeddings: Tensor) -> Tensor:
    def length(rows: Tensor) -> Tensor:
        # scaled by the largest entry: squares of tiny or huge float64 entries would leave the range
        peak = rows.abs().amax(dim=1, keepdim=True)
        safe = peak.clamp_min(torch.finfo(torch.float64).tiny)
        norms: Tensor = peak[:, 0] * torch.linalg.vector_norm(rows / safe, dim=1)
        return norms

    if not embeddings.numel():
        return embeddings.new_zeros(len(embeddings), dtype=torch.float64)
    return torch.cat([length(embeddings[rows].double()) for rows in pieces(*embeddings.shape)])


def _unit(embeddings: Tensor, norms: Tensor) -> Tensor:
    # rows that left the model with unit length are used as they are: no copy of the gallery
    if embeddings.dtype == torch.float32 and bool(((norms - 1).abs() < 2**-22).all()):
        return embeddings.contiguous()
    unit = torch.empty_like(embeddings, dtype=torch.float32, memory_format=torch.contiguous_format)
    for rows in pieces(*embeddings.shape):
        unit[rows] = (embeddings[rows].double() / norms[rows, None]).float()
    return unit


def _fingerprints(embeddings: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, embeddings.shape[1:], generator=generator) * 2 + 1
    factors = factors.to(embeddings.device)
    kind = torch.int64 if embeddings.dtype == torch.float64 else torch.int32

    def fingerprint(rows: Tensor) -> Tensor:
        # adding zero turns -0.0 into 0.0; integer sums wrap around and so do not depend on their order
        return ((rows + 0.0).contiguous().view(kind).long() * factors).sum(dim=1)

    return torch.cat([fingerprint(embeddings[rows]) for rows in pieces(*embeddings.shape)])

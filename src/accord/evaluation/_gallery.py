"""The items of one evaluation, checked at the door: finite, not zero, known by id; read as unit rows in pieces."""

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
# Lengths within which dividing in single precision loses no digit.
_ORDINARY = 2.0**60


class Items(NamedTuple):
    """Checked embeddings as they were given (no copy), with the float64 lengths of their rows.

    `sound` tells which rows have a direction: all of them, unless rows without one were allowed. `reading` says how
    rows become unit rows: `plain` (they are), `single` (divided in float32) or `double`.
    """

    embeddings: Float[Tensor, "item dim"]
    norms: Float[Tensor, " item"]
    labels: Int[Tensor, " item"]
    ids: Int[Tensor, " item"]
    sound: Bool[Tensor, " item"]
    reading: str

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, rows: Tensor) -> "Items":
        """Some of them, in that order."""
        embeddings, norms, labels, ids, sound, reading = self
        return Items(embeddings[rows], norms[rows], labels[rows], ids[rows], sound[rows], reading)

    def unit(self, rows: slice | Tensor) -> Float[Tensor, "row dim"]:
        """Some rows at length one in float32, good for finding candidates; zero where there is no direction."""
        part = self.embeddings[rows]
        if self.reading == "plain":
            return part.contiguous()
        norms = self.norms[rows, None]
        unit = part.float() / norms.float() if self.reading == "single" else (part.double() / norms).float()
        return unit.masked_fill_(~self.sound[rows, None], 0)

    def whole(self) -> Float[Tensor, "item dim"]:
        """All rows at length one, made in pieces; no copy where they are so already."""
        if self.reading == "plain":
            return self.unit(slice(None))
        unit = torch.empty(self.embeddings.shape, dtype=torch.float32, device=self.embeddings.device)
        for rows in pieces(*self.embeddings.shape):
            unit[rows] = self.unit(rows)
        return unit


def gather(who: str, labelled: Labelled, *, allow_nonfinite: bool = False) -> Items:
    """Check what is to be evaluated.

    Raises BatchError for tensors that do not fit and ids given twice; NumericError, naming the ids, for rows that are
    not finite or zero, unless these are allowed.
    """
    embeddings, labels, ids = labelled
    _check_labels(who, labels)
    _check_ids(who, embeddings, ids)
    if not allow_nonfinite:
        check_finite(who, "embeddings", embeddings, ids)
    # with rows that are not finite allowed, the check of shapes looks at an empty batch of the same kind
    check_batch(who, embeddings[:0] if allow_nonfinite else embeddings, labels[:0] if allow_nonfinite else labels)
    if len(labels) != len(embeddings):
        check_batch(who, embeddings, labels)
    embeddings = embeddings.detach()
    norms = _lengths(embeddings)
    sound = norms.isfinite() & (norms > 0)
    if not allow_nonfinite:
        _check_directions(who, sound, ids)
    return Items(embeddings, norms, labels.long(), ids.long(), sound, _reading(embeddings, norms, sound))


def fingerprints(embeddings: Float[Tensor, "item dim"]) -> Int[Tensor, " item"]:
    """A 64-bit number per row, equal for rows that are equal bit for bit (and for 0.0 and -0.0); costs no copy."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, embeddings.shape[1:], generator=generator) * 2 + 1
    factors = factors.to(embeddings.device)
    kind = torch.int64 if embeddings.dtype == torch.float64 else torch.int32

    def fingerprint(rows: Tensor) -> Tensor:
        # adding zero turns -0.0 into 0.0; integer sums wrap around and so do not depend on their order
        return ((full(rows) + 0.0).contiguous().view(kind).long() * factors).sum(dim=1)

    if not len(embeddings):
        return factors.new_zeros(0)
    return torch.cat([fingerprint(embeddings[rows]) for rows in pieces(*embeddings.shape)])


def collapsed(items: Items, different: int, classes: int) -> bool:
    """Whether the embeddings lie on one line through the origin, or there are fewer of them than classes."""
    if different < classes:
        return True
    first = items.unit(items.sound.nonzero()[:1, 0])
    if not len(first):
        return True
    for rows in pieces(*items.embeddings.shape):
        on_one_line = (items.unit(rows) @ first[0]).abs() >= 1 - ONE_DIRECTION
        if not bool((on_one_line | ~items.sound[rows]).all()):
            return False
    return True


def pieces(rows: int, columns: int) -> list[slice]:
    """Consecutive slices of rows with about CHUNK_NUMBERS numbers each."""
    size = max(1, CHUNK_NUMBERS // max(1, columns))
    return [slice(start, start + size) for start in range(0, rows, size)]


def shown(ids: list[int]) -> str:
    """The first ten of some ids, and how many more there are."""
    return ", ".join(map(str, ids[:10])) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")


def _check_labels(who: str, labels: object) -> None:
    if isinstance(labels, Tensor):
        return
    names = f"{who}: labels must be an integer tensor, but are of type {type(labels).__name__}."
    raise BatchError(f"{names}\nNumber named classes first: torch.tensor([names.index(label) for label in labels]).")


def _check_ids(who: str, embeddings: object, ids: object) -> None:
    fits = isinstance(embeddings, Tensor) and isinstance(ids, Tensor)
    if not fits or ids.shape != embeddings.shape[:1] or ids.is_floating_point():  # type: ignore[attr-defined]
        wish = "ids must be an integer tensor with one entry per embedding."
        raise BatchError(f"{who}: {wish}\n  embeddings: {describe(embeddings)}\n  ids:        {describe(ids)}")
    values, counts = torch.unique(ids, return_counts=True)
    twice = values[counts > 1].tolist()
    if twice:
        raise BatchError(
            f"{who}: ids must be unique, but {len(twice)} are given more than once: {shown(twice)}.\n"
            "An item is kept out of its own results by its id; put the parts of a distributed run together with "
            "merge_labelled first."
        )


def _check_directions(who: str, sound: Tensor, ids: Tensor) -> None:
    wrong = ids[~sound].tolist()
    if wrong:
        raise NumericError(
            f"{who}: an embedding of length zero (or not finite) has no direction to compare, but {len(wrong)} of "
            f"{len(ids)} items have one: id {shown(wrong)}.\nLook at these items and at what the model does to them."
        )


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


def _reading(embeddings: Tensor, norms: Tensor, sound: Tensor) -> str:
    if embeddings.dtype == torch.float32 and bool(((norms - 1).abs() < 2**-22).all()):
        # rows that left the model with unit length are used as they are
        return "plain"
    lengths = norms[sound]
    ordinary = bool(((lengths < _ORDINARY) & (lengths > 1 / _ORDINARY)).all())
    return "single" if ordinary and embeddings.dtype != torch.float64 else "double"

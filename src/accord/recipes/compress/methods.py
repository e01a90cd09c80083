"""The ways to compress, by name: each makes one head of `dim` numbers from what the heads say of training images."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from accord.ensembles import compose, fold_heads, pca, shrinkage_lda, wccn
from accord.errors import BatchError, UnknownNameError, UsageError
from accord.models import TrunkHead
from accord.recipes.compress.space import (
    SCALES,
    Space,
    Stored,
    affine_of,
    head_of,
    linear_head,
    space_of,
    why_not_affine,
)
from accord.recipes.compress.train import distil, student
from accord.recipes.watch import Watch

AUTO, HEADS, WCCN = "auto", "heads", "wccn"
# held-out training classes of `objects` liked a half better than 0 and a quarter, and as much as three quarters
WHITENING = 0.5
# and those of `icons` and `objects`, of 0.5 to 0.95, at all numbers as at 64
SHRINKAGE = 0.9


class Candidate(NamedTuple):
    """A compressed head, how it was made, and the share it retains (None where that is not defined)."""

    method: str
    scale: str
    head: nn.Module
    retained: float | None


@dataclass(frozen=True)
class Material:
    """What every method is given: heads, their shares, and the stored features of the training classes."""

    heads: Mapping[str, nn.Module]
    shares: Mapping[str, float]
    train: Stored
    hidden: int
    seed: int
    watch: Watch

    def space(self, scale: str) -> Space:
        """The heads side by side at this scale."""
        return space_of(self.heads, self.shares, scale, self.train.features)

    def told(self, stage: str) -> Callable[[int, int], None]:
        """Where a training reports to."""
        return lambda done, total: self.watch.progress(stage, done, total)


def _pca(given: Material, dim: int, scale: str) -> Candidate:
    space = given.space(scale)
    found = pca(space.joined(given.train.features), dim=dim)
    return Candidate("pca", scale, head_of(space, found), found.retained)


def _whiten(given: Material, dim: int, scale: str) -> Candidate:
    """Principal components, each divided by the root of its spread: half way to equal spreads."""
    space = given.space(scale)
    found = pca(space.joined(given.train.features), dim=dim, whiten=WHITENING)
    return Candidate("whiten", scale, head_of(space, found), found.retained)


def _lda(given: Material, dim: int, scale: str) -> Candidate:
    space = given.space(scale)
    found = shrinkage_lda(space.joined(given.train.features), given.train.labels, dim=dim)
    return Candidate("lda", scale, head_of(space, found), found.retained)


def _wccn(given: Material, dim: int, scale: str) -> Candidate:
    """Normalised within classes, all numbers of it or the principal components."""
    space = given.space(scale)
    joined = space.joined(given.train.features)
    found = wccn(joined, given.train.labels, shrinkage=SHRINKAGE)
    if dim < len(found.matrix):
        found = compose(pca(found(joined), dim=dim), found)
    return Candidate(WCCN, scale, head_of(space, found), found.retained)


def _fold(given: Material, dim: int, scale: str) -> Candidate:
    """Exact where `dim` numbers hold all directions of the heads, otherwise those that training images use most."""
    why = why_not_affine(given.heads)
    if why is not None:
        raise UsageError(
            f"compress: these heads can't be folded into one: {why}.\n"
            "  Put a map on top of them instead: --method pca, lda or auto."
        )
    space = given.space(scale)
    inner = space.affine()
    assert inner is not None, "it was asked why not"
    maps, weights = [affine_of(head) for head in space.heads.values()], [space.factors[n] ** 2 for n in space.heads]
    whole = fold_heads(maps, weights)
    if dim >= len(whole.matrix):
        return Candidate("fold", scale, linear_head(fold_heads(maps, weights, dim=dim)), 1.0)
    # the mean stays where it is: the scores are cosines, and should be those of the heads
    found = pca(space.joined(given.train.features), dim=dim, centre=False)
    return Candidate("fold", scale, linear_head(compose(found, inner)), found.retained)


def _distil(given: Material, dim: int, scale: str) -> Candidate:
    """Where heads fold, it starts from their folded principal components.

    What it imitates is normalised within classes first, where a class has two images to tell how.
    """
    features = given.train.features
    whole = given.space("length" if scale == "unit" else scale)
    inner = whole.affine()
    start = None if inner is None else compose(pca(whole.joined(features), dim=dim), inner)
    teacher = given.space(scale).joined(features)
    with suppress(BatchError):
        teacher = wccn(teacher, given.train.labels, shrinkage=SHRINKAGE)(teacher)
    head = distil(features, teacher, start, dim=dim, seed=given.seed, told=given.told("distilling"))
    return Candidate("distil", scale, head, None)


def _student(given: Material, dim: int, scale: str) -> Candidate:
    space = given.space(scale)
    teacher = space.joined(given.train.features)
    top = student(teacher, dim=dim, hidden=given.hidden, seed=given.seed, told=given.told("teaching a student"))
    return Candidate("student", scale, head_of(space, top), None)


def _heads(given: Material, dim: int, scale: str) -> Candidate:
    """No map at all: the heads side by side, each with its share."""
    space = given.space(scale)
    return Candidate(HEADS, scale, head_of(space, TrunkHead(dim)), None)


METHODS: dict[str, Callable[[Material, int, str], Candidate]] = {
    "pca": _pca,
    "whiten": _whiten,
    "fold": _fold,
    "lda": _lda,
    WCCN: _wccn,
    "student": _student,
    "distil": _distil,
    HEADS: _heads,
}
TRIED = tuple(name for name in METHODS if name != HEADS)  # by `auto`


def usual_scale(method: str) -> str:
    """How heads are scaled where nobody says: as they are used; to be folded, each as a whole."""
    return "length" if method == "fold" else "unit"


def plans(heads: Mapping[str, nn.Module], scale: str | None) -> list[tuple[str, str]]:
    """What `auto` tries, as (method, scale): every method at its usual scale and, where it folds, at `length`."""
    foldable = why_not_affine(heads) is None
    if scale is not None:
        return [(method, scale) for method in TRIED if method != "fold" or (foldable and scale != "unit")]
    found = [(method, usual_scale(method)) for method in TRIED if method != "fold" or foldable]
    return [*found, *((method, "length") for method in ("pca", "whiten", "lda"))] if foldable else found


def check_names(method: str, scale: str | None) -> None:
    """Refuse a method or a scale that nobody knows, and one that can't go with the other."""
    if method not in (AUTO, *METHODS):
        raise UnknownNameError("method of compression", method, (AUTO, *METHODS))
    if scale is not None and scale not in SCALES:
        raise UnknownNameError("scale of heads", scale, SCALES)
    if (method, scale) == ("fold", "unit"):
        raise UsageError(
            "compress: heads that are each brought to unit length can't be folded.\n"
            "  Scale each as a whole: --scale length or distance."
        )

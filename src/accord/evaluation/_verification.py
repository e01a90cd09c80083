"""Verification: whether two items are of one class, told from their score alone; over a list of pairs or over all."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.checks import check_count, check_finite, describe
from accord.errors import BatchError, UsageError
from accord.evaluation._cross_scores import BUDGET_BYTES, Tile, some, tile_of, tiles
from accord.evaluation._gallery import Items
from accord.evaluation._scores import exact_pairs
from accord.evaluation._steps import (
    OperatingPoint,
    Steps,
    area,
    best_accuracy,
    checked_rates,
    count_steps,
    equal_error,
    notes_on,
    operating_point,
)
from accord.geometry import places
from accord.types import Labelled, Pairs

FARS = (0.1, 0.01, 0.001)
MOST_GENUINE = 20_000_000


@dataclass(frozen=True)
class Verification:
    """How well scores tell pairs of one class (genuine) from pairs of two (impostors); a pair is accepted at score ≥ t.

    `steps` is the whole ROC, `auc` the area under it (0.5 is guessing, a tie counts half), `eer` where false accepts
    and false rejects are equal, with the score of that step. `tar[far]` says what a false-accept rate lets through.
    `best_accuracy` chose its threshold on the pairs it judges and is optimistic; `fold_accuracy` did not.
    """

    steps: Steps
    auc: float
    eer: float
    eer_threshold: float
    tar: Mapping[float, OperatingPoint]
    best_accuracy: float
    best_threshold: float
    fold_accuracy: Float[Tensor, " fold"] | None = None
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """The mean accuracy over folds; None without folds."""
        return None if self.fold_accuracy is None else float(self.fold_accuracy.mean())

    @property
    def standard_error(self) -> float | None:
        """The standard error of that mean: s/√folds, s with folds - 1 below (Huang et al. 2007); None without folds."""
        if self.fold_accuracy is None:
            return None
        return float(self.fold_accuracy.std()) / math.sqrt(len(self.fold_accuracy))

    @property
    def metrics(self) -> dict[str, float]:
        """Every figure as a fraction in [0, 1]: `auc`, `eer`, `tar@far=…`, and with folds `accuracy`."""
        found = {"auc": self.auc, "eer": self.eer}
        found |= {f"tar@far={far:g}": point.true_rate for far, point in self.tar.items()}
        return found if self.accuracy is None else {**found, "accuracy": self.accuracy}


def verify_pairs(
    scores: Float[Tensor, " pair"],
    same: Bool[Tensor, " pair"],
    *,
    folds: Int[Tensor, " pair"] | None = None,
    fars: Sequence[float] = FARS,
) -> Verification:
    """Judge a list of scored pairs; larger scores are closer, `same` says which pairs are of one class.

    Equal scores are accepted together or not at all. TAR@FAR takes the most that can be accepted while the false-accept
    rate stays at or below the wanted one, and is never interpolated; a rate below 1/impostors is flagged in the notes.
    The EER is read on a straight line between the two corners of the ROC around false accepts = false rejects. With
    `folds`, one number per pair, each fold is judged at the threshold that does best on all others, half-way between
    two scores, the middle one of equally good ones (Huang et al. 2007, the protocol of Labeled Faces in the Wild).

    Raises BatchError for lengths that differ, or without both kinds of pairs; NumericError for scores that are not
    finite; UsageError for rates outside (0, 1) or a single fold.

        verify_pairs(torch.tensor([0.9, 0.2, 0.4]), torch.tensor([True, False, True])).auc
    """
    rates = checked_rates("verify_pairs", fars)
    _check_pairs(scores, same)
    values = scores.detach().double().cpu()
    mask = same.cpu()
    steps = count_steps(values[mask], [values[~mask]])
    accuracies = None if folds is None else _fold_accuracies(values, mask, folds)
    return _judged("verify_pairs", steps, rates, accuracies, ())


def pair_scores(labelled: Labelled, pairs: Pairs, *, by: Literal["id", "row"] = "id") -> Float[Tensor, " pair"]:
    """The exact cosine score of each pair, in float64; `pairs` names items by their id, or by row number.

    Raises BatchError naming ids that the items do not have.
    """
    if by not in ("id", "row"):
        raise UsageError(f"pair_scores: by must be 'id' or 'row', not {by!r}.")
    if pairs.anchors.shape != pairs.others.shape:
        shapes = f"  anchors: {describe(pairs.anchors)}\n  others:  {describe(pairs.others)}"
        raise BatchError(f"pair_scores: a pair has two items, so both lists must be as long.\n{shapes}")
    items = some("pair_scores", "items", labelled)
    rows = [_rows_of(labelled.ids, side, by) for side in pairs]
    return exact_pairs(items, rows[0], items, rows[1])


def verify_all(
    labelled: Labelled,
    *,
    fars: Sequence[float] = FARS,
    budget_bytes: int = BUDGET_BYTES,
    most_genuine: int = MOST_GENUINE,
) -> Verification:
    """Judge all pairs of different items: what `verify_pairs` says of their exact cosine scores, without keeping them.

    Scores of pairs of one class are kept (8 bytes each, three times over while they are sorted), those of two classes
    are only counted between them, tile by tile under `budget_bytes`. Values depend neither on that nor on the
    number of threads. Cost grows with the square of the items: three float64 products of all of them.

    Raises what `verify_pairs` raises, and UsageError for more than `most_genuine` pairs of one class.
    """
    rates = checked_rates("verify_all", fars)
    check_count("verify_all", "budget_bytes", budget_bytes, high=2**63)
    items = some("verify_all", "items", labelled)
    classes, sizes = torch.unique(labelled.labels, return_inverse=True, return_counts=True)[1:]
    genuine = int((sizes * (sizes - 1) // 2).sum())
    n = len(classes)
    _check_kinds("verify_all", genuine, n * (n - 1) // 2 - genuine)
    if genuine > most_genuine:
        raise UsageError(
            f"verify_all: there are {genuine:,} pairs of one class, more than most_genuine={most_genuine:,}.\n"
            f"They are kept; allow more (about 24 bytes each), or judge fewer images of each class."
        )
    tile = tile_of(budget_bytes, items.embeddings.shape[1])
    steps = count_steps(_genuine(items, classes, sizes, genuine, tile), _impostors(items, classes, tile))
    shared = "Pairs that share an item are not independent: the figures are less sure than their number suggests."
    return _judged("verify_all", steps, rates, None, (shared,))


def _judged(
    who: str, steps: Steps, rates: tuple[float, ...], accuracies: Tensor | None, notes: tuple[str, ...]
) -> Verification:
    points = {rate: operating_point(who, steps, rate) for rate in rates}
    return Verification(
        steps,
        area(steps),
        *equal_error(steps),
        points,
        *best_accuracy(steps),
        accuracies,
        (*notes, *notes_on(points.values(), "pairs of two classes", steps.impostors)),
    )


def _genuine(items: Items, classes: Tensor, sizes: Tensor, total: int, tile: Tile) -> Tensor:
    """The scores of all pairs of one class, class by class."""
    scores = items.norms.new_empty(total)
    order, done = classes.argsort(stable=True), 0
    for members in torch.split(order, sizes.tolist()):
        own = items.only(members)
        for rows, columns, block in tiles(own, own, tile, upper=True):
            found = block[_above_diagonal(rows, columns)]
            scores[done : done + len(found)] = found
            done += len(found)
    return scores


def _impostors(items: Items, classes: Tensor, tile: Tile) -> Iterator[Tensor]:
    """The scores of all pairs of two classes, each pair once."""
    for rows, columns, block in tiles(items, items, tile, upper=True):
        different = classes[rows, None] != classes[columns]
        if columns.start < rows.stop:
            different &= _above_diagonal(rows, columns)
        yield block[different]


def _above_diagonal(rows: slice, columns: slice) -> Bool[Tensor, "row column"]:
    return torch.arange(rows.start, rows.stop)[:, None] < torch.arange(columns.start, columns.stop)


def _fold_accuracies(scores: Tensor, same: Tensor, folds: Tensor) -> Float[Tensor, " fold"]:
    if folds.shape != scores.shape:
        shapes = f"  scores: {describe(scores)}\n  folds:  {describe(folds)}"
        raise BatchError(f"verify_pairs: folds must have one number per pair.\n{shapes}")
    numbers, places = torch.unique(folds.cpu(), return_inverse=True)
    if len(numbers) < 2:
        raise UsageError(
            "verify_pairs: a threshold is chosen on all folds but one, so there must be two or more, not one.\n"
            "Number the folds of the list, or leave `folds` out and use tar or auc."
        )
    found = []
    for fold in range(len(numbers)):
        inside = places == fold
        threshold = _best_threshold(scores[~inside], same[~inside])
        found.append(((scores[inside] >= threshold) == same[inside]).double().mean())
    return torch.stack(found)


def _best_threshold(scores: Tensor, same: Tensor) -> float:
    """The middle one of the thresholds that decide most pairs rightly, half-way between two scores."""
    values, places = torch.unique(scores, return_inverse=True)
    # a threshold below each value, and one above all; right decisions change by what crosses over
    change = torch.zeros(len(values), dtype=torch.int64).index_add_(0, places, torch.where(same, -1, 1))
    right = torch.cat([same.sum()[None], same.sum() + change.cumsum(0)])
    best = (right == right.max()).nonzero()[:, 0]
    middle = int(best[(len(best) - 1) // 2])
    edges = torch.cat([values.new_tensor([-math.inf]), (values[:-1] + values[1:]) / 2, values.new_tensor([math.inf])])
    return float(edges[middle])


def _rows_of(ids: Tensor, wanted: Tensor, by: str) -> Tensor:
    if by == "row":
        strange = wanted[(wanted < 0) | (wanted >= len(ids))]
        rows = wanted
    else:
        rows = places(wanted, ids)
        strange = wanted[rows < 0]
    if len(strange):
        shown = ", ".join(map(str, strange[:5].tolist()))
        raise BatchError(f"pair_scores: pairs name {len(strange)} items that are not there: {by} {shown}.")
    return rows


def _check_pairs(scores: Tensor, same: Tensor) -> None:
    shapes = f"  scores: {describe(scores)}\n  same:   {describe(same)}"
    if not isinstance(scores, Tensor) or not scores.is_floating_point() or scores.ndim != 1:
        raise BatchError(f"verify_pairs: scores must be a floating-point tensor with one entry per pair.\n{shapes}")
    if not isinstance(same, Tensor) or same.dtype != torch.bool or same.shape != scores.shape:
        raise BatchError(f"verify_pairs: same must be a boolean tensor with one entry per pair.\n{shapes}")
    check_finite("verify_pairs", "scores", scores)
    _check_kinds("verify_pairs", int(same.sum()), int((~same).sum()))


def _check_kinds(who: str, genuine: int, impostors: int) -> None:
    if not genuine or not impostors:
        raise BatchError(
            f"{who}: there must be pairs of one class and pairs of two, but there are {genuine} of one class and "
            f"{impostors} of two.\nGive pairs of both kinds: with one kind every threshold is right."
        )

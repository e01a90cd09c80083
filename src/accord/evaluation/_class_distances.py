"""Distances within classes and between their centres."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_range
from accord.errors import BatchError
from accord.evaluation._assignment import means
from accord.evaluation._directions import directions
from accord.geometry import euclidean, row_blocks

BUDGET_BYTES = 32 * 2**20


class ClassDistances(NamedTuple):
    """Mean distance within classes, mean distance between class centres, and the first over the second."""

    intra: float
    inter: float

    @property
    def ratio(self) -> float:
        """π_ratio: small where classes are tight and far apart; infinite where all centres are one point."""
        return self.intra / self.inter if self.inter > 0 else torch.inf


def alignment(
    embeddings: Float[Tensor, "item dim"],
    labels: Int[Tensor, " item"],
    *,
    alpha: float = 2.0,
    budget_bytes: int = BUDGET_BYTES,
) -> float:
    """Mean of ‖x − y‖^α over all pairs of different items of one class, on unit rows: lower is closer together.

    Wang & Isola, ICML 2020, §4.1.1, α = 2; their pairs are two views of one image, ours two items of one class, each
    pair with the same weight. From 0 to 2^α. Raises BatchError where every class has one item.

        alignment(embeddings, labels)
    """
    check_range("alignment", "alpha", alpha, low=0, open_low=True)
    found = alignment_of(directions("alignment", embeddings, labels), labels, alpha, budget_bytes)
    if found is None:
        raise BatchError("alignment: no class has two items, so there is no pair; give more items per class.")
    return found


def class_distances(
    embeddings: Float[Tensor, "item dim"], labels: Int[Tensor, " item"], *, budget_bytes: int = BUDGET_BYTES
) -> ClassDistances:
    """Euclidean distances of unit rows within classes and between class centres, and their ratio π_ratio.

    Roth et al., ICML 2020, §5: intra is the mean over classes (of two items or more) of the mean distance of two
    different items; inter the mean distance of two class centres, which are plain means of unit rows, not brought back
    to length one. Raises BatchError without two classes of which one has two items.

        class_distances(embeddings, labels).ratio
    """
    found = class_distances_of(directions("class_distances", embeddings, labels), labels, budget_bytes)
    if found is None:
        raise BatchError("class_distances: give at least two classes, and one of them with two items.")
    return found


def alignment_of(unit: Tensor, labels: Tensor, alpha: float, budget_bytes: int) -> float | None:
    """Alignment of rows that are checked already; None without a pair."""
    total, pairs = 0.0, 0
    for size, distances in _within(unit, labels, budget_bytes):
        total += sum(float((block**alpha).sum(dtype=torch.float64)) for block in distances)
        pairs += size * (size - 1)
    return total / pairs if pairs else None


def class_distances_of(unit: Tensor, labels: Tensor, budget_bytes: int) -> ClassDistances | None:
    """Class distances of rows that are checked already; None without a pair of classes or of items."""
    within = [
        sum(float(block.sum(dtype=torch.float64)) for block in distances) / (size * (size - 1))
        for size, distances in _within(unit, labels, budget_bytes)
    ]
    classes = torch.unique(labels, return_inverse=True)[1]
    centres, _ = means(unit, classes, int(classes.max()) + 1)
    if not within or len(centres) < 2:
        return None
    between = sum(float(block.sum(dtype=torch.float64)) for block in _to_each_other(centres, budget_bytes))
    return ClassDistances(sum(within) / len(within), between / (len(centres) * (len(centres) - 1)))


def _within(unit: Tensor, labels: Tensor, budget_bytes: int) -> Iterator[tuple[int, Iterator[Tensor]]]:
    """For each class of two items or more, its size and the distances of its items to each other, block by block."""
    order = labels.argsort(stable=True)
    sizes = torch.unique(labels, return_counts=True)[1].tolist()
    for rows in torch.split(order, sizes):
        if len(rows) > 1:
            yield len(rows), _to_each_other(unit[rows], budget_bytes)


def _to_each_other(x: Tensor, budget_bytes: int) -> Iterator[Tensor]:
    # a few matrices of the size of a block are alive at once
    for block in row_blocks(len(x), 4 * len(x), budget_bytes=budget_bytes, itemsize=x.element_size()):
        yield euclidean(x[block], x)

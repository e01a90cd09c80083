"""From numbers per query to numbers per class, and an interval that knows queries of a class are alike."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, describe
from accord.errors import BatchError
from accord.geometry import row_blocks
from accord.types import Evaluation


class PerClass(NamedTuple):
    """Metrics class by class: `labels`, how many `queries` each has, and the mean of each metric over them."""

    labels: Int[Tensor, " class"]
    queries: Int[Tensor, " class"]
    means: Mapping[str, Float[Tensor, " class"]]


def per_class(evaluation: Evaluation) -> PerClass:
    """Average every per-query metric over the queries of each class; classes without a query are absent."""
    labels, groups, counts = torch.unique(evaluation.query_labels, return_inverse=True, return_counts=True)
    means = {name: _sums(values, groups, len(labels)) / counts for name, values in evaluation.per_query.items()}
    return PerClass(labels, counts, means)


def class_bootstrap(
    per_query: Float[Tensor, " query"],
    query_labels: Int[Tensor, " query"],
    *,
    draws: int = 10_000,
    generator: torch.Generator,
) -> tuple[float, float]:
    """A 95 % interval for the mean of a metric: what other classes of the same kind would have given.

    Classes, not queries, are drawn again with replacement, each with all its queries; the interval lies between the
    2.5 and 97.5 percentiles of the means. Per-query values stay as they are: ranking again would let copies find
    each other. With fewer than about 20 classes the interval is too narrow. `generator` is a CPU one.
    """
    check_count("class_bootstrap", "draws", draws)
    if per_query.shape != query_labels.shape or not len(per_query):
        shapes = f"  per_query:    {describe(per_query)}\n  query_labels: {describe(query_labels)}"
        raise BatchError(f"class_bootstrap: give one label per query, and at least one query.\n{shapes}")
    groups, counts = torch.unique(query_labels.cpu(), return_inverse=True, return_counts=True)[1:]
    classes = len(counts)
    sums = _sums(per_query.cpu(), groups, classes)
    means = [
        sums[drawn].sum(dim=1) / counts[drawn].sum(dim=1)
        for part in row_blocks(draws, 3 * classes, itemsize=8)
        for drawn in [torch.randint(classes, (part.stop - part.start, classes), generator=generator)]
    ]
    low, high = torch.quantile(torch.cat(means), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def _sums(values: Tensor, groups: Tensor, classes: int) -> Tensor:
    return values.new_zeros(classes, dtype=torch.float64).index_add_(0, groups, values.double())

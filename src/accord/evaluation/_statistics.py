"""From numbers per query to numbers per class, and an interval that knows queries of a class are alike."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count
from accord.evaluation._class_sums import class_sums, drawn_means, interval
from accord.evaluation._student import student_quantile
from accord.types import Evaluation

FEW_CLASSES = 20


class PerClass(NamedTuple):
    """Metrics class by class: `labels`, how many `queries` each has, and the mean of each metric over them."""

    labels: Int[Tensor, " class"]
    queries: Int[Tensor, " class"]
    means: Mapping[str, Float[Tensor, " class"]]


def per_class(evaluation: Evaluation) -> PerClass:
    """Average every per-query metric over the queries of each class; classes without a query are absent."""
    labels, groups, counts = torch.unique(evaluation.query_labels, return_inverse=True, return_counts=True)
    means = {
        name: values.new_zeros(len(labels), dtype=torch.float64).index_add_(0, groups, values.double()) / counts
        for name, values in evaluation.per_query.items()
    }
    return PerClass(labels, counts, means)


def class_bootstrap(
    per_query: Float[Tensor, " query"],
    query_labels: Int[Tensor, " query"],
    *,
    draws: int = 10_000,
    generator: torch.Generator,
) -> tuple[float, float]:
    """A 95 % interval for the mean of a metric: what other classes of the same kind would have given.

    Classes, not queries, are drawn again with replacement, each with all its queries. Per-query values stay as they
    are: ranking again would let copies find each other. The interval is the expanded percentile one (Hesterberg 2015,
    section 4.2.1), which reaches further into the tails the fewer classes there are, so that it covers 95 % with ten
    of them too; below `FEW_CLASSES` = 20 give `class_t_interval` beside it. One class tells nothing: NaN. The same
    generator gives the same bits on any number of threads. `generator` is a CPU one.

        low, high = class_bootstrap(hits, labels, generator=torch.Generator().manual_seed(0))
    """
    check_count("class_bootstrap", "draws", draws)
    table = class_sums("class_bootstrap", per_query[None], query_labels)
    once = torch.ones(draws, 1, dtype=torch.float64)
    (means,) = drawn_means(table, [once], generator=generator)
    return interval(means, len(table.sizes))


def class_t_interval(per_query: Float[Tensor, " query"], query_labels: Int[Tensor, " query"]) -> tuple[float, float]:
    """The 95 % interval of the same mean by Student's t over classes; wide where classes are few. NaN for one class.

    The mean over queries is a ratio of class sums; its error is that of the residuals S - mean · n of the classes
    (the linearised ratio estimator: Cochran 1977, "Sampling techniques", eq. 2.39). With classes of one size this is
    the common t-interval of their means.
    """
    table = class_sums("class_t_interval", per_query[None], query_labels)
    classes = len(table.sizes)
    if classes < 2:
        return math.nan, math.nan
    sums, sizes = torch.ldexp(table.sums[0], torch.tensor(-table.bits)).tolist(), table.sizes.tolist()
    mean = math.fsum(sums) / math.fsum(sizes)
    squares = math.fsum((total - mean * size) ** 2 for total, size in zip(sums, sizes, strict=True))
    error = math.sqrt(squares * classes / (classes - 1)) / math.fsum(sizes)
    reach = student_quantile(classes - 1) * error
    return mean - reach, mean + reach

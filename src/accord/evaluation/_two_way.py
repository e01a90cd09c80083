"""How uncertain a mean over seeds and classes is, by analysis of variance: what drawing both anew counts too often."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from accord.evaluation._student import student_quantile


class Parts(NamedTuple):
    """Variances of a mean as told by its classes, by its seeds, and by what neither explains (each / seeds·classes).

    `drawn` is what drawing all anew makes of them, and `doubt` how uncertain the estimates are: the sum of the squares
    of classes and of seeds, the latter less the rest, by their degrees of freedom.
    """

    classes: float
    seeds: float
    rest: float
    drawn: float
    doubt: float


def parts_of(methods: Sequence[Float[Tensor, "_ class"]], sizes: Float[Tensor, " class"]) -> Parts:
    """Of Σ over `methods` of each one's mean over seeds; `methods` are class sums, signed, seeds not shared among them.

    With x the sum of a seed and class less its share of the mean (the linearised ratio), two-way analysis of variance
    gives for each method MS_seed and MS_rest; classes are common to all methods, so their part comes from the summed
    seed means.
    """
    n = sizes.tolist()
    total, count = math.fsum(n), len(n)
    scale = count / total
    means = [_column_means(method) for method in methods]
    together = [math.fsum(column) for column in zip(*means, strict=True)]
    by_class = _centred([value * scale for value in together], n, total)
    v_classes = _spread(by_class) / count
    v_seeds = v_rest = 0.0
    drawn, doubt = v_classes, v_classes**2 / (count - 1)
    for method, columns in zip(methods, means, strict=True):
        runs = len(method)
        if runs < 2:
            continue
        # less the seed mean of each class: what is left are seed effects and the rest
        deviations = [
            [scale * (value - mean) for value, mean in zip(row, columns, strict=True)] for row in method.tolist()
        ]
        effects = [math.fsum(row) / count for row in deviations]
        ms_seed = count * math.fsum(effect**2 for effect in effects) / (runs - 1)
        squares = math.fsum(
            (value - effect) ** 2 for row, effect in zip(deviations, effects, strict=True) for value in row
        )
        seeds, freedom = ms_seed / (runs * count), (runs - 1) * (count - 1)
        rest = squares / freedom / (runs * count)
        v_seeds, v_rest = v_seeds + seeds, v_rest + rest
        # runs drawn from so few are too alike by (runs - 1) / runs; for classes `expanded_tail` makes up for it
        drawn += (seeds + rest) * (runs - 1) / runs
        doubt += max(0.0, seeds - rest) ** 2 / (runs - 1)
    return Parts(v_classes, v_seeds, v_rest, drawn, doubt)


def correction(parts: Parts, classes: int) -> float:
    """What the deviations of a crossed bootstrap are to be multiplied by.

    Drawing seeds and classes anew has the variance classes + seeds + rest, where the mean's own is classes + seeds -
    rest: what neither explains is in all three (McCullagh 2000, "Resampling and exchangeable arrays", shows that no
    resampling of both gets it right). The mean's own estimate may be too small by chance, so neither part alone is
    undercut. A variance told by few seeds is itself uncertain: Student's t of its degrees of freedom (after
    Satterthwaite 1946, counting of the seeds only what exceeds the rest) stands in place of that of the classes alone,
    which `expanded_tail` has reached for.
    """
    own = max(parts.classes + parts.seeds - parts.rest, parts.classes, parts.seeds)
    if own <= 0 or parts.drawn <= 0:
        return 1.0
    freedom = min(max(1.0, own**2 / parts.doubt), classes - 1.0)
    return math.sqrt(own / parts.drawn) * _student(freedom) / student_quantile(classes - 1)


def _student(freedom: float) -> float:
    """Student's quantile between whole degrees of freedom, linear in their inverse."""
    below = math.floor(freedom)
    low, high = student_quantile(below), student_quantile(below + 1)
    share = (1 / below - 1 / freedom) * below * (below + 1)
    return low + share * (high - low)


def _column_means(method: Tensor) -> list[float]:
    return [math.fsum(column) / len(method) for column in method.T.tolist()]


def _centred(values: list[float], sizes: list[float], total: float) -> list[float]:
    """Less what each class would have at the common mean, in proportion to its queries."""
    whole = math.fsum(values)
    return [value - whole * size / total for value, size in zip(values, sizes, strict=True)]


def _spread(values: list[float]) -> float:
    return math.fsum(value**2 for value in values) / (len(values) - 1)

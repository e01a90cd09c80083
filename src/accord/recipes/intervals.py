"""The 95 % intervals over classes that stand beside the figures of one evaluation, and what is said about them."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.evaluation import FEW_CLASSES, class_bootstrap, class_t_interval

DRAWS = 2000
PerQuery = Mapping[str, Float[Tensor, " query"]]
Intervals = dict[str, tuple[float, float]]


def class_intervals(per_query: PerQuery, labels: Int[Tensor, " query"]) -> Intervals:
    """95 % intervals of the means of some metrics, by drawing classes anew.

    All queries of one class tell nothing of others: then there are none.
    """
    found = {}
    for name, values in per_query.items():
        generator = torch.Generator().manual_seed(0)
        found[name] = class_bootstrap(values, labels, draws=DRAWS, generator=generator)
    return _known(found)


def t_intervals(per_query: PerQuery, labels: Int[Tensor, " query"]) -> Intervals:
    """The same by Student's t over classes, where these are few; none where they are many, or just one."""
    if len(torch.unique(labels)) >= FEW_CLASSES:
        return {}
    return _known({name: class_t_interval(values, labels) for name, values in per_query.items()})


def few_classes(labels: Int[Tensor, " query"]) -> list[str]:
    """What a reader must know where few classes were asked for; nothing where they were many."""
    classes = len(torch.unique(labels))
    if classes == 1:
        return ["Only one class was asked for: there are no intervals, since one says nothing of others."]
    few = f"Only {classes} classes were asked for: the intervals are wide, and rest on few classes."
    return [few] if classes < FEW_CLASSES else []


def _known(bounds: Intervals) -> Intervals:
    return {name: pair for name, pair in bounds.items() if not math.isnan(pair[0])}

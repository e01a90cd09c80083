"""The 95 % intervals that stand beside the figures of one evaluation."""

import math
from collections.abc import Mapping

import torch

from accord.evaluation import FEW_CLASSES, class_bootstrap, class_t_interval
from accord.types import Evaluation

DRAWS = 2000


def intervals_of(evaluation: Evaluation) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]]:
    """95 % intervals of every metric by drawing classes anew; where classes are few also by Student's t over them.

    One class alone tells nothing of others: then there are none.
    """
    labels = evaluation.query_labels
    few = len(torch.unique(labels)) < FEW_CLASSES
    by_class = {}
    for name, values in evaluation.per_query.items():
        generator = torch.Generator().manual_seed(0)
        by_class[name] = class_bootstrap(values, labels, draws=DRAWS, generator=generator)
    by_t = {name: class_t_interval(values, labels) for name, values in evaluation.per_query.items()} if few else {}
    return _known(by_class), _known(by_t)


def _known(bounds: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {name: pair for name, pair in bounds.items() if not math.isnan(pair[0])}

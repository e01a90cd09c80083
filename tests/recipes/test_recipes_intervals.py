"""Intervals over classes: those of the engine, for the metrics asked for, with a word where classes are few."""

import pytest
import torch

from accord.evaluation import FEW_CLASSES, class_bootstrap, class_t_interval
from accord.recipes.intervals import DRAWS, class_intervals, few_classes, t_intervals


def _figures(classes: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    values = {name: torch.rand(4 * classes, generator=generator, dtype=torch.float64) for name in ("mrr", "map@r")}
    return values, torch.arange(4 * classes) % classes


def test_each_metric_has_the_interval_it_has_alone() -> None:
    values, labels = _figures(5)
    found = class_intervals(values, labels)
    for name in ("mrr", "map@r"):
        generator = torch.Generator().manual_seed(0)
        assert found[name] == class_bootstrap(values[name], labels, draws=DRAWS, generator=generator)
        assert class_intervals({name: values[name]}, labels) == {name: found[name]}


def test_students_t_stands_in_only_where_classes_are_few() -> None:
    values, labels = _figures(FEW_CLASSES - 1)
    assert t_intervals(values, labels) == {name: class_t_interval(values[name], labels) for name in values}
    assert t_intervals(*_figures(FEW_CLASSES)) == {}


def test_one_class_has_no_interval() -> None:
    values, labels = _figures(1)
    assert class_intervals(values, labels) == t_intervals(values, labels) == {}


@pytest.mark.parametrize(
    ("classes", "words"), [(1, "there are no intervals"), (2, "Only 2 classes"), (FEW_CLASSES - 1, "rest on few")]
)
def test_few_classes_are_told(classes: int, words: str) -> None:
    (note,) = few_classes(_figures(classes)[1])
    assert words in note


def test_many_classes_need_no_word() -> None:
    assert few_classes(_figures(FEW_CLASSES)[1]) == []

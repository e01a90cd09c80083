"""Promises of the parameter groups."""

import pytest
import torch
from torch import nn

from accord.errors import UsageError
from accord.training import Rates, parameter_groups

RATES = Rates(trunk=1.0, heads=2.0, proxies=3.0, weights=4.0)


class ScaleNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, 4, 1, 1))


class Gem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(3.0))


def model() -> nn.Module:
    made = nn.Module()
    made.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), ScaleNorm())
    made.pool = Gem()
    made.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))})
    return made


def objective() -> nn.Module:
    made = nn.Module()
    made.members = nn.ModuleDict({"nca": nn.Module(), "softmax": nn.Linear(4, 3)})
    made.members["nca"].proxies = nn.Parameter(torch.ones(3, 4))
    made.loss_weights = nn.Parameter(torch.ones(2))
    return made


def test_every_parameter_is_in_exactly_one_group() -> None:
    m, o = model(), objective()
    groups = parameter_groups(m, o, rates=RATES, weight_decay=0.5)
    assert {g["name"]: (len(g["params"]), g["lr"], g["initial_lr"], g["weight_decay"]) for g in groups} == {
        "trunk": (1, 1.0, 1.0, 0.5),
        "trunk_no_decay": (5, 1.0, 1.0, 0.0),
        "heads": (2, 2.0, 2.0, 0.5),
        "heads_no_decay": (4, 2.0, 2.0, 0.0),
        "proxies": (3, 3.0, 3.0, 0.0),
        "loss_weights": (1, 4.0, 4.0, 0.0),
    }
    found = [parameter for group in groups for parameter in group["params"]]
    assert len(found) == len(set(found)) == len([*m.parameters(), *o.parameters()])


def test_a_student_has_a_group_of_its_own() -> None:
    taught = nn.Module()
    taught.objective, taught.student = objective(), nn.Linear(4, 2)
    groups = {group["name"]: group for group in parameter_groups(model(), taught, rates=Rates(student=5.0))}
    assert [*groups["student"]["params"]] == [*taught.student.parameters()]
    assert (groups["student"]["lr"], groups["student"]["weight_decay"]) == (5.0, 0.0)
    assert groups["loss_weights"]["params"] == [taught.objective.loss_weights]
    assert len(groups["proxies"]["params"]) == 3


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    m = model()
    m.backbone.requires_grad_(False)
    m.pool.requires_grad_(False)
    groups = parameter_groups(m, lambda e, y: e.sum(), rates=RATES)
    assert [group["name"] for group in groups] == ["heads", "heads_no_decay"]


def test_a_forgotten_parameter_is_named() -> None:
    m = model()
    m.backbones = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"backbones\.weight, backbones\.bias belong to no group"):
        parameter_groups(m, objective(), rates=RATES)


def test_a_parameter_in_two_groups_is_named() -> None:
    m, o = model(), objective()
    o.members["softmax"].weight = m.heads["b"][0].weight
    with pytest.raises(UsageError, match=r"model\.heads\.b\.0\.weight and objective\.members\.softmax\.weight are one"):
        parameter_groups(m, o, rates=RATES)


def test_a_parameter_shared_inside_one_group_is_there_once() -> None:
    m = model()
    m.heads["c"] = nn.Linear(4, 2)
    m.heads["c"].weight = m.heads["a"].weight
    groups = {group["name"]: group["params"] for group in parameter_groups(m, objective(), rates=RATES)}
    assert len(groups["heads"]) == 2


def test_nothing_to_learn_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing learns"):
        parameter_groups(model().requires_grad_(False), lambda e, y: e.sum(), rates=RATES)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_refuses_rates_and_decay_that_are_none(value: float) -> None:
    for name in ("trunk", "heads", "proxies", "weights"):
        with pytest.raises(UsageError, match=name):
            Rates(**{name: value})
    with pytest.raises(UsageError, match="weight_decay"):
        parameter_groups(model(), objective(), rates=RATES, weight_decay=value)

"""What each head of a joined embedding contributes: alone, missing, and beside each other one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from accord.checks import check_batch, check_range
from accord.ensembles import cka
from accord.errors import UsageError
from accord.evaluation._evaluate import evaluate
from accord.geometry import normalise
from accord.types import Embeddings, Evaluation, Labelled, Labels

WHO = "head_contributions"
CONTRIBUTED = ("recall@1", "map@r")


class Agreement(NamedTuple):
    """How alike two heads are, in [0, 1] each.

    `cka` is 1 for heads that are rotations of each other; `same_neighbour` is the share of the queries whose nearest
    item is the same in both; `one_right` the share in which that of exactly one of them is of the query's class.
    """

    first: str
    second: str
    cka: float
    same_neighbour: float
    one_right: float


@dataclass(frozen=True)
class HeadContributions:
    """What is known of each head, by name: its share, itself alone, the embedding without it, and each two compared.

    `whole` judges all heads joined. The evaluations hold recall@1 and map@r of the same queries in the same order, so
    that they may be compared query by query.
    """

    shares: Mapping[str, float]
    whole: Evaluation
    alone: Mapping[str, Evaluation]
    without: Mapping[str, Evaluation]
    agreement: tuple[Agreement, ...]


def head_contributions(
    heads: Mapping[str, Embeddings], labels: Labels, *, shares: Mapping[str, float] | None = None
) -> HeadContributions:
    """Judge a joined embedding head by head: each alone, all without it, and how far each two agree.

    `heads` are (item, dim) by name, of the same items, and may differ in width; `shares` say how much each counts, > 0
    and equal by default, and are brought to the sum 1. Heads are joined as at test time: unit vectors, each times the
    root of its share, so that scores are the weighted mean of the heads' cosines; without a head the shares of the
    others keep their ratios. Each item asks all the others by the rules of `evaluate`; items alone in their class do
    not ask. An item that a head maps to zero finds nothing by that head.

    `cka` is linear CKA of the unit vectors (Kornblith et al., ICML 2019), 1 for a head that is the rotation of another.
    It is of all items and rises with width: heads with nothing in common reach about dim / (dim + items).

    What a head is worth is what is lost without it, not what it scores alone; where two agree on everything, neither
    is missed. For m heads it takes 2m + 1 evaluations, each about items² × dim. Hand over classes that the heads have
    not learned from.

    Raises UsageError for fewer than two heads and for shares that do not fit, BatchError where heads are not of the
    same items, or no class has two, NumericError, naming the head, for what is not finite.

        found = head_contributions({"pairs": first, "proxies": second}, labels)
        found.whole.metrics["map@r"] - found.without["pairs"].metrics["map@r"]
    """
    given = _checked(heads, labels, shares)
    units = {name: normalise(head) for name, head in heads.items()}
    alone = {name: _judged(unit, labels) for name, unit in units.items()}
    return HeadContributions(
        shares=given,
        whole=_judged(_joined(units, given), labels),
        alone=alone,
        without={name: _judged(_joined(_except(units, name), given), labels) for name in units},
        agreement=tuple(_agreement(one, other, units, alone) for one, other in combinations(units, 2)),
    )


def _checked(heads: Mapping[str, Embeddings], labels: Labels, shares: Mapping[str, float] | None) -> dict[str, float]:
    """The shares with sum 1."""
    if len(heads) < 2:
        raise UsageError(f"{WHO}: give at least two heads, not {len(heads)}; one alone is the whole embedding.")
    for name, head in heads.items():
        check_batch(f"{WHO}, head '{name}'", head, labels)
    shares = dict.fromkeys(heads, 1.0) if shares is None else shares
    if set(shares) != set(heads):
        raise UsageError(f"{WHO}: shares name {sorted(shares)}, but the heads are {sorted(heads)}.")
    for name, share in shares.items():
        check_range(WHO, f"the share of '{name}'", share, low=0, open_low=True)
    total = math.fsum(shares.values())
    return {name: float(shares[name]) / total for name in heads}


def _except(units: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {other: unit for other, unit in units.items() if other != name}


def _joined(units: Mapping[str, Tensor], shares: Mapping[str, float]) -> Tensor:
    """Side by side, each times the root of its share; cosines do not mind the length."""
    return torch.cat([unit * shares[name] ** 0.5 for name, unit in units.items()], dim=1)


def _judged(embeddings: Embeddings, labels: Labels) -> Evaluation:
    items = Labelled(embeddings, labels, torch.arange(len(labels), device=labels.device))
    # a head that is zero for an item must cost that item's queries, and not the whole report
    return evaluate(items, metrics=CONTRIBUTED, clusters=False, neighbours=1, allow_nonfinite=True)


def _agreement(one: str, other: str, units: Mapping[str, Tensor], alone: Mapping[str, Evaluation]) -> Agreement:
    first, second = alone[one].neighbours, alone[other].neighbours
    assert first is not None, "they were asked for"
    assert second is not None, "they were asked for"
    same = (first.ids == second.ids) & (first.ids >= 0)
    right, too = (alone[name].per_query["recall@1"] for name in (one, other))
    return Agreement(
        one,
        other,
        cka=float(cka({one: units[one], other: units[other]})),
        same_neighbour=float(same.double().mean()),
        one_right=float((right != too).double().mean()),
    )

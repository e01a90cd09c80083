"""Losses on anchors and positives, row by row: checked, swept both ways, and made from a labelled batch."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError
from accord.geometry import full
from accord.losses._engine import run
from accord.losses._plan import Member, no_autocast
from accord.losses._rule import Rule
from accord.losses._settings import settings
from accord.losses._shared import mean, mean_where
from accord.mining import Groups
from accord.types import Embeddings, Labels, Scalar

Side = Float[Tensor, "pair dim"]


class PairedRule(Rule, Protocol):
    """A rule whose rows have one positive each; `costs` may be handed which columns take part."""

    @property
    def penalty(self) -> float: ...
    @property
    def symmetric(self) -> bool: ...


def both_sides(rule: PairedRule, anchors: Side, positives: Side) -> Scalar:
    """The rule's mean over the anchors, with its penalty on lengths."""
    if anchors.shape != positives.shape or anchors.device != positives.device:
        raise BatchError(
            f"{rule.name}: anchors and positives must match row by row.\n"
            f"  anchors:   {describe(anchors)}\n  positives: {describe(positives)}"
        )
    check_finite(rule.name, "anchors", anchors)
    check_finite(rule.name, "positives", positives)
    dtype = torch.promote_types(anchors.dtype, positives.dtype)
    return _mean(rule, anchors.to(dtype), positives.to(dtype))


def two_of_each(rule: PairedRule, embeddings: Embeddings, labels: Labels) -> Scalar:
    """The same for a labelled batch: the first row of a class is the anchor, the second its positive."""
    check_batch(rule.name, embeddings, labels)
    if not len(embeddings):
        return full(embeddings).sum()
    order = labels.argsort(stable=True)
    first = _first_of_two(labels[order])
    if not counted(labels):
        return _masked_mean(rule, embeddings, order, first)
    # tolist, and not item: the count is in main memory, and nothing waits
    (count,) = first.sum().reshape(1).tolist()
    if not count:
        raise BatchError(
            f"{rule.name}: a batch needs a class with two rows, but all its labels differ.\n"
            f"  labels: {describe(labels)}\nDraw at least 2 items per class."
        )
    places = first.to(torch.uint8).argsort(descending=True, stable=True)[:count]
    return _mean(rule, embeddings[order[places]], embeddings[order[places + 1]])


def counted(labels: Tensor) -> bool:
    """Whether the number of pairs may be asked for: not where that would wait, nor while a graph is compiled."""
    return labels.device.type == "cpu" and not torch.compiler.is_compiling()


def _first_of_two(ascending: Tensor) -> Tensor:
    """Which of these sorted labels are the first of their class and have a second."""
    same = ascending[1:] == ascending[:-1]
    edge = same.new_zeros(1)
    return torch.cat([same, edge]) & ~torch.cat([edge, same])


def _mean(rule: PairedRule, anchors: Tensor, positives: Tensor) -> Scalar:
    loss = _small(rule, anchors, positives)
    if loss is None:
        # views, so that in a second derivative neither side descends from the other
        anchors, positives = anchors.view_as(anchors), positives.view_as(positives)
        places = torch.arange(len(anchors), device=anchors.device)
        groups = Groups(places, places, dense_up_to=settings().dense_up_to)
        loss = run([Member(rule)], anchors, groups, positives)
        if rule.symmetric:
            loss = (loss + run([Member(rule)], positives, groups, anchors)) / 2
    return loss + rule.penalty * mean(_squares(anchors, positives)) if rule.penalty else loss


def _small(rule: PairedRule, anchors: Tensor, positives: Tensor) -> Scalar | None:
    """So few pairs are quicker without the row engine: one table of scores, which autograd follows."""
    in_one = getattr(rule, "of_scores", None)
    if in_one is None or settings().plain or not 0 < len(anchors) ** 2 <= settings().dense_up_to:
        return None
    with no_autocast(anchors.device.type):
        scores = full(anchors) @ full(positives).T
        loss: Scalar = in_one(scores)
        return (loss + in_one(scores.T)) / 2 if rule.symmetric else loss


def _masked_mean(rule: PairedRule, embeddings: Tensor, order: Tensor, first: Tensor) -> Scalar:
    """In fixed shapes, so that nothing waits for the device: rows that are no anchor stay, without a positive."""
    anchors, positives = embeddings[order], embeddings[order.roll(-1)]
    places = torch.arange(len(order), device=order.device)
    # a row that is no anchor has a label of its own, which no column has
    groups = Groups(torch.where(first, places, -1), places, dense_up_to=settings().dense_up_to)
    loss = run([Member(rule, (first,))], anchors, groups, positives)
    if rule.symmetric:
        loss = (loss + run([Member(rule, (first,))], positives, groups, anchors)) / 2
    return loss + rule.penalty * mean_where(_squares(anchors, positives), first) if rule.penalty else loss


def _squares(anchors: Tensor, positives: Tensor) -> Tensor:
    return (full(anchors).square() + full(positives).square()).sum(dim=1)

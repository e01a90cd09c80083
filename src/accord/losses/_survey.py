"""Losses that must see every row before they can say what one costs: two passes of the row engine."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import check_batch
from accord.geometry import full
from accord.losses._engine import check_keys, plain_block
from accord.losses._plan import Member, Plan, no_autocast, nothing_from
from accord.losses._rule import Pull, SurveyRule, Tally
from accord.losses._settings import dense_up_to, settings
from accord.losses._vectors import tiny_length
from accord.losses._work import Work, autograd_pull
from accord.mining import Block, Groups, Own
from accord.types import Embeddings, Labels, Scalar


def survey(
    rule: SurveyRule,
    embeddings: Embeddings,
    labels: Labels,
    *,
    keys: Tensor | None = None,
    key_labels: Int[Tensor, " key"] | None = None,
    learned: Sequence[Tensor] = (),
    per_row: Sequence[Tensor] = (),
) -> Scalar:
    """The loss of a rule with statistics; otherwise as `sweep`. Products are computed twice, never kept."""
    check_batch(rule.name, embeddings, labels)
    check_keys(rule.name, embeddings, keys, key_labels)
    tensors = [*learned, *per_row]
    if not len(embeddings) or (keys is not None and not len(keys)):
        return nothing_from([embeddings, *tensors] if keys is None else [embeddings, keys, *tensors])
    groups = Groups(labels, key_labels, triangle=getattr(rule, "mutual", False), dense_up_to=dense_up_to(rule))
    tiny = tiny_length(embeddings), tiny_length(embeddings if keys is None else keys)
    plan = Plan((Member(_Reading(rule, 0), tuple(learned), tuple(per_row)),), groups, *tiny)
    rows, columns = full(embeddings), None if keys is None else full(keys)
    with no_autocast(rows.device.type):
        if settings().plain or torch.compiler.is_compiling():
            return _plainly(rule, plan, rows, columns, tensors)
        value: Scalar = _Survey.apply(rule, plan, rows, columns, *tensors)  # type: ignore[no-untyped-call]
        return value


def _plainly(rule: SurveyRule, plan: Plan, rows: Tensor, keys: Tensor | None, tensors: Sequence[Tensor]) -> Tensor:
    whole = slice(None)
    block = plain_block(plan, rows, keys)
    return rule.finish(rule.read(block, *plan.share(tensors, 0, whole)[1]), _pairs(rule, plan))


def _pairs(rule: SurveyRule, plan: Plan) -> Own | None:
    """Which columns all rows' positives are, for a rule that asks."""
    return plan.groups.own(slice(None)) if getattr(rule, "pairs", False) else None


class _Survey(torch.autograd.Function):
    """Both passes as one step of autograd; the gradient is made with the value and given away once."""

    @staticmethod
    def forward(ctx: Any, rule: SurveyRule, plan: Plan, rows: Tensor, keys: Tensor | None, *learned: Tensor) -> Tensor:
        ctx.rule, ctx.plan, ctx.needs = rule, plan, tuple(ctx.needs_input_grad[2:])
        ctx.save_for_backward(rows, keys, *learned)
        value, ctx.ready = _both(rule, plan, rows, keys, learned, ctx.needs)
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        rows, keys, *learned = ctx.saved_tensors
        with no_autocast(rows.device.type):
            if torch.is_grad_enabled():
                # a learned tensor may itself come from the rows: views keep that way out of this step
                inputs = [None if tensor is None else tensor.view_as(tensor) for tensor in (rows, keys, *learned)]
                wanted = [tensor for tensor, need in zip(inputs, ctx.needs, strict=True) if tensor is not None and need]
                first, second, *others = inputs
                assert first is not None
                value = _plainly(ctx.rule, ctx.plan, first, second, [part for part in others if part is not None])
                options = {"create_graph": True, "materialize_grads": True}
                found = iter(torch.autograd.grad(value, wanted, outer[0], **options))
                return (None, None, *(next(found) if need else None for need in ctx.needs))
            ready, ctx.ready = ctx.ready, None
            if ready is None:
                ready = _both(ctx.rule, ctx.plan, rows, keys, learned, ctx.needs)[1]
            return (None, None, *(None if part is None else part.mul_(outer[0]) for part in ready))


def _both(
    rule: SurveyRule, plan: Plan, rows: Tensor, keys: Tensor | None, learned: Sequence[Tensor], needs: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The value, and the gradients that are needed."""
    reading = _Reading(rule, len(rows))
    first = Work(_with(plan, reading), rows, keys, learned, (False,) * len(needs))
    first.go([1.0])
    assert reading.found is not None
    own = _pairs(rule, plan)
    with torch.enable_grad():
        statistics = reading.found.requires_grad_()
        value = rule.finish(statistics, own)
    if not any(needs):
        return value.detach(), []
    by_statistics: Tensor = torch.zeros_like(statistics)
    if value.requires_grad:
        (by_statistics,) = torch.autograd.grad(value, statistics, materialize_grads=True)
    second = Work(_with(plan, _Unreading(rule, by_statistics)), rows, keys, learned, needs)
    second.go([1.0])
    return value.detach(), second.gradients()


def _with(plan: Plan, rule: "_Reading | _Unreading") -> Plan:
    member = plan.members[0]._replace(rule=rule)
    return Plan((member,), plan.groups, plan.row_tiny, plan.key_tiny)


class _Reading:
    """A rule for the engine that costs nothing and remembers what the survey's rule reads."""

    def __init__(self, rule: SurveyRule, rows: int) -> None:
        self.rule, self.name, self.measure, self.unit = rule, rule.name, rule.measure, rule.unit
        self.tables, self.slotted = getattr(rule, "tables", 0), getattr(rule, "slotted", False)
        self.rows = rows
        self.found: Tensor | None = None

    def costs(self, block: Block, *learned: Tensor) -> Tally:
        """Nothing, but remember."""
        found = self.rule.read(block, *learned)
        if self.found is None:  # one tensor for all rows: many small ones would pin the blocks between them
            self.found = found.new_empty(self.rows, found.shape[1])
        self.found[block.rows] = found
        return Tally(torch.zeros_like(found[:, 0]), None)


class _Unreading:
    """A rule for the engine whose derivatives are those of the statistics, each weighted by the loss's own."""

    def __init__(self, rule: SurveyRule, by_statistics: Tensor) -> None:
        self.rule, self.name, self.measure, self.unit = rule, rule.name, rule.measure, rule.unit
        self.tables, self.slotted = getattr(rule, "tables", 0), getattr(rule, "slotted", False)
        self.by_statistics = by_statistics

    def costs(self, block: Block, *learned: Tensor) -> Tally:
        """The weighted statistics, which autograd may follow."""
        return Tally((self.rule.read(block, *learned) * self.by_statistics[block.rows]).sum(dim=1), None)

    def pull(self, block: Block, *learned: Tensor) -> Pull:
        """By hand where the rule can, else by autograd."""
        by_hand = getattr(self.rule, "unread", None)
        if by_hand is not None:
            positives, negatives = by_hand(block, self.by_statistics[block.rows], *learned)
            return Pull(Tally(torch.zeros_like(positives[:, 0]), None), positives, negatives)
        return autograd_pull(self, block, learned)

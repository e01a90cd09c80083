"""The row engine: any loss that is a sum over rows, in blocks that stay in cache; its gradient is ready with its value.

A block of rows is multiplied with all columns, the rule turns it into costs and their derivatives, and those are folded
into the gradient at once; nothing of size rows × columns is kept. Several rules on the same vectors share the products.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError
from accord.geometry import full
from accord.losses._measured import Sides, as_block, measured
from accord.losses._plan import Member, Plan, no_autocast, nothing_from
from accord.losses._rule import Rule
from accord.losses._settings import dense_up_to, settings
from accord.losses._vectors import tiny_length
from accord.losses._work import Work
from accord.mining import Block, Groups, Measure, NamedGroups, TableGroups
from accord.types import Embeddings, Labels, Scalar


def sweep(
    rule: Rule,
    embeddings: Embeddings,
    labels: Labels,
    *,
    keys: Tensor | None = None,
    key_labels: Int[Tensor, " key"] | None = None,
    itself: bool | None = None,
    learned: Sequence[Tensor] = (),
    per_row: Sequence[Tensor] = (),
) -> Scalar:
    """The loss of a rule over the rows of `embeddings`, each against the other rows or against all of `keys`.

    `keys` are other items or a table of classes; row r's positives are the keys with its label, with `itself=True` but
    key r, which is the row itself. A rule with `beside(embeddings, labels)` brings such keys and their labels along: a
    memory; one with `named` says itself who belongs with whom. Everything is checked here, once. An empty batch costs
    zero and carries a gradient.
    """
    check_batch(rule.name, embeddings, labels)
    beside, live = getattr(rule, "beside", None), None
    if beside is not None and keys is None:
        (keys, key_labels), itself, live = beside(embeddings, labels), True, len(embeddings)
    check_keys(rule.name, embeddings, keys, key_labels)
    member = Member(rule, tuple(learned), tuple(per_row))
    return run([member], embeddings, who_belongs(rule, labels, key_labels, itself), keys, live=live)


def who_belongs(
    rule: Rule, labels: Labels, key_labels: Tensor | None = None, itself: bool | None = None
) -> Groups | NamedGroups:
    """Who belongs with whom, by the labels; or where the rule says that somebody `named` it, by that."""
    named = getattr(rule, "named", None)
    if isinstance(named, NamedGroups):
        return named
    return Groups(
        labels, key_labels, itself=itself, triangle=getattr(rule, "mutual", False), dense_up_to=dense_up_to(rule)
    )


def sweep_all(members: Sequence[Member], embeddings: Embeddings, labels: Labels) -> Float[Tensor, " member"]:
    """The losses of several rules on the same embeddings, which must agree on `unit`; products are computed once."""
    return run(members, embeddings, shared_groups(members, embeddings, labels), None)


def shared_groups(members: Sequence[Member], embeddings: Embeddings, labels: Labels) -> Groups:
    """Who belongs with whom, in a way that serves all members; the batch is checked first."""
    check_batch(" and ".join(member.rule.name for member in members), embeddings, labels)
    mutual = all(getattr(member.rule, "mutual", False) for member in members)
    least = min(dense_up_to(member.rule) for member in members)
    return Groups(labels, triangle=mutual, dense_up_to=least)


def run(
    members: Sequence[Member],
    rows: Tensor,
    groups: Groups | TableGroups | NamedGroups,
    keys: Tensor | None,
    *,
    live: int | None = None,
) -> Tensor:
    """The loss of one member, or one per member; by blocks or by plain autograd.

    `live` says that only so many leading columns learn: those of a memory do not, and cost no product.
    """
    if not len(rows) or (keys is not None and not len(keys)):
        learned = [tensor for member in members for tensor in (*member.learned, *member.per_row)]
        nothing = nothing_from([rows, *learned] if keys is None else [rows, keys, *learned])
        return nothing if len(members) == 1 else torch.stack([nothing] * len(members))
    plan = Plan(tuple(members), groups, tiny_length(rows), tiny_length(rows if keys is None else keys), live)
    learned = plan.tensors
    rows, keys = full(rows), None if keys is None else full(keys)
    with no_autocast(rows.device.type):
        if settings().plain or torch.compiler.is_compiling():
            return plain(plan, rows, keys, learned)
        values: Tensor = _Blocks.apply(plan, rows, keys, *learned)  # type: ignore[no-untyped-call]
        return values


def plain(plan: Plan, rows: Tensor, keys: Tensor | None, learned: Sequence[Tensor]) -> Tensor:
    """All rows as one block that autograd follows."""
    values = []
    for place, member in enumerate(plan.members):
        block = plain_block(plan, rows, keys, member.rule.measure)
        costs, counts = member.rule.costs(block, *plan.share(learned, place, slice(None))[1])
        values.append(costs.sum() if counts is None else costs.sum() / counts.sum().clamp_min(1))
    return values[0] if len(values) == 1 else torch.stack(values)


def plain_block(plan: Plan, rows: Tensor, keys: Tensor | None, measure: Measure | None = None) -> Block:
    """All rows as one block that autograd follows."""
    measure = measure or plan.measures[0]
    rows, keys = plan.centred(rows, keys)
    q = _normalised(rows, plan.row_tiny) if plan.unit else rows
    k = q if keys is None else _normalised(keys, plan.key_tiny) if plan.unit else keys
    sides = Sides(None, None) if measure == "score" else Sides(q.square().sum(dim=1), k.square().sum(dim=1))
    values = measured(q @ k.T, measure, sides, unit=plan.unit)
    whole = slice(None)
    return as_block(values, plan.groups.own(whole), plan.groups, whole, measure, unit=plan.unit, fresh=False)


class _Blocks(torch.autograd.Function):
    """The engine as one step of autograd: for one rule the gradient is made with the value, for several on demand."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, rows: Tensor, keys: Tensor | None, *learned: Tensor) -> Tensor:
        needs = tuple(ctx.needs_input_grad[1:])
        ctx.plan, ctx.needs = plan, needs
        ctx.save_for_backward(rows, keys, *learned)
        one = len(plan.members) == 1
        work = Work(plan, rows, keys, learned, needs if one else (False,) * len(needs))
        work.go([1.0] * len(plan.members))
        values, ctx.divisors = work.values()
        ctx.ready = work.gradients() if one and any(needs) else None
        return values

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        rows, keys, *learned = ctx.saved_tensors
        with no_autocast(rows.device.type):
            if torch.is_grad_enabled():
                return (None, *_again(ctx, rows, keys, learned, outer[0]))
            # given away once: a table's gradient is as large as the table, so no second copy is kept
            ready, ctx.ready = ctx.ready, None
            factors = outer[0] / ctx.divisors
            if len(ctx.plan.members) == 1:
                if ready is None:
                    work = Work(ctx.plan, rows, keys, learned, ctx.needs)
                    work.go([1.0])
                    ready = work.gradients()
                return (None, *(None if part is None else part.mul_(factors) for part in ready))
            work = Work(ctx.plan, rows, keys, learned, ctx.needs)
            work.go(factors.unbind())
            return (None, *work.gradients())


def _again(ctx: Any, rows: Tensor, keys: Tensor | None, learned: list[Tensor], outer: Tensor) -> list[Tensor | None]:
    """The gradient once more, by plain autograd, so that it has a gradient itself."""
    # a learned tensor may itself come from the rows: views keep that way out of this step
    inputs = [None if tensor is None else tensor.view_as(tensor) for tensor in (rows, keys, *learned)]
    wanted = [tensor for tensor, need in zip(inputs, ctx.needs, strict=True) if tensor is not None and need]
    first, second, *others = inputs
    assert first is not None
    values = plain(ctx.plan, first, second, [tensor for tensor in others if tensor is not None])
    found = iter(torch.autograd.grad(values, wanted, outer, create_graph=True, materialize_grads=True))
    return [next(found) if need else None for need in ctx.needs]


def check_keys(who: str, embeddings: Tensor, keys: Tensor | None, key_labels: Tensor | None) -> None:
    """Refuse columns that do not fit the rows."""
    if keys is None:
        return
    if keys.ndim != 2 or keys.shape[1] != embeddings.shape[1] or keys.device != embeddings.device:
        raise BatchError(
            f"{who}: what embeddings are compared with must have their width and be on their device.\n"
            f"  embeddings: {describe(embeddings)}\n  compared with: {describe(keys)}"
        )
    assert key_labels is not None
    check_finite(who, "what embeddings are compared with", keys)


def _normalised(x: Tensor, tiny: float) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(tiny)
    return x / length

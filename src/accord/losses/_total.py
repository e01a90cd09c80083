"""Several losses as a sum whose weights are known beforehand: one sweep gives value and gradient."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord.geometry import full
from accord.losses._engine import plain, run, shared_groups
from accord.losses._plan import Member, Plan, no_autocast
from accord.losses._settings import settings
from accord.losses._vectors import tiny_length
from accord.losses._work import Work
from accord.mining import FAR, Block
from accord.types import Embeddings, Labels, Scalar


def sweep_total(
    members: Sequence[Member], weights: Tensor, embeddings: Embeddings, labels: Labels
) -> tuple[Scalar, Tensor]:
    """Σ weight · loss over the members, and each loss, detached; members must agree on `unit`.

    In main memory the derivatives of all losses are added up block by block, as soon as they are there. That needs to
    be known beforehand by what each loss will be divided; where labels alone do not decide that, and on other devices,
    where it can't be looked up, the sweep is made once more for the gradient.
    """
    groups = shared_groups(members, embeddings, labels)
    if not (groups.listed and embeddings.requires_grad) or settings().plain or torch.compiler.is_compiling():
        values = run(members, embeddings, groups, None)
        return (weights.to(values.dtype) * values).sum(), values.detach()
    plan = Plan(tuple(members), groups, tiny_length(embeddings), tiny_length(embeddings))
    with no_autocast(embeddings.device.type):
        found: tuple[Tensor, Tensor] = _Total.apply(plan, weights, full(embeddings), *plan.tensors)  # type: ignore[no-untyped-call]
        return found


class _Total(torch.autograd.Function):
    """The weighted sum as one step of autograd; the losses themselves beside it, without a gradient."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, weights: Tensor, rows: Tensor, *learned: Tensor) -> tuple[Tensor, Tensor]:
        ctx.plan, ctx.needs = plan, (ctx.needs_input_grad[2], False, *ctx.needs_input_grad[3:])
        ctx.save_for_backward(weights, rows, *learned)
        weights, expected = weights.to(rows.dtype), _divisors(plan, rows)
        work = Work(plan, rows, None, learned, ctx.needs)
        work.go((weights / expected).tolist())
        values, ctx.divisors = work.values()
        agreed: list[bool] = (ctx.divisors == expected).all().reshape(1).tolist()
        ctx.ready = work.gradients() if agreed[0] else None
        ctx.mark_non_differentiable(values)
        return (weights * values).sum(), values

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        weights, rows, *learned = ctx.saved_tensors
        weights = weights.to(rows.dtype)
        with no_autocast(rows.device.type):
            if torch.is_grad_enabled():
                inputs = [tensor.view_as(tensor) for tensor in (rows, *learned)]
                total = (weights * plain(ctx.plan, inputs[0], None, inputs[1:])).sum()
                options = {"create_graph": True, "materialize_grads": True, "allow_unused": True}
                return (None, None, *torch.autograd.grad(total, inputs, outer[0], **options))
            ready, ctx.ready = ctx.ready, None
            if ready is None:
                work = Work(ctx.plan, rows, None, learned, ctx.needs)
                work.go((weights / ctx.divisors).tolist())
                ready = work.gradients()
            scaled = [None if part is None else part.mul_(outer[0]) for part in ready]
            return (None, None, scaled[0], *scaled[2:])


def _divisors(plan: Plan, like: Tensor) -> Tensor:
    """By what each member's sum will be divided, as far as labels decide: counted on blocks without any values."""
    own = plan.groups.own(slice(None))
    count = own.negative_count.to(like.dtype)
    nothing = like.new_zeros(()).expand(own.kept.shape)
    found = []
    for member in plan.members:
        rule = member.rule
        negatives = torch.where(count > 0, 0.0, FAR[rule.measure])[:, None].to(like.dtype)
        block = Block(rule.measure, plan.unit, slice(None), nothing, own.kept, negatives, count, plan.groups)
        counts = rule.costs(block).counts
        found.append(like.new_ones(()) if counts is None else counts.sum().to(like.dtype).clamp_min(1))
    return torch.stack(found)

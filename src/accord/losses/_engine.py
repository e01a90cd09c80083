"""The row engine: any loss that is a sum over rows, in blocks that stay in cache; its gradient is ready with its value.

A block of rows is multiplied with all columns, the rule turns it into costs and their derivatives, and those are folded
into the gradient at once; nothing of size rows × columns is kept. Several rules on the same vectors share the products.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError
from accord.geometry import full, row_blocks
from accord.losses._measured import FACTOR, Sides, as_block, measured, through_, together_
from accord.losses._products import fold_, times
from accord.losses._rule import Pull, Rule, Tally
from accord.losses._settings import settings
from accord.losses._vectors import Vectors, tiny_length
from accord.mining import Block, Groups, Measure, TableGroups
from accord.types import Embeddings, Labels, Scalar

FEW_ROWS = 64  # a block has at least so many rows …
MOST_BLOCKS = 32  # … unless that makes it so many times larger than it should be


class Member(NamedTuple):
    """A rule with the tensors it learns: `learned` are handed over whole, of `per_row` the rows of the block."""

    rule: Rule
    learned: tuple[Tensor, ...] = ()
    per_row: tuple[Tensor, ...] = ()


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
    memory. Everything is checked here, once. An empty batch costs zero and carries a gradient.
    """
    check_batch(rule.name, embeddings, labels)
    beside = getattr(rule, "beside", None)
    if beside is not None and keys is None:
        (keys, key_labels), itself = beside(embeddings, labels), True
    check_keys(rule.name, embeddings, keys, key_labels)
    member = Member(rule, tuple(learned), tuple(per_row))
    groups = Groups(
        labels, key_labels, itself=itself, triangle=getattr(rule, "mutual", False), dense_up_to=settings().dense_up_to
    )
    return run([member], embeddings, groups, keys)


def sweep_all(members: Sequence[Member], embeddings: Embeddings, labels: Labels) -> Float[Tensor, " member"]:
    """The losses of several rules on the same embeddings, which must agree on `unit`; products are computed once."""
    check_batch(" and ".join(member.rule.name for member in members), embeddings, labels)
    mutual = all(getattr(member.rule, "mutual", False) for member in members)
    return run(members, embeddings, Groups(labels, triangle=mutual, dense_up_to=settings().dense_up_to), None)


def run(members: Sequence[Member], rows: Tensor, groups: Groups | TableGroups, keys: Tensor | None) -> Tensor:
    """The loss of one member, or one per member; by blocks or by plain autograd."""
    if not len(rows) or (keys is not None and not len(keys)):
        learned = [tensor for member in members for tensor in (*member.learned, *member.per_row)]
        nothing = nothing_from([rows, *learned] if keys is None else [rows, keys, *learned])
        return nothing if len(members) == 1 else torch.stack([nothing] * len(members))
    plan = Plan(tuple(members), groups, tiny_length(rows), tiny_length(rows if keys is None else keys))
    learned = plan.tensors
    rows, keys = full(rows), None if keys is None else full(keys)
    with no_autocast(rows.device.type):
        if settings().plain or torch.compiler.is_compiling():
            return plain(plan, rows, keys, learned)
        values: Tensor = _Blocks.apply(plan, rows, keys, *learned)  # type: ignore[no-untyped-call]
        return values


class Plan:
    """What does not change from block to block."""

    def __init__(
        self, members: tuple[Member, ...], groups: Groups | TableGroups, row_tiny: float, key_tiny: float
    ) -> None:
        self.members, self.groups = members, groups
        self.row_tiny, self.key_tiny = row_tiny, key_tiny
        self.unit = members[0].rule.unit
        self.measures: tuple[Measure, ...] = tuple(dict.fromkeys(member.rule.measure for member in members))
        self.far_apart = any(measure != "score" for measure in self.measures)
        self.block_bytes = settings().block_bytes

    @property
    def tensors(self) -> list[Tensor]:
        """All learned tensors, in the members' order."""
        return [tensor for member in self.members for tensor in (*member.learned, *member.per_row)]

    def centred(self, rows: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both sides moved by the columns' mean, which changes no distance but keeps digits."""
        if self.unit or not self.far_apart:
            return rows, keys
        centre = (rows if keys is None else keys).detach().mean(dim=0)
        return rows - centre, None if keys is None else keys - centre

    def blocks(self, itemsize: int) -> list[slice]:
        """The blocks of rows."""
        tables = max(getattr(member.rule, "tables", 0) for member in self.members)
        columns = self.groups.columns * max(1, tables * self.groups.slots)
        # products of very few rows are slow, so long rows get a larger block, within reason
        fair = min(FEW_ROWS * columns * itemsize, MOST_BLOCKS * self.block_bytes)
        budget = max(self.block_bytes, fair)
        return list(row_blocks(self.groups.rows, columns, budget_bytes=budget, itemsize=itemsize))

    def share(self, tensors: Sequence[Tensor], place: int, rows: slice) -> tuple[int, tuple[Tensor, ...]]:
        """The learned tensors of a member for some rows, and where the next member's begin."""
        member = self.members[place]
        first = sum(len(other.learned) + len(other.per_row) for other in self.members[:place])
        middle = first + len(member.learned)
        last = middle + len(member.per_row)
        return first, (*tensors[first:middle], *(tensor[rows] for tensor in tensors[middle:last]))


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


class Work:
    """One pass over all blocks: sums, counts and, where needed, gradients."""

    def __init__(
        self, plan: Plan, rows: Tensor, keys: Tensor | None, learned: Sequence[Tensor], needs: Sequence[bool]
    ) -> None:
        self.plan, self.learned = plan, learned
        rows, keys = plan.centred(rows, keys)
        self.q = Vectors(rows, unit=plan.unit, tiny=plan.row_tiny)
        self.k = self.q if keys is None else Vectors(keys, unit=plan.unit, tiny=plan.key_tiny)
        self.paired = keys is None
        self.sums: list[Tensor | None] = [None] * len(plan.members)
        self.counts: list[Tensor | None] = [None] * len(plan.members)
        self.dq = torch.zeros_like(rows) if needs[0] else None
        self.dk = self.dq if self.paired else torch.zeros_like(self.k.raw) if needs[1] else None
        self.dlearned = [torch.zeros_like(t) if need else None for t, need in zip(learned, needs[2:], strict=True)]
        self.gradient_wanted = any(needs)
        # lengths that are all one can't change, so nothing flows through them
        self.stiff = not plan.far_apart or (self.q.stiff and self.k.stiff)
        self.dlengths = None if self.stiff or self.dk is None else torch.zeros_like(self.k.raw[:, 0])

    def go(self, weights: Sequence[Tensor | float]) -> None:
        """Do all blocks."""
        for rows in self.plan.blocks(self.q.raw.element_size()):
            self._block(rows, weights)

    def values(self) -> tuple[Tensor, Tensor]:
        """Each member's loss, and what its sum was divided by."""
        sums = [sum_ for sum_ in self.sums if sum_ is not None]
        divisors = [torch.ones_like(sums[0]) if count is None else count.clamp_min(1) for count in self.counts]
        if len(sums) == 1:
            return sums[0] / divisors[0], divisors[0]
        return torch.stack(sums) / torch.stack(divisors), torch.stack(divisors)

    def gradients(self) -> list[Tensor | None]:
        """The gradients by rows, columns and learned tensors, by their raw vectors."""
        if self.dlengths is not None and self.dk is not None:
            self.dk.addcmul_(self.dlengths[:, None], self.k[slice(None)], value=2)
        dq = None if self.dq is None else self.q.back_(self.dq)
        dk = None if self.paired or self.dk is None else self.k.back_(self.dk)
        return [dq, dk, *self.dlearned]

    def _block(self, rows: slice, weights: Sequence[Tensor | float]) -> None:
        plan, groups, q = self.plan, self.plan.groups, self.q[rows]
        span = groups.span(rows)
        products = times(q, self.k.values[span])
        if self.k.scale is not None:
            products.mul_(self.k.scale[span])
        own = groups.own(rows)
        total: Tensor | None = None
        for measure in plan.measures:
            far_apart = not self.stiff and measure != "score"
            sides = Sides(self.q.squares()[rows], self.k.squares()[span]) if far_apart else Sides(None, None)
            values = measured(products, measure, sides, unit=plan.unit)
            fresh = measure != "score" or len(plan.measures) == 1
            block = as_block(values, own, groups, rows, measure, unit=plan.unit, fresh=fresh)
            pushed = self._members(block, measure, rows, weights)
            if pushed is None:
                continue
            gradient = together_(*pushed, own)
            if far_apart:
                self._lengths(gradient, q, rows, span, FACTOR[measure])
            if len(plan.measures) == 1:
                return self._fold(gradient, q, rows, span, FACTOR[measure])
            gradient.mul_(FACTOR[measure])
            total = gradient if total is None else total.add_(gradient)
        return None if total is None else self._fold(total, q, rows, span, 1.0)

    def _members(
        self, block: Block, measure: Measure, rows: slice, weights: Sequence[Tensor | float]
    ) -> tuple[Tensor, Tensor] | None:
        """Tally every member of one measure; the sum of their derivatives by negatives and positives."""
        pushes: Tensor | None = None
        pulls: Tensor | None = None
        for place, member in enumerate(self.plan.members):
            if member.rule.measure != measure:
                continue
            first, learned = self.plan.share(self.learned, place, rows)
            if not self.gradient_wanted:
                self._count(place, member.rule.costs(block, *learned))
                continue
            pull = _pull(member.rule, block, learned)
            self._count(place, pull.tally)
            weight = weights[place]
            self._learn(first, member, rows, pull.learned, weight)
            push, draw = pull.negatives, pull.positives
            if not isinstance(weight, float):
                push, draw = push.mul_(weight), draw * weight
            pushes = push if pushes is None else pushes.add_(push)
            pulls = draw if pulls is None else pulls + draw
        if pushes is None or pulls is None:
            return None
        return through_(pushes, block.negatives, measure), through_(pulls, block.positives, measure)

    def _count(self, place: int, tally: Tally) -> None:
        sum_, before = self.sums[place], self.counts[place]
        now = tally.costs.detach().sum()
        self.sums[place] = now if sum_ is None else sum_ + now
        if tally.counts is not None:
            count = tally.counts.sum().to(now.dtype)
            self.counts[place] = count if before is None else before + count

    def _learn(
        self, first: int, member: Member, rows: slice, found: tuple[Tensor, ...], weight: Tensor | float
    ) -> None:
        for place, part in enumerate(found):
            target = self.dlearned[first + place]
            if target is not None:
                here = target if place < len(member.learned) else target[rows]
                here.add_(part * weight)

    def _lengths(self, gradient: Tensor, q: Tensor, rows: slice, span: slice, factor: float) -> None:
        """What distances owe to squared lengths: ‖q‖² + ‖k‖² - 2qᵀk; the last term is folded in later."""
        by_square = -factor / 2
        if self.dq is not None:
            self.dq[rows].addcmul_(gradient.sum(dim=1)[:, None], q, value=2 * by_square)
        if self.dlengths is not None:
            self.dlengths[span].add_(gradient.sum(dim=0), alpha=by_square)

    def _fold(self, gradient: Tensor, q: Tensor, rows: slice, span: slice, factor: float) -> None:
        """Into the gradients of both sides."""
        if self.dk is not None:
            fold_(self.dk[span], gradient.T, q, factor)
        if self.dq is not None:
            if self.k.scale is not None:
                gradient.mul_(self.k.scale[span])
            fold_(self.dq[rows], gradient, self.k.values[span], factor)


def _pull(rule: Rule, block: Block, learned: tuple[Tensor, ...]) -> Pull:
    """The rule's own derivatives, or autograd's."""
    by_hand = getattr(rule, "pull", None)  # and not isinstance: a protocol is slow to ask
    pull: Pull = autograd_pull(rule, block, learned) if by_hand is None else by_hand(block, *learned)
    return pull


def autograd_pull(rule: Rule, block: Block, learned: tuple[Tensor, ...]) -> Pull:
    """The derivatives of a block's costs, found by autograd."""
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_() for part in (block.positives, block.negatives, *learned)]
        tally = rule.costs(block._replace(positives=leaves[0], negatives=leaves[1]), *leaves[2:])
        if not tally.costs.requires_grad:
            found = tuple(torch.zeros_like(leaf) for leaf in leaves)
        else:
            found = torch.autograd.grad(tally.costs.sum(), leaves, materialize_grads=True)
    return Pull(tally, found[0], found[1], tuple(found[2:]))


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


def nothing_from(tensors: Sequence[Tensor]) -> Scalar:
    """A zero that carries a (zero) gradient to each of these."""
    return torch.stack([0 * full(tensor).sum() for tensor in tensors]).sum()


def no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Inside, products keep their precision."""
    known = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if known else nullcontext()

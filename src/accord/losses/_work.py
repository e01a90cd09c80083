"""One pass of the row engine over all blocks: products, the rules' derivatives, and the gradients they fold into."""

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.losses._measured import FACTOR, Sides, as_block, measured, through_, together_
from accord.losses._plan import Member, Plan
from accord.losses._products import fold_, times
from accord.losses._rule import Pull, Rule, Tally
from accord.losses._vectors import Vectors
from accord.mining import Block, Measure


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
                self._count(place, _tally(member.rule, block, learned))
                continue
            pull = _pull(member.rule, block, learned)
            self._count(place, pull.tally)
            weight = weights[place]
            self._learn(first, member, rows, pull.learned, weight)
            push, draw = pull.negatives, pull.positives
            if isinstance(weight, Tensor) or weight != 1.0:
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
            live = self.plan.live
            part = gradient if live is None else gradient[:, :live]
            fold_(self.dk[span][:live], part.T, q, factor)
        if self.dq is not None:
            if self.k.scale is not None:
                gradient.mul_(self.k.scale[span])
            fold_(self.dq[rows], gradient, self.k.values[span], factor)


def _pull(rule: Rule, block: Block, learned: tuple[Tensor, ...]) -> Pull:
    """The rule's own derivatives, or autograd's."""
    by_hand = getattr(rule, "pull", None)  # and not isinstance: a protocol is slow to ask
    pull: Pull = autograd_pull(rule, block, learned) if by_hand is None else by_hand(block, *learned)
    return pull


def _tally(rule: Rule, block: Block, learned: tuple[Tensor, ...]) -> Tally:
    """The costs alone; by hand where the rule can, for exponentials made for autograd are slow where they vanish."""
    by_hand = getattr(rule, "pull", None)
    tally: Tally = rule.costs(block, *learned) if by_hand is None else by_hand(block, *learned).tally
    return tally


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

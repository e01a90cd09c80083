"""Which images go into which training batch: a fair deal that depends on the seed and the step alone."""

from hashlib import blake2b
from math import gcd
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from accord.data._augment import Augment
from accord.data._table import ImageTable
from accord.errors import BatchError
from accord.types import Batch, Relations


def generator_for(*key: int | str) -> Generator:
    """A fresh generator for a key such as (seed, "augment", step); different keys draw independently."""
    digest = blake2b("\0".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def fair_cycle(members: int, group: int, generator: Generator) -> Int[Tensor, "step group"]:
    """Deal `members` cards into hands of `group`, again and again, until hands and decks end together.

    The cards are dealt in rounds; each round holds every card once, in a new order, and no hand holds a card twice,
    also where one round ends and the next begins inside it. The cycle has members / gcd steps and group / gcd rounds.
    Needs group ≤ members.
    """
    dealt: list[int] = []
    for number in range(group // gcd(members, group)):
        order = torch.randperm(members, generator=generator).tolist()
        open_cards = (number * members) % group  # of the hand that the round before left unfinished
        if open_cards:
            held = set(dealt[-open_cards:])
            first = [card for card in order if card not in held][: group - open_cards]
            taken = set(first)
            order = first + [card for card in order if card not in taken]
        dealt += order
    return torch.tensor(dealt, dtype=torch.int64).view(-1, group)


class PKBatches:
    """Batches of `classes_per_batch` classes with `per_class` images each, as rows of `labels`.

    Classes are dealt in rounds: each once before any twice, so large classes are seen no more often than small ones,
    and after any number of steps no class is ahead of another by more than one turn. The images of a class are dealt
    the same way over its turns: none comes again before all have come, and none twice into one batch unless the class
    has fewer than `per_class`. Classes with one image are never drawn: they can't form a pair. An epoch is as many
    steps as it takes to draw as many images as there are; rounds run on across its end. Rows are places in `labels`,
    not item ids.

    `rows(step)` depends on nothing but the arguments and the step; steps may be asked for in any order.
    Raises BatchError, stating both numbers, if a batch of these sizes can't be filled.
    """

    def __init__(self, labels: Int[Tensor, " item"], *, classes_per_batch: int, per_class: int, seed: int) -> None:
        numbers, sizes = torch.unique(labels, return_counts=True)
        usable = numbers[sizes >= 2].tolist()
        if classes_per_batch < 2 or per_class < 2:
            raise BatchError(
                f"sampler: a batch needs at least 2 classes of 2 images, not {classes_per_batch} of {per_class}."
            )
        if len(usable) < classes_per_batch:
            raise BatchError(
                f"sampler: a batch of {classes_per_batch} classes can't be filled: only {len(usable)} classes have two "
                f"images or more (of {len(numbers)} classes).\n  Ask for fewer classes per batch, or add images."
            )
        self.classes_per_batch, self.per_class, self.seed = classes_per_batch, per_class, seed
        order = labels.argsort(stable=True)
        parts = torch.split(order, sizes.tolist())
        self._members = [part for part in parts if len(part) >= 2]
        self._images = sum(len(part) for part in self._members)
        self._rounds = classes_per_batch // gcd(len(usable), classes_per_batch)
        self._cycle = len(usable) // gcd(len(usable), classes_per_batch)
        # one plan of classes, and one of images for each class, is kept: that of the cycle last asked for
        self._class_plan: tuple[int, Tensor] | None = None
        self._image_plans: dict[int, tuple[int, Tensor]] = {}

    @property
    def members(self) -> list[Int[Tensor, " row"]]:
        """The images of each class that can be drawn, as rows, in the order of the class numbers."""
        return self._members

    def __len__(self) -> int:
        """Steps per epoch."""
        return -(-self._images // (self.classes_per_batch * self.per_class))

    def rows(self, step: int) -> Int[Tensor, " row"]:
        """The rows of one step, class by class."""
        if step < 0:
            raise BatchError(f"sampler: steps count from 0; {step} came.")
        cycle, place = divmod(step, self._cycle)
        chosen = self._plan_classes(cycle)[place].tolist()
        first = place * self.classes_per_batch
        turns = [cycle * self._rounds + (first + slot) // len(self._members) for slot in range(len(chosen))]
        return torch.cat([self._draw(number, turn) for number, turn in zip(chosen, turns, strict=True)])

    def _plan_classes(self, cycle: int) -> Int[Tensor, "step group"]:
        if self._class_plan is None or self._class_plan[0] != cycle:
            generator = generator_for(self.seed, "classes", cycle)
            self._class_plan = (cycle, fair_cycle(len(self._members), self.classes_per_batch, generator))
        return self._class_plan[1]

    def _draw(self, number: int, turn: int) -> Int[Tensor, " row"]:
        """The images of a class at its turn: whole copies while it has too few, the rest dealt fairly."""
        members = self._members[number]
        copies, rest = divmod(self.per_class, len(members))
        whole = [members] * copies
        if not rest:
            if copies == 1:
                return members
            return torch.cat(whole)
        cycle, place = divmod(turn, len(members) // gcd(len(members), rest))
        kept = self._image_plans.get(number)
        if kept is None or kept[0] != cycle:
            plan = fair_cycle(len(members), rest, generator_for(self.seed, "images", number, cycle))
            kept = self._image_plans[number] = (cycle, plan)
        return torch.cat([*whole, members[kept[1][place]]])


@runtime_checkable
class BatchPlan(Protocol):
    """Which rows make the batch of a step; steps may be asked for in any order."""

    def __len__(self) -> int:
        """Steps per epoch."""
        ...

    def rows(self, step: int) -> Int[Tensor, " row"]:
        """The rows of one step."""
        ...


@runtime_checkable
class RelationPlan(BatchPlan, Protocol):
    """A plan whose batches carry pairs or triplets in place of classes."""

    def relations(self, step: int) -> Relations:
        """Those of one step, as places in `rows(step)`."""
        ...


class TrainingBatches:
    """What training eats: the augmented batch of a step, a pure function of the seed and the step's number."""

    def __init__(self, table: ImageTable, plan: BatchPlan, augment: Augment, *, seed: int) -> None:
        self.table, self.plan, self.augment, self.seed = table, plan, augment, seed

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self.plan)

    def __call__(self, step: int) -> Batch:
        """The batch of one step; steps may be asked for in any order."""
        rows = self.plan.rows(step)
        inputs = self.augment(self.table.images(rows), generator_for(self.seed, "augment", step))
        relations = self.plan.relations(step) if isinstance(self.plan, RelationPlan) else None
        return Batch(inputs, self.table.labels[rows], self.table.ids[rows], relations)

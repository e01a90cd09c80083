"""N-pair batches of classes that are easily taken for each other: hard negative class mining as a batch sampler."""

from math import ceil
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, describe
from accord.data._sampling import PKBatches, generator_for
from accord.errors import BatchError, UsageError
from accord.mining import hard_classes

# What it costs to embed an image as against training on it: forward alone against forward, backward and the update.
EMBEDDING_COST = 1 / 3


class ClassTable(NamedTuple):
    """One embedding of each class, and a second one of another of its images, in the order of the class numbers."""

    first: Float[Tensor, "class dim"]
    second: Float[Tensor, "class dim"]


class HardClassBatches:
    """Batches of classes that violate the triplet constraint among each other, with `per_class` images of each.

    For each step `pool` classes are drawn at random; the first of the batch is one of them at random, and then, one
    after another, that class of the pool joins which violates the constraint the most with respect to those already
    chosen, equals at random (Sohn, NIPS 2016, "hard negative class mining", with steps 1 and 2 done from a table of
    class embeddings in place of embedding the pool for each batch). Until there is a table, batches are those of
    `PKBatches`.

    The table ages as the network learns. `due(step)` says whether it is to be made anew before that step, `examples`
    which images to embed for it, and `learn` takes their embeddings. It is made anew every `every` steps; by default
    so often that embedding takes `share` of the training time, counted in images, not in seconds, so that the order of
    the data is a function of the seed, the step and the table, which is saved with a run (`state`, `restore`).

    Raises BatchError, stating both numbers, if a batch or a pool of these sizes can't be filled.
    """

    def __init__(
        self,
        labels: Int[Tensor, " item"],
        *,
        classes_per_batch: int,
        per_class: int = 2,
        seed: int,
        pool: int | None = None,
        share: float = 0.1,
        every: int | None = None,
        by: str = "max",
    ) -> None:
        self._easy = PKBatches(labels, classes_per_batch=classes_per_batch, per_class=per_class, seed=seed)
        self.classes_per_batch, self.per_class, self.seed, self.by = classes_per_batch, per_class, seed, by
        self._members = self._easy.members
        self.pool = min(len(self._members), 10 * classes_per_batch) if pool is None else pool
        check_count("sampler", "pool", self.pool)
        if not classes_per_batch <= self.pool <= len(self._members):
            raise BatchError(
                f"sampler: hard classes are chosen from a pool of at least {classes_per_batch} (a batch) and at most "
                f"{len(self._members)} (those with two images or more), not of {self.pool}."
            )
        if not 0 < share < 1:
            raise UsageError(f"sampler: share must lie between 0 and 1, not {share}.")
        cost = 2 * len(self._members) * EMBEDDING_COST
        self.every = ceil(cost / (share * classes_per_batch * per_class)) if every is None else every
        check_count("sampler", "every", self.every)
        self._table: ClassTable | None = None
        self._learnt = -1

    def __len__(self) -> int:
        """Steps per epoch, as of `PKBatches`."""
        return len(self._easy)

    def due(self, step: int) -> bool:
        """Whether the table is to be made anew before this step."""
        return step % self.every == 0 and step != self._learnt

    def examples(self, step: int) -> Int[Tensor, "two class"]:
        """Two different images of each class, as rows of `labels`, to make the table of this step from."""
        generator = generator_for(self.seed, "table", step)
        picks = [members[torch.randperm(len(members), generator=generator)[:2]] for members in self._members]
        return torch.stack(picks, dim=1)

    def learn(self, step: int, embeddings: Float[Tensor, "two class dim"]) -> None:
        """Take the embeddings of `examples(step)` as the new table."""
        if embeddings.ndim != 3 or embeddings.shape[:2] != (2, len(self._members)):
            wish = f"the table wants embeddings of shape (2, {len(self._members)}, dim), as `examples` has rows."
            raise BatchError(f"sampler: {wish}\n  embeddings: {describe(embeddings)}")
        first, second = embeddings.detach().float().cpu().unbind()
        self._table, self._learnt = ClassTable(first, second), step

    def rows(self, step: int) -> Int[Tensor, " row"]:
        """The rows of one step, class by class, the hardest classes in the order they were chosen."""
        if self._table is None:
            return self._easy.rows(step)
        generator = generator_for(self.seed, "hard", step)
        pool = torch.randperm(len(self._members), generator=generator)[: self.pool]
        chosen = hard_classes(
            self._table.first[pool],
            partners=self._table.second[pool],
            count=self.classes_per_batch,
            generator=generator,
            by=self.by,
        )
        return torch.cat([self._draw(number, generator) for number in pool[chosen].tolist()])

    def state(self) -> dict[str, Tensor]:
        """The table and the step it was made for, as tensors to be saved; nothing before there is one."""
        if self._table is None:
            return {}
        return {**self._table._asdict(), "step": torch.tensor(self._learnt)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to a saved state."""
        self._table, self._learnt = None, -1
        if tensors:
            self.learn(int(tensors["step"]), torch.stack([tensors["first"], tensors["second"]]))

    def _draw(self, number: int, generator: torch.Generator) -> Int[Tensor, " row"]:
        """Images of a class at random, each once before any twice."""
        members = self._members[number]
        rounds = ceil(self.per_class / len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(rounds)])
        return members[order[: self.per_class]]

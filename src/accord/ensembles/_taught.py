"""A student of few numbers that learns while its teacher does: an objective with one more term, for the student."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_finite, check_range
from accord.ensembles._ensemble import SHARED, Ensemble, Heads, test_weights
from accord.ensembles._students import similarity_distillation, stress_loss
from accord.errors import BatchError, UsageError
from accord.geometry import normalise
from accord.types import Scalar

STUDENT = "student"  # the name of the student's head, and of its term
# from a first trial, not tuned; for a total of about 1, and too much beside a small loss (docs/ensembles.md)
WEIGHT, TEMPERATURE = 5.0, 0.1
_ALONE = "embedding"  # the head of an objective that is handed one tensor


class Taught(nn.Module):
    """Train against an objective, and teach a student its joined embedding in the same step; an objective itself.

    `objective` is an `Ensemble` or a single loss. It gets its heads and labels as without a student. The teacher is
    what is used at test time: each head at unit length times √share, side by side, the shares being `test_weights` of
    that moment; it gets no gradient. `beside` names heads that no loss sees and their shares of the whole, such as
    `{"trunk": 0.75}` for the pooled feature; the objective's heads share what is left.

    Two ways to learn from it:

    - Without `network` the student is a head of its own, called "student" in the embeddings, and is taught the
      teacher's neighbourhoods: `weight` (5 where it is None) · `similarity_distillation` at `temperature` (0.1), whose
      gradient goes on into what the head reads. After S2SD (Roth et al., ICML 2021), where the weight is 50, the
      temperature 1 and the student has a loss of its own besides; here it learns the labels through its teacher alone.
    - `network` takes the teacher's numbers and is taught their distances by `stress_loss`: the student of the code of
      Zabihzadeh, Alitbi & Mousavirad (arXiv 2107.01130). Nothing else learns from it, so it has no weight. Its output
      is brought to unit length before it is compared, unlike theirs: our scores are cosines, and distances alone would
      leave the origin open. It moves in the same step as its teacher, and not after it.

    Called with (heads, labels): every head by its name. An objective that has a single head is handed that tensor.
    After each call `terms` holds the objective's own (a single loss is called "loss") and, as "student", what the
    student's part was before its weight. A batch of one item teaches it nothing and adds zero.

    >>> import torch
    >>> from accord.losses import Contrastive
    >>> objective = Taught(Contrastive())
    >>> loss = objective({"contrastive": torch.randn(8, 16), "student": torch.randn(8, 4)}, torch.arange(8) % 2)
    >>> sorted(objective.terms)
    ['loss', 'student']
    """

    def __init__(
        self,
        objective: nn.Module,
        network: nn.Module | None = None,
        *,
        beside: Mapping[str, float] | None = None,
        weight: float | None = None,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        for option, value in (("weight", weight), ("temperature", temperature)):
            if value is not None and network is not None:
                raise UsageError(f"Taught: {option} belongs to a student without a network. Leave it out.")
            check_range("Taught", option, 1.0 if value is None else value, low=0, open_low=True)
        self.objective, self.student = objective, network
        self.beside = dict(beside or {})
        for name, share in self.beside.items():
            check_range("Taught", f"the share of '{name}'", share, low=0)
        if sum(self.beside.values()) > 1:
            raise UsageError(f"Taught: shares beside the objective's heads must be 1 at most in sum: {self.beside}.")
        names = objective.names if isinstance(objective, Ensemble) else ()
        for name in (STUDENT, *self.beside):
            if name in names:
                raise UsageError(f"Taught: a member can't be called '{name}' beside a head of that name; rename it.")
        usual = WEIGHT if network is None else 1.0
        self.weight = usual if weight is None else weight
        self.temperature = TEMPERATURE if temperature is None else temperature
        self._told: dict[str, Tensor] = {}

    @property
    def terms(self) -> dict[str, Tensor]:
        """The objective's raw losses of the last call and the student's, as far as they were reached."""
        return {**(getattr(self.objective, "terms", None) or {}), **self._told}

    def forward(self, embeddings: Heads, labels: Any) -> Scalar:
        """The objective's loss of one batch, and the student's."""
        self._told = {}
        heads = {_ALONE: embeddings} if isinstance(embeddings, Tensor) else dict(embeddings)
        aside = {name: _taken(heads, name) for name in self.beside}
        own = None if self.student is not None else _taken(heads, STUDENT)
        if not heads:
            raise BatchError("taught: there is no head but those beside, so the objective has nothing to learn.")
        loss: Tensor = self.objective(next(iter(heads.values())) if len(heads) == 1 else heads, labels)
        if not getattr(self.objective, "terms", None):
            self._told["loss"] = loss.detach()
        return loss + self.weight * self._lesson(own, self.teacher(heads, aside))

    def teacher(self, heads: Mapping[str, Tensor], aside: Mapping[str, Tensor]) -> Float[Tensor, "batch number"]:
        """The joined embedding, detached: the objective's heads, then those beside, at unit length times √share."""
        left = 1 - sum(self.beside.values())
        if SHARED in heads:  # what is past it only teaches
            roots = {SHARED: torch.tensor(math.sqrt(left))}
        elif isinstance(self.objective, Ensemble) and len(heads) > 1:
            roots = {name: (share * left).sqrt() for name, share in test_weights(self.objective).items()}
        else:
            roots = {name: torch.tensor(math.sqrt(left)) for name in heads}
        parts = [normalise(heads[name].detach()) * root.to(heads[name]) for name, root in roots.items()]
        parts += [normalise(aside[name].detach()) * math.sqrt(share) for name, share in self.beside.items()]
        return torch.cat(parts, dim=1)

    def _lesson(self, own: Tensor | None, teacher: Tensor) -> Scalar:
        if own is None:
            assert self.student is not None, "without a network the head was taken"
            value = stress_loss(normalise(self.student(teacher)), teacher)
        else:
            value = similarity_distillation(own, teacher, temperature=self.temperature)
        self._told[STUDENT] = value.detach()
        check_finite("taught", "the student's loss", value)
        return value


def untaught(objective: nn.Module) -> nn.Module:
    """The objective without its student, if it has one: the ensemble, or the single loss."""
    if not isinstance(objective, Taught):
        return objective
    return objective.objective


def _taken(heads: dict[str, Tensor], name: str) -> Tensor:
    if name not in heads:
        known = ", ".join(sorted(heads)) or "none"
        raise BatchError(f"taught: there must be a head called '{name}', and the heads are: {known}.")
    return heads.pop(name)

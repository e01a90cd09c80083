"""Notices a loss that teaches nothing, being always 0 or not finite, and does about it what the configuration says."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from accord.ensembles import DIVERSITY, STUDENT, Ensemble, untaught
from accord.errors import NumericError
from accord.types import Json, Step

PATIENCE = 100  # steps in a row; a batch without a violation is no news
PATIENCE_BROKEN = 3  # these steps are undone, and the training loop gives up after 10
EXCLUDED = "excluded"  # in the log


class Verdict(NamedTuple):
    """What to tell after a step, and who was left out, each with the reason."""

    warnings: list[str]
    excluded: dict[str, str]


class IdleMembers:
    """Counts for each loss the steps in a row in which it was exactly 0, and those in which it was not finite.

    After `patience` steps of 0 it is named once (`idle` is "warn"), left out of the ensemble ("exclude"), or the run
    stops by a NumericError ("stop"). After `patience_broken` steps in which it was not finite it is left out where
    `broken` is "exclude"; otherwise it is left to the training loop, which gives up. The last one is never left out.

    Of the ensemble's terms those for diversity and for a student do not count: they may have got all they want. Steps
    that were skipped count for what is not finite, and not for what is 0. `state` and `restore` make a stopped run go
    on with the same counts.
    """

    def __init__(
        self,
        idle: str = "warn",
        broken: str = "stop",
        *,
        patience: int = PATIENCE,
        patience_broken: int = PATIENCE_BROKEN,
    ) -> None:
        self.idle, self.broken = idle, broken
        self.patience, self.patience_broken = patience, patience_broken
        self.zero: dict[str, int] = {}
        self.not_finite: dict[str, int] = {}
        self.named: list[str] = []

    def look(self, step: Step, objective: nn.Module | None = None) -> Verdict:
        """Count a step and judge; members that are to be left out of the objective have been when this returns."""
        ensemble = untaught(objective) if objective is not None else None
        found = Verdict([], {})
        self._look_for_broken(step, ensemble, found)
        if step.skipped:
            return found
        for name, value in step.terms.items():
            if name in (DIVERSITY, STUDENT):
                continue
            self.zero[name] = self.zero.get(name, 0) + 1 if float(value) == 0 else 0
            if self.zero[name] == self.patience and name not in self.named:
                self.named.append(name)
                self._judge_idle(name, step, ensemble, found)
        return found

    def state(self, objective: nn.Module) -> Json:
        """The counts, who was named already, and who was left out."""
        ensemble = untaught(objective)
        excluded = list(ensemble.excluded) if isinstance(ensemble, Ensemble) else []
        return {"zero": self.zero, "not_finite": self.not_finite, "named": self.named, "excluded": excluded}

    def restore(self, state: Json, objective: nn.Module) -> None:
        """Go on with the counts of a saved run, and without whom it had left out; one of an older accord has none."""
        ensemble = untaught(objective)
        if isinstance(ensemble, Ensemble) and state.get("excluded"):
            ensemble.exclude(*state["excluded"])
        self.zero, self.not_finite = dict(state.get("zero", {})), dict(state.get("not_finite", {}))
        self.named = list(state.get("named", []))

    def _look_for_broken(self, step: Step, ensemble: nn.Module | None, found: Verdict) -> None:
        if not isinstance(ensemble, Ensemble) or self.broken != "exclude":
            return
        names = ensemble.broken if step.skipped else ()
        self.not_finite = {name: self.not_finite.get(name, 0) + 1 for name in names}
        for name, steps in self.not_finite.items():
            if steps == self.patience_broken and _leave_out(ensemble, name):
                found.excluded[name] = f"its loss was not finite in {steps} steps in a row"
                found.warnings.append(f"{name}: {found.excluded[name]}, which were undone.\n  {_left_out(step)}")

    def _judge_idle(self, name: str, step: Step, ensemble: nn.Module | None, found: Verdict) -> None:
        who = "the loss" if name == "loss" else name
        what = f"{who} has been exactly 0 for {self.patience} steps in a row: it finds nothing to learn."
        help_ = "A wider margin, another mining, or more images per class may help; or leave this loss out."
        if self.idle == "stop":
            raise NumericError(f"{what}\n  The run stops there, as ensemble.idle=stop has it. {help_}")
        if self.idle == "exclude" and isinstance(ensemble, Ensemble):
            if _leave_out(ensemble, name):
                found.excluded[name] = f"its loss was exactly 0 in {self.patience} steps in a row"
                help_ = _left_out(step)
            else:
                help_ = f"It is the last one that is left, so it stays. {help_}"
        found.warnings.append(f"{what}\n  {help_}")


def _leave_out(ensemble: Ensemble, name: str) -> bool:
    """Leave a member out; False where it is the last one."""
    if len(ensemble.names) - len(ensemble.excluded) < 2:
        return False
    ensemble.exclude(name)
    return True


def _left_out(step: Step) -> str:
    return f"It is left out after step {step.number + 1}, and its head counts for nothing at test time."


def excluded_entry(step: Step, excluded: dict[str, str]) -> Json:
    """A line of the log."""
    return {EXCLUDED: {"step": step.number + 1, "members": excluded}}


def excluded_notes(log: Sequence[Json], weights: Mapping[str, float]) -> list[str]:
    """What a report says of members that were left out, from the log of the run and its model's weights of heads."""
    notes = []
    for entry in log:
        told = entry.get(EXCLUDED) or {"members": {}}
        for name, why in told["members"].items():
            still = weights.get(name, 0) > 0
            then = "; the model is from before, so its head still counts" if still else ""
            notes.append(f"{name} was left out of the ensemble after step {told['step']}, as {why}{then}.")
    return notes

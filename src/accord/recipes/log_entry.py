"""What the log says of one training step."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from accord.ensembles import Ensemble, untaught
from accord.types import Json, Step


def step_entry(step: Step, objective: nn.Module) -> Json:
    """One line of the log; steps are counted from 1, and what is not finite is null.

    Of an ensemble it has each loss's weight, `scales` where the losses are brought to one, and, in steps that measured
    them, how long each loss's `gradients` were at the pooled feature and the cosine of each two.
    """
    bare = untaught(objective)
    ensemble = bare if isinstance(bare, Ensemble) else None
    entry: Json = {
        "step": step.number + 1,
        "epoch": step.epoch,
        "loss": finite(step.loss),
        "terms": {name: finite(value) for name, value in step.terms.items()},
        "weights": _numbers(ensemble.weights() if ensemble else {}),
        "rates": dict(step.rates),
        "gradient_norm": finite(step.gradient_norm),
        "skipped": step.skipped,
    }
    if ensemble and (scales := ensemble.scales()):
        entry["scales"] = _numbers(scales)
    if ensemble and (balance := ensemble.balance) and balance.norms:
        entry["gradients"] = {"norms": _numbers(balance.norms), "cosines": _numbers(balance.cosines)}
    return entry


class Undone(NamedTuple):
    """How many steps were undone, of how many, and what a report says of them."""

    steps: int
    of: int

    @property
    def notes(self) -> list[str]:
        """One sentence, where any was."""
        were = "1 step was" if self.steps == 1 else f"{self.steps} steps were"
        why = "as the loss or its gradient was not finite: what they saw was not learned"
        return [f"{were} undone, of {self.of}, {why}."] if self.steps else []


def undone(log: Sequence[Json]) -> Undone:
    """The steps of a log that left no trace in the weights."""
    steps = [entry for entry in log if "loss" in entry]
    return Undone(sum(bool(entry.get("skipped")) for entry in steps), len(steps))


def _numbers(values: Mapping[str, object]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in values.items()}


def finite(value: object) -> float | None:
    """A number that JSON can say, else None."""
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None

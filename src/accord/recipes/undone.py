"""Steps that were undone, as their loss or gradient was not finite: counted and told; a run of nothing else is none."""

from collections.abc import Sequence
from typing import NamedTuple

from accord.errors import NumericError
from accord.types import Json


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

    def refuse_all(self) -> None:
        """Raise NumericError where there was no other step: the model learned nothing."""
        if self.steps and self.steps == self.of:
            raise NumericError(
                f"All {self.of} steps were undone, as their loss or gradient was not finite: the model learned nothing."
                "\n  Look at the images and at losses of your own, lower the rates, or clip the gradient."
            )


def undone(log: Sequence[Json]) -> Undone:
    """The steps of a log that left no trace in the weights."""
    steps = [entry for entry in log if "loss" in entry]
    return Undone(sum(bool(entry.get("skipped")) for entry in steps), len(steps))

"""What the log says of one training step."""

from accord.ensembles import Ensemble
from accord.types import Json, Step


def step_entry(step: Step, objective: object) -> Json:
    """One line of the log; steps are counted from 1, and what is not finite is null."""
    weights = objective.weights() if isinstance(objective, Ensemble) else {}
    return {
        "step": step.number + 1,
        "epoch": step.epoch,
        "loss": finite(step.loss),
        "terms": {name: finite(value) for name, value in step.terms.items()},
        "weights": {name: finite(value) for name, value in weights.items()},
        "rates": dict(step.rates),
        "gradient_norm": finite(step.gradient_norm),
        "skipped": step.skipped,
    }


def finite(value: object) -> float | None:
    """A number that JSON can say, else None."""
    number = float(value)  # type: ignore[arg-type]
    return number if number == number and abs(number) != float("inf") else None

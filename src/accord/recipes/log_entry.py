"""What the log says of one training step."""

import math
from collections.abc import Mapping

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


def _numbers(values: Mapping[str, object]) -> dict[str, float | None]:
    return {name: finite(value) for name, value in values.items()}


def finite(value: object) -> float | None:
    """A number that JSON can say, else None."""
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None

"""Draws the settings that a tuning tries: points of a scrambled Sobol sequence, or what optuna proposes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.quasirandom import SobolEngine

from accord.errors import ResourceError
from accord.recipes.study.config import RangeConfig, Space, TuneConfig

STARTUP = 10  # trials that optuna's sampler gets to learn from before it proposes any
DIGITS = 6

Tried = tuple[Mapping[str, Any], float | None]


def space_of(tune: TuneConfig, arm: str) -> Space:
    """What is tuned in an arm: what is tuned in all, and what is in this one alone."""
    return {**tune.search, **tune.per_arm.get(arm, {})}


def propose(tune: TuneConfig, arm: str, number: int, tried: Sequence[Tried]) -> dict[str, Any]:
    """The settings of trial `number`: the same ones for the same seed and the same trials before it.

    `tried` holds the settings and scores of the trials 0 … number − 1, None for one that failed; only `tpe` looks.
    The random sampler takes the next point of a scrambled Sobol sequence (Owen 1998), which covers the space more
    evenly than independent draws; `tpe` does so, too, until it has something to learn from.
    """
    space = space_of(tune, arm)
    if tune.sampler == "tpe" and number >= STARTUP:
        return _parzen(space, number, tried, seed=tune.seed)
    engine = SobolEngine(len(space), scramble=True, seed=tune.seed)  # type: ignore[no-untyped-call]
    point = engine.draw(number + 1, dtype=torch.float64)[number].tolist()
    return {key: at(within, share) for (key, within), share in zip(space.items(), point, strict=True)}


def at(within: RangeConfig, share: float) -> Any:
    """The value at a share in [0, 1] of a range, to 6 digits: at(uniform 2 … 4, 0.5) is 3."""
    if within.choice is not None:
        return within.choice[min(int(share * len(within.choice)), len(within.choice) - 1)]
    if within.integer is not None:
        low, high = within.integer
        return min(low + int(share * (high - low + 1)), high)
    if within.log_uniform is not None:
        first, last = within.log_uniform
        return _rounded(math.exp(math.log(first) + share * (math.log(last) - math.log(first))), first, last)
    assert within.uniform is not None, "read_study refuses a range of no kind"
    first, last = within.uniform
    return _rounded(first + share * (last - first), first, last)


def _rounded(value: float, first: float, last: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), first), last)


def need_optuna() -> None:
    """Refuse at once what could only be told after the first ten trials."""
    _optuna()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ResourceError(
            "tune.sampler: tpe is optuna's, and optuna is not installed.\n"
            "  Install it (pip install 'accord[study]'), or take sampler: random."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _parzen(space: Space, number: int, tried: Sequence[Tried], *, seed: int) -> dict[str, Any]:
    """Optuna's proposal after the trials so far; nothing of it is kept, so a study goes on wherever it stopped."""
    optuna = _optuna()
    sampler = optuna.samplers.TPESampler(seed=(seed + number) % 2**32, n_startup_trials=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    kinds = {key: _distribution(optuna, within) for key, within in space.items()}
    for settings, score in tried:
        params = {key: _inward(space[key], value) for key, value in settings.items()}
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(params=params, distributions=kinds, value=score, state=state))
    drawn = study.ask(kinds).params
    return {key: _outward(within, drawn[key]) for key, within in space.items()}


def _distribution(optuna: Any, within: RangeConfig) -> Any:
    if within.choice is not None:  # numbers in place of the values, which may be lists
        return optuna.distributions.CategoricalDistribution(range(len(within.choice)))
    if within.integer is not None:
        return optuna.distributions.IntDistribution(*within.integer)
    if within.log_uniform is not None:
        return optuna.distributions.FloatDistribution(*within.log_uniform, log=True)
    return optuna.distributions.FloatDistribution(*(within.uniform or ()))


def _inward(within: RangeConfig, value: Any) -> Any:
    return value if within.choice is None else within.choice.index(value)


def _outward(within: RangeConfig, value: Any) -> Any:
    if within.choice is not None:
        return within.choice[value]
    if within.integer is not None:
        return value
    first, last = within.log_uniform or within.uniform or (value, value)
    return _rounded(value, first, last)

"""What a study found, as one document: every seed of every arm, what failed, what was tuned, how the arms compare."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import AccordError
from accord.recipes.compare import compare_runs
from accord.recipes.study.schedule import FAILED, FINISHED, Outcome, Outcomes, Schedule
from accord.recipes.watch import Watch
from accord.runs import RunFolder
from accord.types import Json

SHOWN = ("recall@1", "map@r", "r_precision")


def results_of(schedule: Schedule, outcomes: Outcomes) -> Json:
    """The results so far. Means are over the runs that finished; the ones that failed are counted beside them."""
    rows = [_row(schedule, data, arm, outcomes) for data, arm in schedule.pairs()]
    states = [outcome.state for outcome in outcomes.values()]
    counts = {
        "runs": schedule.count,
        "finished": states.count(FINISHED),
        "failed": states.count(FAILED),
    }
    blocked = sum(run["state"] == "blocked" for row in rows for run in row["seeds"])
    left = counts["runs"] - counts["finished"] - counts["failed"] - blocked
    document = {
        "name": schedule.plan.study.name,
        "complete": left == 0,
        "counts": {**counts, "blocked": blocked, "left": left},
        "table": rows,
    }
    if schedule.plan.study.tune is not None:
        pairs = [pair for pair in schedule.pairs() if pair[1] in schedule.plan.arms]
        document["tuning"] = [_tuning(schedule, *pair, outcomes) for pair in pairs]
    return document


def _row(schedule: Schedule, data: str, arm: str, outcomes: Outcomes) -> Json:
    seeds = []
    for place, (name, seed, fold) in enumerate(schedule.final_names(data, arm)):
        outcome, why = outcomes.get(name, Outcome()), schedule.blocked(data, arm, place, outcomes)
        seeds.append({"seed": seed, "fold": fold, "run": name, **_stand(outcome, why)})
    good = [run for run in seeds if run["state"] == FINISHED]
    return {
        "data": data,
        "arm": arm,
        "mean": _over(good, _mean),
        "deviation": _over(good, _deviation),
        "finished": len(good),
        "failed": sum(run["state"] in (FAILED, "blocked") for run in seeds),
        "seeds": seeds,
    }


def _stand(outcome: Outcome, why: str) -> Json:
    if why:
        return {"state": "blocked", "metrics": {}, "validation": None, "message": why, "seconds": 0.0}
    return {
        "state": outcome.state,
        "metrics": dict(outcome.metrics),
        "validation": outcome.validation,
        "message": outcome.message,
        "seconds": outcome.seconds,
    }


def _over(runs: Sequence[Json], summary: Any) -> dict[str, float | None]:
    """A summary over seeds of every metric, and of the validation's."""
    columns: dict[str, list[float]] = {}
    for run in runs:
        validation = {f"validation {key}": value for key, value in (run["validation"] or {}).items() if key != "step"}
        for key, value in {**run["metrics"], **validation}.items():
            columns.setdefault(key, []).append(value)
    return {key: summary(values) for key, values in columns.items()}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _deviation(values: Sequence[float]) -> float | None:
    """Between seeds, with n − 1; None for one seed, which says nothing of it."""
    if len(values) < 2:
        return None
    mean = _mean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _tuning(schedule: Schedule, data: str, arm: str, outcomes: Outcomes) -> Json:
    best = schedule.best(data, arm, outcomes)
    trials = [
        {
            "number": trial.number,
            "settings": trial.settings,
            "score": trial.score,
            "folds": trial.scores,
            "failed": sum(outcome.state == FAILED for outcome in trial.outcomes),
        }
        for trial in schedule.trials(data, arm, outcomes)
    ]
    return {
        "data": data,
        "arm": arm,
        "folds": schedule.folds[data],
        "best": None if best is None else best.number,
        "settings": {} if best is None else best.settings,
        "trials": trials,
    }


def comparison_of(schedule: Schedule, outcomes: Outcomes, folder: Path, watch: Watch) -> tuple[Json | None, str]:
    """The arms held against each other by `compare`, or why they can't be."""
    methods: dict[str, list[Path]] = {arm: [] for arm in schedule.plan.names}
    for data, arm in schedule.pairs():
        methods[arm] += [folder / name for name, _, _ in schedule.final_names(data, arm) if _is_run(folder / name)]
    if len(methods) < 2:
        return None, "there is one arm, and nothing to compare it with"
    if not all(methods.values()):
        return None, "an arm has no run that could be compared"
    study = schedule.plan.study
    trials: Mapping[str, int] = dict.fromkeys(methods, study.tune.trials) if study.tune else {}
    try:
        against = schedule.plan.against
        return compare_runs(methods, allow=study.allow, against=against, tuning=trials, watch=watch), ""
    except AccordError as error:
        return None, str(error)


def _is_run(path: Path) -> bool:
    """Whether a run was started there; one that failed before that is counted by the study."""
    try:
        RunFolder.open(path)
    except AccordError:
        return False
    return True

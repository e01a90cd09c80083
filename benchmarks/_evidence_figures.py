"""What a page of evidence tells, from records alone: means, differences to the reference, convergence and cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean, geometric_mean
from typing import NamedTuple

import torch
from _evidence_records import SUMMED, Evidence, Key, key_of, named

from accord.errors import UnknownNameError, UsageError
from accord.evaluation import class_bootstrap, class_t_interval
from accord.recipes.contest import figures, pack
from accord.recipes.study.schedule import FINISHED
from accord.types import Json

DRAWS, BAR_POINTS = 10_000, 0.5
SHARES = (0.9, 1.0)
Point = tuple[float, float]
Interval = tuple[float, float]


class Pool(NamedTuple):
    """The records of one data set, from one study or several: runs by key, and arms in order, the reference last."""

    data: str
    reference: str
    arms: list[str]
    runs: dict[Key, Json]
    gallery: Json

    def of(self, arm: str, state: str = FINISHED) -> list[Json]:
        """The runs of an arm, by seed."""
        return [self.runs[key] for key in sorted(self.runs) if key[1] == arm and self.runs[key]["state"] == state]


class Reached(NamedTuple):
    """Steps until a run reached a score: None if it never did; `at_first` if the first validation was there already."""

    steps: float | None
    at_first: bool = False


class Race(NamedTuple):
    """How long an arm took to a share of the reference's best, seed by seed beside the reference itself.

    `ratio` is the geometric mean over seeds of the arm's steps by the reference's, and `bounds` its 95 % interval; a
    run that never got there counts as its whole length, so that both are then lower bounds: `censored` says how many.
    """

    arm: str
    reference: str
    share: float
    runs: list[tuple[Json, Reached, Reached]]
    ratio: float
    bounds: Interval

    @property
    def censored(self) -> int:
        """How many runs never got there."""
        return sum(mine.steps is None for _, mine, _ in self.runs)

    @property
    def at_first(self) -> int:
        """How many were there by the first validation."""
        return sum(mine.at_first for _, mine, _ in self.runs)

    @property
    def steps(self) -> float:
        """The geometric mean of the arm's steps, with the length of a run that never got there."""
        return geometric_mean([_at_least(run, mine) for run, mine, _ in self.runs])


class Cost(NamedTuple):
    """Seconds of training per step: the mean over runs, and the arm's by the reference's of the same seed."""

    arm: str
    seconds: float
    ratios: list[float]


def pools(studies: Iterable[tuple[Evidence, Sequence[Key]]], reference: str) -> list[Pool]:
    """The records data set by data set, each study with the runs it asks for.

    UsageError for a run that is told twice or that nobody asked for, and where there is nothing to tell.
    """
    found: dict[str, Pool] = {}
    for evidence, asks in studies:
        if stray := sorted(evidence.runs.keys() - set(asks)):
            raise UsageError(f"{named(stray[0])} is recorded, and the study file does not ask for it. Add it there.")
        for data, fingerprint in _galleries(evidence).items():
            pool = found.setdefault(data, Pool(data, reference, [], {}, evidence.galleries[fingerprint]))
            if pool.gallery["fingerprint"] != fingerprint:
                raise UsageError(f"Two studies call two test sets '{data}'. Give them pages of their own.")
            here = {key: run for key, run in evidence.runs.items() if key[0] == data}
            if twice := sorted(here.keys() & pool.runs.keys()):
                raise UsageError(f"{named(twice[0])} is in two of the studies. Leave one of them out.")
            pool.runs.update(here)
            pool.arms.extend(dict.fromkeys(key[1] for key in asks if key[0] == data and key[1] not in pool.arms))
    if not found:
        raise UsageError("No run of these studies has finished, so there is nothing to tell yet.")
    for pool in found.values():
        if reference not in pool.arms:
            raise UnknownNameError("arm to refer to", reference, pool.arms)
        pool.arms.sort(key=lambda arm: arm == reference)
    return list(found.values())


def _galleries(evidence: Evidence) -> dict[str, str]:
    """The test set of each data set of which a run has finished."""
    return {run["data"]: run["gallery"] for run in evidence.runs.values() if run["state"] == FINISHED}


# differences -------------------------------------------------------------------------------------------------------


def differences(pool: Pool, metric: str) -> list[Json]:
    """Each arm less the reference, with interval, corrected p-value and verdict, as `accord compare` makes them."""
    return [pair for pair in compared(pool, metric, pool.arms) if pair["second"] == pool.reference]


def compared(pool: Pool, metric: str, arms: Sequence[str]) -> list[Json]:
    """Each of the arms less each that follows, with p-values corrected over all of these pairs.

    A class's sum is handed over as its mean for each of its queries, so that all class sums are those of the queries.
    """
    labels = torch.arange(len(pool.gallery["queries"])).repeat_interleave(torch.tensor(pool.gallery["queries"]))
    about = {"name": pool.data, "images": pool.gallery["images"], "labels": pack(labels)}
    fingerprint = pool.gallery["fingerprint"]
    runs = [
        {
            "run": named(key_of(run)),
            "method": arm,
            "seed": run["training_seed"],
            "gallery": fingerprint,
            "scores": pack(_per_query(run["sums"][metric], pool.gallery["queries"])),
            "baseline": run["frozen"].get(metric),
        }
        for arm in arms
        for run in pool.of(arm)
    ]
    settings = {"metric": metric, "draws": DRAWS, "bar_points": BAR_POINTS, "seed": 0}
    raw = {"galleries": {fingerprint: about}, "runs": runs, "failed": []}
    (found,) = figures(raw, settings, [])["galleries"]
    pairs: list[Json] = found["differences"]
    return pairs


def _per_query(sums: Sequence[float], queries: Sequence[int]) -> torch.Tensor:
    counts = torch.tensor(queries)
    return (torch.tensor(sums, dtype=torch.float64) / counts.clamp(min=1)).repeat_interleave(counts)


# convergence -------------------------------------------------------------------------------------------------------


def curve(run: Json, metric: str = "recall@1") -> list[Point]:
    """The validation curve of a run as (step, score); a validation without a finite score is left out."""
    column = 1 + SUMMED.index(metric)
    return [(row[0], row[column]) for row in run["validation"] if row[column] is not None]


def steps_until(points: Sequence[Point], target: float) -> Reached:
    """Steps until a curve first reaches `target`, linear between two validations.

    Nothing is known before the first one: a curve that is there already counts with that step, an upper bound.

    >>> steps_until([(10, 0.2), (20, 0.4)], 0.3)
    Reached(steps=15.0, at_first=False)
    >>> steps_until([(10, 0.2), (20, 0.4)], 0.5)
    Reached(steps=None, at_first=False)
    """
    place = next((place for place, (_, score) in enumerate(points) if score >= target), None)
    if place is None:
        return Reached(None)
    if place == 0:
        return Reached(float(points[0][0]), at_first=True)
    (before, low), (after, high) = points[place - 1 : place + 1]
    return Reached(before + (after - before) * (target - low) / (high - low))


def race(pool: Pool, arm: str, share: float) -> Race | None:
    """How long an arm took to `share` of the best validation R@1 of the reference's run of the same seed and fold.

    Seeds without a finished run of the reference are left out; None if no run is left.
    """
    others = {(run["seed"], run["fold"]): run for run in pool.of(pool.reference)}
    runs = []
    for run in pool.of(arm):
        other = others.get((run["seed"], run["fold"]))
        points = curve(other) if other else []
        if points:
            target = share * max(score for _, score in points)
            runs.append((run, steps_until(curve(run), target), steps_until(points, target)))
    if not runs:
        return None
    ratios = [_at_least(run, mine) / _at_least(run, theirs) for run, mine, theirs in runs]
    return Race(arm, pool.reference, share, runs, geometric_mean(ratios), _ratio_bounds(ratios))


def _at_least(run: Json, reached: Reached) -> float:
    return float(run["steps"]) if reached.steps is None else reached.steps


def _ratio_bounds(ratios: Sequence[float]) -> Interval:
    """The expanded percentile interval of a geometric mean, seeds drawn anew; NaN for one seed."""
    logs = torch.tensor(ratios, dtype=torch.float64).log()
    generator = torch.Generator().manual_seed(0)
    low, high = class_bootstrap(logs, torch.arange(len(logs)), draws=DRAWS, generator=generator)
    return math.exp(low), math.exp(high)


def mean_curve(runs: Sequence[Json]) -> list[tuple[float, float, float, float]]:
    """(step, mean, low, high) of the validation R@1 over runs, where all have one; between validations linear.

    The band holds 95 % by Student's t over the runs; of one run it is NaN.
    """
    curves = [points for points in map(curve, runs) if points]
    if not curves:
        return []
    first, last = max(points[0][0] for points in curves), min(points[-1][0] for points in curves)
    steps = sorted({step for points in curves for step, _ in points if first <= step <= last})
    rows = []
    for step in steps:
        scores = [_between(points, step) for points in curves]
        low, high = class_t_interval(torch.tensor(scores, dtype=torch.float64), torch.arange(len(scores)))
        rows.append((step, fmean(scores), low, high))
    return rows


def _between(points: Sequence[Point], step: float) -> float:
    for (before, low), (after, high) in pairwise(points):
        if before <= step <= after:
            return low + (high - low) * (step - before) / (after - before)
    return points[0][1]


# cost --------------------------------------------------------------------------------------------------------------


def cost(pool: Pool, arm: str) -> Cost | None:
    """Training seconds per step of an arm, validations included; None if it has not been trained."""
    seconds = _seconds([run for run in pool.of(arm) if not (run.get("config") or {}).get("compression")])
    others = _seconds(pool.of(pool.reference))
    if not seconds:
        return None
    return Cost(arm, fmean(seconds.values()), [seconds[key] / others[key] for key in seconds if key in others])


def _seconds(runs: Sequence[Json]) -> Mapping[tuple[int, int | None], float]:
    return {(run["seed"], run["fold"]): run["training_seconds"] / run["steps"] for run in runs}

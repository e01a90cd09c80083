"""One side of many arms against another: ours chosen by validation classes, theirs by what it does in the test."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from _evidence_figures import BAR_POINTS, Pool, compared
from _evidence_records import Key, key_of

from accord.errors import UnknownNameError, UsageError
from accord.evaluation import holm
from accord.recipes.contest import judge_pair
from accord.types import Json

CHOSEN_BY = "map@r"


class Contest(NamedTuple):
    """A question: does the best of `arms`, by validation, beat the best of `rivals`, by the test itself?"""

    title: str
    arms: Sequence[str]
    rivals: Sequence[str]


class Answer(NamedTuple):
    """The difference between the two arms that stood for the sides of a contest."""

    contest: Contest
    metric: str
    pair: Json


def answers(pool: Pool, contests: Sequence[Contest], metrics: Sequence[str]) -> list[Answer]:
    """Every contest by every metric; p-values are corrected over all of them. A side without a run is left out.

    The rival is the best of its side on the test classes, for each metric anew: the choice that is hardest on us. Two
    arms are compared over the seeds that both have.
    """
    found: list[Answer] = []
    for contest in contests:
        for name in (*contest.arms, *contest.rivals):
            if name not in pool.arms:
                raise UnknownNameError(f"arm of the contest '{contest.title}'", name, pool.arms)
        mine = best_on_validation(pool, contest.arms)
        if mine is None:
            continue
        for metric in metrics:
            theirs = _best_on_test(pool, contest.rivals, metric)
            if theirs is not None:
                (pair,) = compared(pool._replace(runs=_runs(pool, (mine, theirs))), metric, (mine, theirs))
                found.append(Answer(contest, metric, pair))
    for answer, corrected in zip(found, holm([answer.pair["p"] for answer in found]), strict=True):
        judge_pair(answer.pair, corrected, BAR_POINTS)
    return found


def best_on_validation(pool: Pool, arms: Sequence[str]) -> str | None:
    """The arm with the highest mean MAP@R on its validation classes; None where there is nothing to compare."""
    return _best({arm: [_held_out(run) for run in runs] for arm, runs in _shared(pool, arms).items()})


def _held_out(run: Json) -> float:
    if not run.get("held_out"):
        raise UsageError(f"The record of {run['arm']}, seed {run['seed']}, tells nothing of its validation classes.")
    score: float = run["held_out"][CHOSEN_BY]
    return score


def _best_on_test(pool: Pool, arms: Sequence[str], metric: str) -> str | None:
    return _best({arm: [run["metrics"][metric] for run in runs] for arm, runs in _shared(pool, arms).items()})


def _runs(pool: Pool, arms: Sequence[str]) -> dict[Key, Json]:
    return {key_of(run): run for runs in _shared(pool, arms).values() for run in runs}


def _best(scores: Mapping[str, Sequence[float]]) -> str | None:
    return max(scores, key=lambda arm: fmean(scores[arm]), default=None)


def _shared(pool: Pool, arms: Sequence[str]) -> dict[str, list[Json]]:
    """The runs of those arms that have any, of the seeds and folds that all of them have: others are not alike."""
    runs = {arm: {(run["seed"], run["fold"]): run for run in found} for arm in arms if (found := pool.of(arm))}
    common = set.intersection(*map(set, runs.values())) if runs else set()
    return {arm: [rows[key] for key in sorted(common)] for arm, rows in runs.items() if common}

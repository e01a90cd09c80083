"""One side of many arms against another: ours chosen by validation classes, theirs by what it does in the test."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from _evidence_figures import BAR_POINTS, Pool, differences

from accord.errors import UnknownNameError, UsageError
from accord.evaluation import holm, verdict
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

    The rival is the best of its side on the test classes, for each metric anew: the choice that is hardest on us.
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
                (pair,) = differences(pool, metric, [(mine, theirs)])
                found.append(Answer(contest, metric, pair))
    corrected = holm([answer.pair["p"] for answer in found])
    return [answer._replace(pair=_judged(answer.pair, p)) for answer, p in zip(found, corrected, strict=True)]


def best_on_validation(pool: Pool, arms: Sequence[str]) -> str | None:
    """The arm with the highest mean MAP@R on its validation classes, over the seeds that all arms have: another seed
    may validate on other classes. None where there is no such seed."""
    runs = {arm: {(run["seed"], run["fold"]): run for run in pool.of(arm)} for arm in arms}
    runs = {arm: rows for arm, rows in runs.items() if rows}
    common = set.intersection(*(set(rows) for rows in runs.values())) if runs else set()
    means = {arm: fmean(_held_out(rows[key]) for key in sorted(common)) for arm, rows in runs.items() if common}
    return max(means, key=lambda arm: means[arm], default=None)


def _held_out(run: Json) -> float:
    if not run.get("held_out"):
        raise UsageError(f"The record of {run['arm']}, seed {run['seed']}, tells nothing of its validation classes.")
    score: float = run["held_out"][CHOSEN_BY]
    return score


def _best_on_test(pool: Pool, arms: Sequence[str], metric: str) -> str | None:
    means = {arm: fmean(run["metrics"][metric] for run in pool.of(arm)) for arm in arms if pool.of(arm)}
    return max(means, key=lambda arm: means[arm], default=None)


def _judged(pair: Json, corrected: float) -> Json:
    low, high = pair["interval"] or (float("nan"), float("nan"))
    said = verdict(pair["difference"], low, high, corrected, bar_points=BAR_POINTS)
    few = " (preliminary: fewer than five seeds)" if pair["preliminary"] else ""
    return {**pair, "p_holm": corrected, "verdict": said.sentence + few}


def by_name(rows: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Contest]:
    """Contests as a page file writes them."""
    return [Contest(title, tuple(row["arms"]), tuple(row["rivals"])) for title, row in rows.items()]

"""Tables of a page of evidence, as Markdown: each a pure function of the records of one data set."""

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from _evidence_contests import Answer
from _evidence_figures import SHARES, Pool, Race, cost, curve, differences, race
from _evidence_records import ALIKE

from accord.recipes.study.schedule import FAILED
from accord.types import Json

SHOWN = {"recall@1": "R@1", "map@r": "MAP@R", "nmi": "NMI", "f1": "F1"}
JUDGED = ("recall@1", "map@r")


def means_table(pool: Pool) -> str:
    """Mean and deviation of each arm between its seeds."""
    rows = []
    frozen = {tuple(run["frozen"].get(name) for name in SHOWN) for run in pool.runs.values() if run.get("frozen")}
    if len(frozen) == 1:
        rows.append(["*frozen*", *(percent(value) for value in frozen.pop()), ""])
    for arm in in_order(pool):
        runs, failed = pool.of(arm), len(pool.of(arm, FAILED))
        count = f"{len(runs)}" + (f", {failed} failed" if failed else "")
        values = [[run["metrics"][name] for run in runs if run["metrics"].get(name) is not None] for name in SHOWN]
        rows.append([arm, *map(_spread, values), count])
    return table(["arm", *SHOWN.values(), "runs"], rows)


def whole_table(pool: Pool) -> str:
    """What many arms did, one row each: numbers, validation, test by mean and deviation, and every seed."""
    rows = []
    for arm in in_order(pool):
        runs, failed = pool.of(arm), len(pool.of(arm, FAILED))
        if not runs and not failed:  # it is told among the missing ones
            continue
        count = f"{len(runs)}" + (f", {failed} failed" if failed else "")
        held_out = [_spread([run["held_out"][name] for run in runs if run.get("held_out")]) for name in JUDGED]
        test = [_spread([run["metrics"][name] for run in runs]) for name in JUDGED]
        seeds = "; ".join(" / ".join(percent(run["metrics"][name]) for name in JUDGED) for run in runs)
        rows.append([arm, *held_out, *test, count, seeds])
    head = ["arm", "validation R@1", "validation MAP@R", "R@1", "MAP@R", "runs", "R@1 / MAP@R of each seed"]
    return table(head, rows)


def alike_table(pool: Pool) -> str:
    """How alike the trained heads of each arm are, mean and deviation between its seeds; empty where none has two."""
    rows = []
    for arm in in_order(pool):
        told = [run["alike"] for run in pool.of(arm) if run.get("alike")]
        if told:
            rows.append([arm, *(_spread([one[name] for one in told]) for name in ALIKE)])
    return table(["arm", "CKA", "same neighbour", "one of two right"], rows) if rows else ""


def answers_table(found: Sequence[Answer]) -> str:
    """Who stood for each side of a contest, and by how much the first is better."""
    rows = []
    for title, metric, pair in ((one.contest.title, one.metric, one.pair) for one in found):
        low, high = pair["interval"] or (math.nan, math.nan)
        told = f"{_points(pair['difference'])} ({_points(low)} to {_points(high)})"
        sides = [f"`{pair['first']}`", f"`{pair['second']}`"]
        rows.append([title, *sides, SHOWN[metric], told, f"{pair['p_holm']:.4f}", pair["verdict"]])
    return table(["question", "ours, by validation", "best rival, by the test", "", "points", "p", "verdict"], rows)


def differences_table(pool: Pool) -> str:
    """Each arm less the reference, with interval, p-value and verdict."""
    rows = []
    for metric in JUDGED:
        for pair in differences(pool, metric):
            low, high = pair["interval"] or (math.nan, math.nan)
            told = f"{_points(pair['difference'])} ({_points(low)} to {_points(high)})"
            row = [f"{pair['first']} − {pair['second']}", SHOWN[metric], told, f"{pair['p_holm']:.4f}", pair["verdict"]]
            rows.append(row)
    if not rows:
        return f"No difference can be told yet: `{pool.reference}` or all others have no run that finished."
    return table(["difference", "", "points", "p", "verdict"], rows)


def every_seed_table(pool: Pool) -> str:
    """The figures of every seed."""
    rows = []
    for arm in in_order(pool):
        for run in pool.of(arm):
            best = max((score for _, score in curve(run)), default=None)
            values = [percent(run["metrics"].get(name)) for name in SHOWN]
            rows.append([arm, _seed(run), *values, percent(best)])
    return table(["arm", "seed", *SHOWN.values(), "best validation R@1"], rows)


def races_table(races: Sequence[Race]) -> str:
    """How many runs got to the reference's best, in how many steps, and how long that is by the reference's."""
    rows = []
    for one in races:
        reached = f"{len(one.runs) - one.censored} of {len(one.runs)}"
        steps = f"{_least(one)}{one.steps:.0f}"
        rows.append([one.arm, f"{100 * one.share:g} %", reached, str(one.at_first), steps, _ratio(one)])
    return table(["arm", "of the reference's best", "reached", "at first", "steps", "ratio to the reference"], rows)


def _least(one: Race) -> str:
    return "≥ " if one.censored else ""


def _ratio(one: Race) -> str:
    if one.arm == one.reference:
        return "1"
    upper = "…" if one.censored else f"{one.bounds[1]:.2f}"
    interval = "" if math.isnan(one.bounds[0]) else f" ({one.bounds[0]:.2f} – {upper})"
    return f"{_least(one)}{one.ratio:.2f}{interval}"


def race_seeds_table(pool: Pool) -> str:
    """Steps of every seed; what was never reached is named."""
    rows = []
    for arm in in_order(pool):
        races = [race(pool, arm, share) for share in SHARES]
        for place, (run, _, _) in enumerate(races[0].runs if races[0] else []):
            rows.append([arm, _seed(run), *(_steps(one, place) for one in races if one)])
    return table(["arm", "seed", *(f"steps to {100 * share:g} %" for share in SHARES)], rows)


def _steps(one: Race, place: int) -> str:
    run, mine, _ = one.runs[place]
    if mine.steps is None:
        return f"censored at {run['steps']}"
    return f"{'≤ ' if mine.at_first else ''}{mine.steps:.0f}"


def cost_table(found: Sequence[Pool]) -> str:
    """Milliseconds per step of each arm, and by those of the reference."""
    rows = []
    for pool in found:
        for told in filter(None, (cost(pool, arm) for arm in in_order(pool))):
            ratios = told.ratios
            span = [f"{fmean(ratios):.2f}", f"{min(ratios):.2f} – {max(ratios):.2f}"] if ratios else ["–", "–"]
            rows.append([pool.data, told.arm, f"{1000 * told.seconds:.0f}", *span])
    return table(["data", "arm", "ms per step", "relative to the reference", "lowest – highest seed"], rows)


def tuning_table(tunings: Iterable[Json]) -> str:
    """What each arm's tuning tried and chose."""
    rows = []
    for row in tunings:
        best = next((trial for trial in row["trials"] if trial["number"] == row["best"]), None)
        failed = sum(bool(trial["failures"]) for trial in row["trials"])
        chosen = ", ".join(f"`{key}` {_value(value)}" for key, value in row["settings"].items()) or "–"
        trials = f"{len(row['trials'])}" + ("" if row["complete"] else ", not complete")
        score = f"{SHOWN[row['metric']]} {percent(best['score'])}" if best else "–"
        rows.append([row["data"], row["arm"], trials, str(failed), score, chosen])
    return table(["data", "arm", "trials", "of them failed", "best mean on folds", "settings chosen"], rows)


# words --------------------------------------------------------------------------------------------------------------


def in_order(pool: Pool) -> list[str]:
    """The reference first."""
    return [pool.arms[-1], *pool.arms[:-1]]


def _seed(run: Json) -> str:
    return f"{run['seed']}" + ("" if run["fold"] is None else f" (fold {run['fold']})")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return percent(fmean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _points(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:+.1f}".replace("-", "−")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

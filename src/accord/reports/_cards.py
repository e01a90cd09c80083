"""The top of the page: the sentence, the line beneath it, and a card for each headline metric."""

import re

from accord.reports._escape import escape
from accord.reports._facts import duration, size
from accord.reports._text import HEADLINE_METRICS, headline, percent, points
from accord.types import Json

_COUNT = r"(fewer than one|more than 99|\d+)"


def sentence(report: Json) -> str:
    """The headline with its two numbers set off."""
    words = escape(headline(report))
    words = re.sub(rf"seen in training, {_COUNT} ", r"seen in training, <b>\1</b> ", words)
    return re.sub(rf"Before training, {_COUNT} did", r"Before training, <i>\1</i> did", words)


def lede(report: Json) -> str:
    """What was asked of what, and what it cost, in one line."""
    counts, split = report["counts"], report["data"].get("split", {})
    training = split.get("train", {})
    parts = [
        f"{counts['queries']:,} queries" if counts.get("queries") else "",
        f"{counts['classes']:,} unseen classes" if counts.get("classes") else "",
        f"trained on {training['images']:,} images of {training['classes']:,} other classes" if training else "",
        f"{duration(sum(report['seconds'].values()))} in all" if report["seconds"] else "",
        f"{size(report['peak_memory_bytes'])} of memory at most" if report["peak_memory_bytes"] else "",
    ]
    return "".join(f"<span>{escape(part)}</span>" for part in parts if part)


def cards(report: Json) -> str:
    """One card per headline metric that was measured."""
    return "".join(_card(report, key) for key in HEADLINE_METRICS if report["metrics"].get(key) is not None)


def hint(report: Json) -> str:
    """What the grey tick on the cards means, where there is one."""
    if not report["baseline"]:
        return ""
    intervals = " Intervals are at 95 %, from resampling whole classes." if report["intervals"] else ""
    words = "The grey tick is the frozen baseline: the same backbone before this training."
    return f'<p class="hint">{words}{intervals}</p>'


def _card(report: Json, key: str) -> str:
    name, what = HEADLINE_METRICS[key]
    value, before = report["metrics"][key], report["baseline"].get(key)
    return (
        f'<article class="card"><h2>{name}</h2><p class="what">{what}</p>'
        f'<p class="value">{percent(value)}<small>%</small></p>{_gauge(value, before)}'
        f"<div>{_change(report, key)}{_interval('interval', report['intervals'].get(key))}"
        f"{_interval('gain', report['gain_intervals'].get(key), signed=True)}</div></article>"
    )


def _gauge(value: float | int, before: float | int | None) -> str:
    tick = "" if before is None else f'<b style="left:{_width(before)}%"></b>'
    return f'<div class="gauge" aria-hidden="true"><i style="width:{_width(value)}%"></i>{tick}</div>'


def _width(value: float | int) -> str:
    return f"{100 * min(1.0, max(0.0, value)):.1f}"


def _change(report: Json, key: str) -> str:
    value, before = report["metrics"][key], report["baseline"].get(key)
    if before is None:
        return ""
    difference = round(100 * (value - before), 1)
    kind, arrow = ("up", "▲ ") if difference > 0 else ("down", "▼ ") if difference < 0 else ("same", "")
    low, high = report["gain_intervals"].get(key) or (0.0, 0.0)
    if low < 0 < high:  # it may be nothing, and no colour should say otherwise
        kind = "same"
    return (
        f'<p class="change {kind}">{arrow}{points(value, before)} points</p>'
        f'<p class="then">frozen {percent(before)} %</p>'
    )


def _interval(name: str, bounds: list[float | int] | None, *, signed: bool = False) -> str:
    if not bounds:
        return ""
    low, high = (points(bound, 0.0) if signed else percent(bound) for bound in bounds)
    return f'<p class="then">{name} {low}{" to " if signed else "–"}{high}</p>'

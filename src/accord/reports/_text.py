"""Says in a few plain lines what a run achieved, for the terminal and for the top of the page."""

from collections.abc import Iterable

from accord.data import printable
from accord.types import Json

HEADLINE_METRICS = {
    "recall@1": ("Recall@1", "The nearest item is of the query's class"),
    "map@r": ("MAP@R", "How pure and well ordered the nearest items are"),
    "r_precision": ("R-precision", "Right ones among as many as there are to find"),
    "nmi": ("NMI", "How well clusters match the classes"),
    "knn_accuracy": ("k-NN accuracy", "Class told by a vote of the three nearest"),
}


OTHER_METRICS = {
    "mrr": "MRR",
    "ami": "AMI",
    "ari": "ARI",
    "f1": "F1",
    "purity": "Purity",
    "triplet_accuracy": "Triplet accuracy",
    "without_duplicates_recall@1": "Recall@1 without copies",
}
HEADS_METRICS = ("recall@1", "map@r")  # what is told of single heads
AT_K = {"recall": "Recall", "precision": "Precision", "map": "MAP", "ndcg": "nDCG"}


def headline(report: Json) -> str:
    """One sentence in plain words: of a hundred queries, how many find their own class first, and how many did before.

    >>> headline({"metrics": {"recall@1": 0.62}, "baseline": {"recall@1": 0.3}}).endswith("Before training, 30 did.")
    True
    """
    now, before = report["metrics"].get("recall@1"), report["baseline"].get("recall@1")
    if now is None:
        return "This run has no measured recall."
    start = f"Of 100 pictures of classes never seen in training, {_hundredths(now)} "
    if before is None:
        return start + "find a picture of their own class first."
    if _hundredths(now) == _hundredths(before):
        return start + "find a picture of their own class first, as many as before training."
    return start + f"now find a picture of their own class first. Before training, {_hundredths(before)} did."


def _hundredths(fraction: float | int) -> str:
    """A rounded count out of 100 that says neither none nor all unless it is so."""
    if 0 < fraction < 0.005:
        return "fewer than one"
    if 0.995 <= fraction < 1:
        return "more than 99"
    return str(round(100 * fraction))


def percent(fraction: float | int | None) -> str:
    """A fraction with one decimal, in percent and without the sign; a dash where it was not measured."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def points(trained: float | int | None, baseline: float | int | None) -> str:
    """The difference in percentage points, always with its sign; a true minus for losses."""
    if trained is None or baseline is None:
        return "–"
    difference = round(100 * (trained - baseline), 1)
    return f"{'−' if difference < 0 else '+'}{abs(difference):.1f}"


def render_text(report: Json) -> str:
    """Render the headline figures as plain text: a sentence, then one line per metric, in percent."""
    lines = [report["title"], headline(report), ""]
    beside = {name: report.get(key) or {} for name, key in (("chance", "chance"), ("raw pixels", "raw_pixels"))}
    beside = {name: values for name, values in beside.items() if values}
    rows = [("", "trained", "interval", "frozen", "difference", *beside)]
    for key, value in _measured(report).items():
        before = report["baseline"].get(key)
        extra = ["" if values.get(key) is None else percent(values[key]) for values in beside.values()]
        compared = (_interval(report, key), percent(before), points(value, before))
        rows.append((metric_name(key), percent(value), *compared, *extra))
    lines += _padded(rows)
    lines += _heads(report)
    lines += [f"! {note}" for note in report["notes"]]
    return "\n".join(lines) + "\n"


def _padded(rows: list[tuple[str, ...]]) -> list[str]:
    """A table's rows as lines: names to the left, figures to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _heads(report: Json) -> list[str]:
    """What each head contributes: a line above, then one per head; none where it was not measured."""
    told = report.get("heads") or {}
    if not told.get("heads"):
        return []
    names = [metric_name(key) for key in HEADS_METRICS]
    rows = [("", "share", *(f"{name} alone" for name in names), *(f"{name} lost without" for name in names))]
    rows.append(("all heads", "100.0", *(percent(told["metrics"][key]) for key in HEADS_METRICS), "", ""))
    for head in told["heads"]:
        alone = (percent(head["alone"][key]) for key in HEADS_METRICS)
        lost = (points(head["lost"][key], 0.0) for key in HEADS_METRICS)
        rows.append((printable(head["name"]), percent(head["share"]), *alone, *lost))
    return ["", f"What each head contributes, on {heads_counted(told)} held out for validation:", *_padded(rows)]


def heads_counted(told: Json) -> str:
    """What the heads were measured on, in words."""
    return f"{told['images']:,} images of {told['classes']:,} classes"


def _measured(report: Json) -> dict[str, float]:
    """The metrics that were measured: recall by rising k, then the headline's, then the rest."""
    metrics = report["metrics"]
    return {key: metrics[key] for key in ordered(metrics) if metrics.get(key) is not None}


def ordered(metrics: Iterable[str]) -> list[str]:
    """Metrics in the order of a table: those at k by rising k, then the headline's, then the rest."""
    known = list(metrics)
    at_k = [key for key in known if _at_k(key)]
    at_k.sort(key=lambda key: (list(AT_K).index(key.partition("@")[0]), int(key.partition("@")[2])))
    headline_first = [key for key in HEADLINE_METRICS if key in known]
    return list(dict.fromkeys([*at_k, *headline_first, *known]))


def metric_name(key: str) -> str:
    """A metric as people write it: `Recall@1`, `MAP@R`, `nDCG@10`."""
    if key in HEADLINE_METRICS:
        return HEADLINE_METRICS[key][0]
    name, _, k = key.partition("@")
    return f"{AT_K[name]}@{k}" if _at_k(key) else OTHER_METRICS.get(key, key)


def _at_k(key: str) -> bool:
    name, _, k = key.partition("@")
    return name in AT_K and k.isdecimal()


def _interval(report: Json, key: str) -> str:
    bounds = report["intervals"].get(key)
    return f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""

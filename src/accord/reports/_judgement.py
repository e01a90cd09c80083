"""The report on vectors that no run of ours made: the same keys as in a run's report, and its rows for a table."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import accord
from accord.evaluation import per_class
from accord.reports._inputs import Interval
from accord.reports._plain import number, plain, text
from accord.reports._text import metric_name, ordered, percent
from accord.types import Evaluation, Json

JUDGEMENT_VERSION = 1
WORST_CLASSES = 20


def make_judgement(
    evaluation: Evaluation,
    *,
    class_names: Sequence[str],
    title: str,
    intervals: Mapping[str, Interval],
    protocol: Json,
    facts: Json,
    t_intervals: Mapping[str, Interval] | None = None,
    notes: Sequence[str] = (),
) -> Json:
    """Put what was measured into one JSON value, with figures as fractions in [0, 1].

    `metrics`, `intervals`, `counts`, `chance` and `notes` mean what they mean in a run's `report.json`. `optimistic` is
    what ties in favour of the query would give, `per_class` the mean over classes and the worst of them, `protocol` how
    it was asked. `facts` are further sections.
    """
    told: Json = plain(
        {
            "schema_version": JUDGEMENT_VERSION,
            "accord_version": accord.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "title": title,
            "notes": [*notes, *(note for note in evaluation.notes if note not in notes)],
            "metrics": {name: number(value) for name, value in evaluation.metrics.items()},
            "intervals": dict(intervals),
            "t_intervals": dict(t_intervals or {}),
            "counts": dict(evaluation.counts),
            "chance": {name: number(value) for name, value in evaluation.chance.items()},
            "optimistic": {name: number(value) for name, value in evaluation.optimistic.items()},
            "per_class": per_class_facts(evaluation, class_names),
            "protocol": protocol,
            **facts,
        }
    )
    return told


def per_class_facts(evaluation: Evaluation, class_names: Sequence[str]) -> Json:
    """The mean over classes, each counted once, and the worst classes: by recall@1, then by map@r, then by name."""
    found = per_class(evaluation)
    columns = {name: values.tolist() for name, values in found.means.items()}
    rows = [
        {
            "label": text(class_names[label]),
            "queries": queries,
            **{name: number(values[row], 4) for name, values in columns.items()},
        }
        for row, (label, queries) in enumerate(zip(found.labels.tolist(), found.queries.tolist(), strict=True))
    ]
    order = [name for name in ("recall@1", "map@r", *columns) if name in columns][:2]
    rows.sort(key=lambda row: (*(row[name] for name in order), row["label"]))
    mean = {name: number(values.mean()) for name, values in found.means.items()}
    lowest = {name: number(values.min(), 4) for name, values in found.means.items()}
    return {"classes": len(rows), "mean": mean, "lowest": lowest, "worst": rows[:WORST_CLASSES]}


def judgement_rows(report: Json) -> list[dict[str, str]]:
    """One row per metric, in percent: its name, value, 95 % interval, and where known chance, the plain figure beside a
    re-ranked one, and what kinder ties would give.
    """
    plain_figures = (report.get("re_ranking") or {}).get("plain") or {}
    return [_row(report, name, plain_figures) for name in ordered(report["metrics"])]


def _row(report: Json, name: str, plain_figures: Json) -> dict[str, str]:
    value = report["metrics"][name]
    row = {"metric": metric_name(name), "value": percent(value)}
    if bounds := report["intervals"].get(name):
        row["95 % interval"] = f"{percent(bounds[0])} to {percent(bounds[1])}"
    if name in report["chance"]:
        row["chance"] = percent(report["chance"][name])
    if name in plain_figures:
        row["not re-ranked"] = percent(plain_figures[name])
    kinder = report["optimistic"].get(name)
    if kinder is not None and percent(kinder) != percent(value):
        row["with kind ties"] = percent(kinder)
    return row

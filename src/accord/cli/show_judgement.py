"""Draws what `accord evaluate` found on vectors: a table of metrics, the worst classes, what was counted and said."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from accord.data import printable
from accord.reports import judgement_rows, metric_name, percent
from accord.types import Json

SHOWN_CLASSES = 5
HEADED = ("queries", "gallery", "classes")
SCORES = ("eer_threshold", "best_threshold")
LABELS = {"best_accuracy": "best accuracy (optimistic)"}
FRACTIONS = ("auc", "eer", "best_accuracy", "accuracy", "standard_error", "antihubs")


def show_judgement(report: Json) -> None:
    """Print the report of a judgement for people, in percent."""
    counts, console = report["counts"], Console(highlight=False)
    head = ", ".join(f"{counts.get(name, 0):,} {word}" for name, word in zip(HEADED, WORDS, strict=True))
    _table(console, f"{report['title']}: {head}", judgement_rows(report))
    _n_pair(console, report.get("n_pair") or {})
    for section in ("verification", "pairs", "space"):
        _section(console, section, report.get(section) or {})
    _worst(console, report)
    said = [report["protocol"]["words"]]
    told = [f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items() if value and name not in HEADED]
    said += [f"Counted: {', '.join(told)}."] if told else []
    for line in (*said, *(f"! {note}" for note in report["notes"])):
        console.print(printable(line), markup=False, soft_wrap=True)


WORDS = ("queries", "items", "classes")


def _worst(console: Console, report: Json) -> None:
    worst = report["per_class"]["worst"][:SHOWN_CLASSES]
    columns = [name for name in ("recall@1", "map@r", *report["metrics"]) if worst and name in worst[0]][:2]
    rows = [
        {"class": row["label"], "queries": f"{row['queries']:,}"}
        | {metric_name(name): percent(row[name]) for name in columns}
        for row in worst
    ]
    _table(console, f"The worst of {report['per_class']['classes']:,} classes", rows)


def _section(console: Console, name: str, values: Json) -> None:
    """One row per figure; fractions in percent, everything else as the number it is."""
    rows = [
        {
            "": LABELS.get(key, key.replace("_", " ")),
            "value": percent(value) + " %" if key in FRACTIONS or key.startswith("tar@") else f"{value:.4g}",
        }
        for key, value in values.items()
        if isinstance(value, float)
    ]
    if rows:
        _table(console, name.capitalize(), rows)
    for note in values.get("notes", []):
        console.print(f"! {printable(note)}\n", markup=False, soft_wrap=True)


def _n_pair(console: Console, section: Json) -> None:
    """The table of the N-pair paper: each figure in percent, with its standard error where something was drawn."""
    figures = section.get("figures", {})
    if figures:
        rows = [
            {
                "": figure["words"],
                "value": percent(figure["value"]) + " %",
                "±": "" if figure["standard_error"] is None else f"{100 * figure['standard_error']:.2f}",
                "over": figure["over"],
            }
            for figure in figures.values()
        ]
        _table(console, "The N-pair paper's table", rows, left=("over",))
    for note in section.get("notes", []):
        console.print(f"! {printable(note)}\n", markup=False, soft_wrap=True)


def _table(console: Console, title: str, rows: list[dict[str, str]], *, left: tuple[str, ...] = ()) -> None:
    """A plain table; the first column and those of text to the left, numbers to the right."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    console.print(Text(printable(title), style="italic"), soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place and column not in left else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(row.get(column, ""))) for column in columns))
    console.print(table)
    console.print()

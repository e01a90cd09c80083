"""Says in plain lines what a comparison of methods found: tables of scores, differences and verdicts."""

from collections.abc import Sequence

from accord.data import printable
from accord.reports._text import metric_name, percent, points
from accord.types import Json


def comparison_headline(document: Json) -> str:
    """One sentence: the verdict where there are two methods, else how many pairs differ; unfairness is said first."""
    pairs = [pair for gallery in document["results"]["galleries"] for pair in gallery["differences"]]
    if not pairs:
        return "No two of these methods were judged on the same gallery."
    label = "Not comparable. " if document["not_comparable"] else ""
    if len(pairs) > 1:
        shown = sum(pair["word"] != "no difference shown" for pair in pairs)
        return f"{label}{shown} of {len(pairs)} pairs show a difference."
    pair = pairs[0]
    first, second = printable(pair["first"]), printable(pair["second"])  # a method may be called anything
    low, high = pair["interval"] or (None, None)
    where = f"({points(low, 0.0)} to {points(high, 0.0)})" if pair["interval"] else "(one class tells nothing more)"
    if pair["word"] == "no difference shown":
        return f"{label}No difference shown between {first} and {second} {where}."
    by = points(abs(pair["difference"]), 0.0).lstrip("+")
    return f"{label}{first} is {pair['word']} than {second} by {by} points {where}."


def render_comparison(document: Json) -> str:
    """Render a comparison as plain text: headline, notes, and for each gallery every seed, interval and verdict."""
    settings = document["settings"]
    lines = [comparison_headline(document), *(f"! {note}" for note in document["notes"])]
    for gallery in document["results"]["galleries"]:
        baseline = "" if gallery["baseline"] is None else f"; frozen backbone {percent(gallery['baseline'])}"
        where = f"{printable(gallery['name'])} ({gallery['fingerprint'][:8]})"
        counts = f"{gallery['queries']} queries of {gallery['classes']} classes"
        title = f"{where}: {metric_name(settings['metric'])} in percent, {counts}{baseline}"
        lines += ["", title, *_columns(_scores(gallery))]
        if gallery["differences"]:
            lines += ["", "differences in points", *_columns(_differences(gallery))]
    if document["results"]["ranks"]:
        ranks = document["results"]["ranks"]
        rows = sorted(ranks["methods"].items(), key=lambda item: item[1])
        lines += [
            "",
            f"average rank over {ranks['galleries']} galleries",
            *_columns([(m, f"{r:.2f}") for m, r in rows]),
        ]
    if document["configurations"]:
        lines += ["", "what the methods' options differ in", *_columns(configuration_rows(document))]
    lines += ["", footing(document)]
    return "\n".join(lines) + "\n"


def footing(document: Json) -> str:
    """How intervals and p-values were made, in one sentence."""
    settings = document["settings"]
    return (
        f"Intervals hold 95 %, from {settings['draws']:,} draws over seeds and classes (seed {settings['seed']}); p is "
        f"by flipping the signs of classes, after Holm over all pairs; the bar is {settings['bar_points']:g} points."
    )


def configuration_rows(document: Json) -> list[tuple[str, ...]]:
    """The options in which methods differ, as rows of text with a heading."""
    table = document["configurations"]
    methods = list(dict.fromkeys(method for row in table.values() for method in row))
    return [
        ("option", *methods),
        *((key, *(_value(row.get(method)) for method in methods)) for key, row in table.items()),
    ]


def seeds_words(row: Json) -> str:
    """Every seed's score of a method, and its failed runs."""
    seeds = "  ".join(f"{entry['seed']}: {percent(entry['score'])}" for entry in row["seeds"])
    failed = f"{len(row['failed'])} failed" if row["failed"] else ""
    return "  ".join(filter(None, (seeds, failed)))


def by_mean(gallery: Json) -> list[Json]:
    """The methods of a gallery, the best first and those without a run that ended last."""
    return sorted(gallery["methods"], key=lambda row: -1.0 if row["mean"] is None else row["mean"], reverse=True)


def span(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """An interval in words; a dash where there is none."""
    if not bounds:
        return "–"
    low, high = (points(bound, 0.0) if signed else percent(bound) for bound in bounds)
    return f"{low} to {high}"


def _scores(gallery: Json) -> list[tuple[str, ...]]:
    few = gallery["few_classes"]
    rows = [("method", "mean", "interval", *(["by t"] if few else []), "seeds")]
    for row in by_mean(gallery):
        t = [span(row["t_interval"])] if few else []
        rows.append((row["method"], percent(row["mean"]), span(row["interval"]), *t, seeds_words(row)))
    return rows


def _differences(gallery: Json) -> list[tuple[str, ...]]:
    few = gallery["few_classes"]
    rows = [("", "difference", "interval", *(["by t"] if few else []), "p", "verdict")]
    for pair in gallery["differences"]:
        t = [span(pair["t_interval"], signed=True)] if few else []
        names = f"{pair['first']} − {pair['second']}"
        interval = span(pair["interval"], signed=True)
        rows.append((names, points(pair["difference"], 0.0), interval, *t, f"{pair['p_holm']:.4f}", pair["verdict"]))
    return rows


def _value(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

"""Puts the report together: the one JSON value behind the page, the text and the file."""

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch

from accord.errors import DataError
from accord.reports import _tables
from accord.reports._history import history
from accord.reports._inputs import ReportInputs
from accord.reports._judgement import per_class_facts
from accord.reports._plain import number, plain, text
from accord.reports._projection import project_2d
from accord.types import Json

SCHEMA_VERSION = 1
MOST_PLACES = 5000
NEEDED = ("recall@1", "map@r")


def make_report(inputs: ReportInputs) -> Json:
    """Put everything a run measured into one JSON value, with figures as fractions in [0, 1].

    Costs a few seconds, nearly all of them for the map (see `project_2d`). Of more than 5,000 items a random 5,000 are
    on the map; metrics are always over all of them.
    """
    _check(inputs)
    report: Json = {
        "schema_version": SCHEMA_VERSION,
        "accord_version": _version(),
        "created": inputs.created or datetime.now(UTC).isoformat(timespec="seconds"),
        "run": inputs.run,
        "title": inputs.title or inputs.run,
        "notes": list(inputs.notes),
        "metrics": _fractions(inputs.trained.metrics),
        "baseline": _fractions(inputs.baseline.metrics) if inputs.baseline else {},
        "raw_pixels": _fractions(inputs.raw_pixels.metrics) if inputs.raw_pixels else {},
        "intervals": dict(inputs.intervals),
        "gain_intervals": dict(inputs.gain_intervals),
        "counts": dict(inputs.trained.counts),
        "chance": _fractions(inputs.trained.chance),
        "optimistic": _fractions(inputs.trained.optimistic),
        "per_class": per_class_facts(inputs.trained, inputs.class_names),
        "protocol": inputs.protocol,
        "recall_curve": _tables.recall_curve(inputs),
        "heads": inputs.heads,
        "history": history(inputs.history),
        "map": _map(inputs),
        "queries": _tables.queries(inputs),
        "confused": _tables.confused(inputs),
        "classes": _tables.classes(inputs),
        "configuration": inputs.configuration,
        "data": inputs.data,
        "environment": inputs.environment,
        "seconds": {name: number(value, 3) for name, value in inputs.seconds.items()},
        "peak_memory_bytes": inputs.peak_memory_bytes,
    }
    report["items"] = _items(inputs, report)
    clean: Json = plain(report)
    return clean


def _check(inputs: ReportInputs) -> None:
    for who, evaluation in (("trained", inputs.trained), ("baseline", inputs.baseline)):
        missing = [name for name in NEEDED if evaluation and name not in evaluation.per_query]
        if missing:
            raise DataError(f"report: the {who} evaluation has no per-query values for {', '.join(missing)}.")
    strangers = set(inputs.trained.query_ids.tolist()) - set(inputs.test.ids.tolist())
    if strangers:
        raise DataError(f"report: queries that are not in `test`: ids {sorted(strangers)[:5]}.")


def _fractions(values: object) -> dict[str, float | None]:
    assert isinstance(values, dict) or hasattr(values, "items")
    return {text(name): number(value) for name, value in values.items()}


def _map(inputs: ReportInputs) -> Json:
    rows = torch.arange(len(inputs.test.ids))
    if len(rows) > MOST_PLACES:
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(inputs.seed))[:MOST_PLACES]
        rows = chosen.sort().values
    places = project_2d(inputs.test.embeddings[rows], inputs.seed, tsne=inputs.tsne)
    return {"method": places.method, "x": places.x, "y": places.y, "item": inputs.test.ids[rows].tolist()}


def _items(inputs: ReportInputs, report: Json) -> Json:
    """What is known of every item that the report mentions."""
    mentioned = set(report["map"]["item"])
    for query in report["queries"]:
        mentioned |= {query["id"], *(neighbour["id"] for neighbour in query["neighbours"])}
    for pair in report["confused"]:
        mentioned |= {item for example in pair["examples"] for item in example}
    labels = dict(zip(inputs.test.ids.tolist(), inputs.test.labels.tolist(), strict=True))
    return {
        str(item): {"label": _tables.name(inputs, labels[item]), "path": inputs.paths.get(item, "")}
        for item in sorted(mentioned)
    }


def _version() -> str:
    try:
        return version("accord")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"

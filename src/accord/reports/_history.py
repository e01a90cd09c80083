"""Gathers the rows of a training log into columns that a chart can draw."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accord.reports._plain import number
from accord.types import Json

MOST_POINTS = 600
_GROUPS = {  # what is drawn of each step, and where in its row it stands
    "terms": ("terms",),
    "weights": ("weights",),
    "rates": ("rates",),
    "scales": ("scales",),
}
_MEASURED = {"norms": ("gradients", "norms"), "cosines": ("gradients", "cosines")}  # not of every step, as a rule


def history(rows: Sequence[Json]) -> Json:
    """Turn log rows into columns, thinned to at most 600 points by averaging neighbouring steps.

    Values that were not finite become null, so that a chart shows a gap instead of hiding the trouble.
    """
    steps = [row for row in rows if "step" in row and "loss" in row]
    buckets = _buckets(steps)
    columns: Json = {
        **_when(buckets),
        "loss": [_mean(row.get("loss") for row in bucket) for bucket in buckets],
        "averaged": len(buckets[0]) if buckets else 1,
        **_columns(buckets, _GROUPS),
    }
    buckets = _buckets([row for row in steps if row.get("gradients")])
    columns["gradients"] = {**_when(buckets), **_columns(buckets, _MEASURED)}
    columns["validation"] = [
        {name: number(value) if name != "step" else value for name, value in row["validation"].items()}
        for row in rows
        if row.get("validation")
    ]
    columns["proxies"] = _proxies(rows)
    return columns


def _buckets(rows: Sequence[Json]) -> list[Sequence[Json]]:
    """At most as many groups of neighbouring rows as a chart has points."""
    width = -(-len(rows) // MOST_POINTS) or 1
    return [rows[i : i + width] for i in range(0, len(rows), width)]


def _when(buckets: Sequence[Sequence[Json]]) -> Json:
    return {
        "step": [bucket[-1]["step"] for bucket in buckets],
        "epoch": [bucket[-1].get("epoch") for bucket in buckets],
    }


def _columns(buckets: Sequence[Sequence[Json]], groups: Mapping[str, tuple[str, ...]]) -> Json:
    """Each group's figures by name, one for each bucket."""
    columns: Json = {}
    for group, path in groups.items():
        names = dict.fromkeys(name for bucket in buckets for row in bucket for name in _at(row, path))
        columns[group] = {
            name: [_mean(_at(row, path).get(name) for row in bucket) for bucket in buckets] for name in names
        }
    return columns


def _at(row: Json, path: tuple[str, ...]) -> Json:
    """The numbers by name that stand at a path in a row; none where there are none."""
    for key in path:
        row = row.get(key) or {}
    return row


def _proxies(rows: Sequence[Json]) -> dict[str, list[Json]]:
    """By loss, what each epoch found of its proxies."""
    found: dict[str, list[Json]] = {}
    for row in rows:
        for name, seen in (row.get("proxies") or {}).items():
            if name != "step":
                figures = {key: value if key == "proxies" else number(value) for key, value in seen.items()}
                found.setdefault(name, []).append({"step": row["proxies"]["step"], **figures})
    return found


def _mean(values: Iterable[Any]) -> float | None:
    finite = [value for value in map(_significant, values) if value is not None]
    return _significant(sum(finite) / len(finite)) if finite else None


def _significant(value: Any) -> float | None:
    # significant digits and not decimals: a learning rate of 3e-7 must not become zero
    kept = number(value, digits=300)
    return None if kept is None else float(f"{kept:.5g}")

"""The end of the page: configuration, data, environment, time and memory."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from accord.reports._escape import escape
from accord.reports._text import metric_name
from accord.types import Json

BESIDE = ("recall@1", "map@r")


def facts(report: Json) -> str:
    """Panels saying what was run on what, and what it took; a panel without contents is left out."""
    panels = [
        _panel("Data", _data(report["data"])),
        _panel("Time and memory", _cost(report)),
        _panel("Environment", _pairs(report["environment"])),
        _panel("Configuration", _configuration(report["configuration"]), kind="two"),
        _panel("What was counted", _pairs({**report["counts"], **_beside(report)})),
    ]
    return f'<div class="facts">{"".join(panels)}</div>'


def _panel(title: str, contents: str, kind: str = "") -> str:
    return f'<div class="panel {kind}"><h3>{title}</h3>{contents}</div>' if contents else ""


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(_words(key))}</dt><dd>{escape(_value(value))}</dd>" for key, value in values.items())
    return f"<dl>{rows}</dl>" if rows else ""


def _words(key: str) -> str:
    return str(key).replace("_", " ")


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(entry)}" for key, entry in value.items()) or "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(entry) for entry in value) or "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _configuration(configuration: Json) -> str:
    """Single values first, then one group per section; of a list of sections, such as losses, one line each."""
    configuration = {key: _numbered(value) for key, value in configuration.items()}
    loose = {key: value for key, value in configuration.items() if not isinstance(value, Mapping)}
    groups = {key: value for key, value in configuration.items() if isinstance(value, Mapping) and value}
    parts = [f'<div class="group">{_pairs(loose)}</div>'] if loose else []
    parts += [
        f'<div class="group"><h4>{escape(_words(key))}</h4>{_pairs(_flat(value))}</div>'
        for key, value in groups.items()
    ]
    return f'<div class="columns">{"".join(parts)}</div>' if parts else ""


def _numbered(value: Any) -> Any:
    """A list of mappings as one mapping from each one's type (or place) to what else it says."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(v, Mapping) for v in value):
        return value
    lines = {}
    for place, entry in enumerate(value, start=1):
        rest = _flat({key: other for key, other in entry.items() if key != "type" and other not in ({}, [], None)})
        name = str(entry.get("type", place))
        shown = ", ".join(f"{key.removeprefix('options · ')} {_value(other)}" for key, other in rest.items())
        lines[f"{name} {place}" if name in lines else name] = shown
    return lines


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key} · ")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _data(data: Json) -> str:
    known = {"name", "sha256", "split", "notes"}
    split = {
        name: f"{_value(part.get('images'))} images, {_value(part.get('classes'))} classes"
        for name, part in data.get("split", {}).items()
    }
    loose = {key: value for key, value in data.items() if key not in known}
    notes = "".join(f'<p class="quiet">{escape(note)}</p>' for note in data.get("notes") or [])
    digest = f'<h4>SHA-256</h4><p class="hash">{escape(data["sha256"])}</p>' if data.get("sha256") else ""
    name = {"name": data["name"]} if data.get("name") else {}
    return _pairs({**name, **split, **loose}) + digest + notes


def _cost(report: Json) -> str:
    seconds = {name: value for name, value in report["seconds"].items() if value}
    total = sum(seconds.values())
    bars = "".join(
        f'<i style="flex:{value / total:.4f};background:var(--s{order % 8})"></i>'
        for order, value in enumerate(seconds.values())
    )
    rows = "".join(
        f'<dt><span class="swatch" style="background:var(--s{order % 8})"></span>{escape(_words(name))}</dt>'
        f"<dd>{duration(value)}</dd>"
        for order, (name, value) in enumerate(seconds.items())
    )
    rows += f"<dt>in all</dt><dd>{duration(total)}</dd>" if len(seconds) > 1 else ""
    memory = report["peak_memory_bytes"]
    rows += f"<dt>peak memory</dt><dd>{size(memory)}</dd>" if memory else ""
    return (f'<div class="phases" aria-hidden="true">{bars}</div>' if bars else "") + (
        f"<dl>{rows}</dl>" if rows else ""
    )


def _beside(report: Json) -> dict[str, str]:
    """What stands beside the figures: chance, raw pixels, the worst class, kinder ties. Older reports lack some."""
    chance = {name: value for name, value in report["chance"].items() if value is not None}
    found = {f"{metric_name(name)} by chance": f"{100 * value:.1f} %" for name, value in chance.items()}
    lowest = (report.get("per_class") or {}).get("lowest") or {}
    sides = {"of raw pixels": report.get("raw_pixels") or {}, "of the worst class": lowest}
    sides["with kind ties"] = report.get("optimistic") or {}
    for words, values in sides.items():
        for name in BESIDE:
            if values.get(name) is not None:
                found[f"{metric_name(name)} {words}"] = f"{100 * values[name]:.1f} %"
    return found


def duration(seconds: float | int) -> str:
    """Seconds as people say them: `8.1 s`, `2 min 46 s`, `1 h 4 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(count: float | int) -> str:
    """Bytes as people say them, in powers of a thousand: `1.3 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def when(created: str) -> str:
    """An ISO 8601 time as `22 November 2026, 00:12`; anything else as it stands."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment.day} {moment:%B %Y, %H:%M}" + (f" {moment.tzname()}" if moment.tzname() else "")

"""What two runs must share before their scores say anything of their methods, and which options tell methods apart."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accord.errors import UnknownNameError, UsageError
from accord.recipes.resolve import flat
from accord.types import Json

# what may be allowed to differ, and what is looked at
MUST_AGREE = {
    "gallery": "the images and classes they are judged on",
    "metrics": "the version of the code that computes the metrics",
    "protocol": "who searches whom, and re-ranking",
    "training_data": "the images and classes they learn from",
    "backbone": "the network",
    "weights": "the weights it begins with",
    "augmentation": "the random changes to training images",
    "input_size": "the size of an image",
    "embedding_size": "the numbers per embedding",
    "batch": "the classes and images of a batch",
    "epochs": "the passes over the training images",
    "steps": "the optimisation steps",
    "tuning": "the trials that options were tuned with",
}
# what seeds change, where things lie and how long one was willing to wait: runs that differ here are of one method
_SAME_METHOD = {"recipe", "schema_version", "training.seed", "training.device", "training.minutes"}
_OF_DATA = {"data.boxes", "data.copies", "data.validation"}  # the rest of the section says which images
_LONGEST = 60


def check_allowed(names: Iterable[str]) -> None:
    """Refuse to allow a difference that nobody looks at."""
    for name in names:
        if name not in MUST_AGREE:
            raise UnknownNameError("difference to allow", name, MUST_AGREE)


def options_of(config: Json) -> dict[str, Any]:
    """The options that make a method, flat: everything but seeds, data and the protocol."""
    values = flat(config)
    left_out = {key for key in values if key.startswith(("data.", "evaluation."))} - _OF_DATA | _SAME_METHOD
    return {key: value for key, value in values.items() if key not in left_out}


def group_name(configs: Sequence[Json]) -> list[str]:
    """A name for each of several methods: its losses, or its recipe, or its losses and what else sets it apart."""
    losses = [" + ".join(loss["type"] for loss in config["losses"]) for config in configs]
    recipes = [str(config.get("recipe")) for config in configs]
    for names in (losses, recipes):
        if len(set(names)) == len(names) and max(map(len, names)) <= _LONGEST:
            return names
    keys = sorted(configuration_differences({str(place): config for place, config in enumerate(configs)}))
    flats = [flat(config) for config in configs]
    told = [", ".join(f"{key.rpartition('.')[2]}={values.get(key)}" for key in keys) for values in flats]
    return [
        f"{place}: {f'{recipe} ({words})'[:_LONGEST]}"
        for place, (recipe, words) in enumerate(zip(recipes, told, strict=True), start=1)
    ]


def configuration_differences(configs: Mapping[str, Json]) -> dict[str, dict[str, Any]]:
    """The options in which methods differ: key → method → value; null where a method has no such option."""
    flats = {method: options_of(config) for method, config in configs.items()}
    keys = dict.fromkeys(key for values in flats.values() for key in values)
    table = {key: {method: values.get(key) for method, values in flats.items()} for key in keys}
    return {key: row for key, row in table.items() if len({_text(value) for value in row.values()}) > 1}


def differences(runs: Sequence[Json], metric: str) -> list[Json]:
    """Everything that must agree and does not: `{"name", "gallery", "values": {method: [values]}}`.

    Runs are compared with those of their own gallery; what the data ask for may differ between galleries. That
    methods are judged on other galleries is a difference by itself.
    """
    found = [] if _same_galleries(runs) else [_row("gallery", None, runs, _gallery)]
    for gallery in dict.fromkeys(run["gallery"] for run in runs):
        here = [run for run in runs if run["gallery"] == gallery]
        for name in MUST_AGREE:
            if name != "gallery" and not _agree(here, name, metric):
                found.append(_row(name, gallery, here, lambda run, name=name: _value(run, name, metric)))
    return found


def _agree(runs: Sequence[Json], name: str, metric: str) -> bool:
    """Whether all runs share a value. Their length may change from seed to seed, if it does alike in all methods.

    Where a seed also chooses the fold that is held out, an epoch of one fold is a step longer than that of another.
    """
    if name not in ("epochs", "steps"):
        return len({_text(_value(run, name, metric)) for run in runs}) == 1
    seeds: dict[str, dict[Any, str]] = {}
    for run in runs:
        seeds.setdefault(run["method"], {})[run["seed"]] = _text(_value(run, name, metric))
    tables = list(seeds.values())
    return (
        all(table == tables[0] for table in tables) or len({text for table in tables for text in table.values()}) == 1
    )


def refuse(found: Sequence[Json], configurations: Mapping[str, Mapping[str, Any]], allowed: Iterable[str]) -> None:
    """UsageError naming every difference that was not allowed, and the options in which the methods differ."""
    allowed = set(allowed)
    refused = [row for row in found if row["name"] not in allowed]
    if not refused:
        return
    names = ",".join(dict.fromkeys(row["name"] for row in refused))
    lines = [f"  {row['name']} ({MUST_AGREE[row['name']]}): {_told(row['values'])}" for row in refused]
    lines += [f"  option {key}: {_told(values)}" for key, values in list(configurations.items())[:20]]
    raise UsageError(
        "compare: these runs were not made alike; what they score does not tell their methods apart.\n"
        + "\n".join(lines)
        + f"\n  Make them alike, or compare all the same: --allow {names} (the result says 'not comparable')."
    )


def between(found: Sequence[Json], first: str, second: str, gallery: str) -> list[str]:
    """The names of what does not agree between two methods on one gallery, or within one of them."""
    names = []
    for row in found:
        values = {_text(value) for method in (first, second) for value in row["values"].get(method, [])}
        if row["gallery"] in (None, gallery) and len(values) > 1:
            names.append(row["name"])
    return list(dict.fromkeys(names))


def _same_galleries(runs: Sequence[Json]) -> bool:
    places: dict[str, set[str]] = {}
    for run in runs:
        places.setdefault(run["method"], set()).add(run["gallery"])
    return all(galleries == next(iter(places.values())) for galleries in places.values())


def _gallery(run: Json) -> str:
    return f"{run['facts']['gallery']['name']} {run['gallery'][:8]}"


def _value(run: Json, name: str, metric: str) -> Any:
    facts = run["facts"]
    if name == "metrics":
        return facts["metrics_version"]
    if name == "protocol":
        counted = {"queries", "score", "exclude", "re_ranking", *(["knn"] if metric.startswith("knn") else [])}
        return {key: value for key, value in facts["protocol"].items() if key in counted}
    return facts[name]


def _row(name: str, gallery: str | None, runs: Sequence[Json], value: Any) -> Json:
    values: dict[str, list[Any]] = {}
    for run in runs:
        told = values.setdefault(run["method"], [])
        if value(run) not in told:
            told.append(value(run))
    return {"name": name, "gallery": gallery, "values": values}


def _told(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{method}: {_words(value)}" for method, value in values.items())


def _words(value: Any) -> str:
    return (
        ", ".join(map(_words, value)) if isinstance(value, list) else value if isinstance(value, str) else _text(value)
    )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)

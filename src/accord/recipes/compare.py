"""Compares methods by their runs: gathers the scores of every query, refuses unlike runs, and redoes a comparison."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import accord
from accord.checks import check_count, check_range
from accord.data import manifest_from_json
from accord.errors import ArtifactError, DataError, UnknownNameError, UsageError
from accord.evaluation import FEW_CLASSES
from accord.recipes.artifacts import DATA, load_config
from accord.recipes.comparable import (
    MUST_AGREE,
    check_allowed,
    configuration_differences,
    differences,
    group_name,
    options_of,
    refuse,
)
from accord.recipes.contest import ENOUGH_SEEDS, figures, pack
from accord.recipes.per_query import PER_QUERY, load_per_query, test_set
from accord.recipes.resolve import filled
from accord.recipes.watch import Silence, Watch
from accord.runs import RunFolder
from accord.types import Json

SCHEMA_VERSION = 1
DRAWS = 10_000
MOST_DRAWS = 1_000_000


def compare_runs(
    methods: Mapping[str, Sequence[Path | str]],
    *,
    metric: str = "map@r",
    bar_points: float = 0.5,
    draws: int = DRAWS,
    seed: int = 0,
    allow: Sequence[str] = (),
    against: Sequence[str] = (),
    anyway: bool = False,
    tuning: Mapping[str, int] | None = None,
    watch: Watch | None = None,
) -> Json:
    """Compare methods, each given by its runs of several seeds, on the unseen classes they were judged on.

    Returns one JSON document: settings, the raw scores of every query, and all figures, which `verify_comparison`
    computes again. Runs are compared on equal galleries only; several galleries give a table each, and average ranks.
    A run that has not ended, or failed, is counted and not dropped. Raises UsageError where runs were not made alike,
    unless the differences are allowed by name (`allow`) or all of them (`anyway`): then the result is labelled.
    `against` names methods: then each other one is compared with these, and not with the rest.
    `tuning` tells how many trials each method's options were tuned with, where the runs don't know.
    """
    watch = watch or Silence()
    check_range("compare", "bar", bar_points, low=0, high=100)
    check_count("compare", "draws", draws, low=100, high=MOST_DRAWS)
    check_count("compare", "seed", seed, low=0, high=2**62)
    check_allowed(allow)
    allowed = sorted(MUST_AGREE if anyway else set(allow))
    for name in against:
        if name not in methods:
            raise UnknownNameError("method to compare with", name, methods)
    settings = {"metric": metric, "bar_points": float(bar_points), "draws": draws, "seed": seed, "allow": allowed}
    if against:  # without, the settings are those that older comparisons have
        settings["against"] = list(against)
    raw = _gather(methods, metric, tuning or {}, watch)
    document = {
        "schema_version": SCHEMA_VERSION,
        "accord_version": accord.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": settings,
        "raw": raw,
    }
    found, configurations = _unlike(raw, metric)
    refuse(found, configurations, allowed)
    return {**document, **_derive(raw, settings, watch)}


def group_runs(paths: Sequence[Path | str]) -> dict[str, list[Path]]:
    """Runs by method: those whose configurations differ in nothing but seeds, places and the protocol."""
    groups: dict[str, list[Path]] = {}
    configs: dict[str, Json] = {}
    for path in map(Path, paths):
        config = load_config(RunFolder.open(path)).model_dump(mode="json")
        key = repr(sorted(options_of(config).items()))
        groups.setdefault(key, []).append(path)
        configs.setdefault(key, config)
    return dict(zip(group_name(list(configs.values())), groups.values(), strict=True))


def verify_comparison(document: Json, *, watch: Watch | None = None) -> list[str]:
    """Compute a comparison again from its raw scores; the places of all figures that are not equal to the last digit.

    ArtifactError if it is no comparison that this version can read.
    """
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            raise ArtifactError(f"compare: schema_version {document['schema_version']!r} is not {SCHEMA_VERSION}.")
        again = _derive(document["raw"], document["settings"], watch or Silence())
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise ArtifactError(
            f"compare: this is not a comparison accord wrote ({type(error).__name__}: {error})."
        ) from error
    return [place for key, value in again.items() for place in _unequal(document.get(key), value, key)]


def _derive(raw: Json, settings: Json, watch: Watch) -> Json:
    """Everything that follows from the raw scores and the settings."""
    found, configurations = _unlike(raw, settings["metric"])
    results = figures(raw, settings, found, lambda done, total: watch.progress("intervals", done, total))
    return {
        "not_comparable": found,
        "configurations": configurations,
        "results": results,
        "notes": _notes(raw, results, found),
        "input_sha256": _digest(raw, settings),
    }


def _digest(raw: Json, settings: Json) -> str:
    """Over what no figure follows from, too: which metric it is, whose seed, and how a run was made."""
    return hashlib.sha256(json.dumps([raw, settings], sort_keys=True).encode()).hexdigest()


def _unlike(raw: Json, metric: str) -> tuple[list[Json], dict[str, dict[str, Any]]]:
    configs: dict[str, Json] = {}
    for run in raw["runs"]:
        configs.setdefault(run["method"], run["facts"]["config"])
    return differences(raw["runs"], metric), configuration_differences(configs)


def _gather(methods: Mapping[str, Sequence[Path | str]], metric: str, tuning: Mapping[str, int], watch: Watch) -> Json:
    """The scores of all runs that ended, sorted by the places of the queries, and those that did not."""
    raw: Json = {"galleries": {}, "runs": [], "failed": []}
    _refuse_twice(methods)
    total, done = sum(map(len, methods.values())), 0
    for method, paths in methods.items():
        for path in paths:
            run = RunFolder.open(Path(path))
            if why := _why_failed(run):
                raw["failed"].append({"run": run.path.name, "method": method, "gallery": _its_gallery(run), "why": why})
            else:
                _add(raw, run, method, metric, tuning)
            done += 1
            watch.progress("reading runs", done, total)
    _check_gathered(raw, methods)
    return raw


def _refuse_twice(methods: Mapping[str, Sequence[Path | str]]) -> None:
    """A run says nothing against itself, and is no second seed."""
    counts = Counter(Path(path).resolve() for paths in methods.values() for path in paths)
    if twice := [path for path, count in counts.items() if count > 1 and len(methods) > 1]:
        raise UsageError(f"compare: {twice[0].name} is given {counts[twice[0]]} times; give each run once.")


def _add(raw: Json, run: RunFolder, method: str, metric: str, tuning: Mapping[str, int]) -> None:
    found = load_per_query(run)
    if metric not in found.trained:
        raise UnknownNameError("metric with a value for each query", metric, found.trained)
    order = found.places.argsort()
    facts = {**found.facts, "tuning": tuning.get(method, found.facts["tuning"])}
    facts["config"] = filled(facts["config"])  # an option that one run is too old to know is no difference
    names, gallery = facts.pop("class_names"), facts["gallery"]["fingerprint"]
    about = {
        **facts["gallery"],
        "class_names": names,
        "labels": pack(found.labels[order].to(torch.int64)),
        "places": pack(found.places[order]),
    }
    known = raw["galleries"].setdefault(gallery, about)
    if (known["labels"], known["places"]) != (about["labels"], about["places"]):
        raise ArtifactError(f"{run.path / PER_QUERY} asks other queries than the runs of the same gallery before it.")
    baseline = found.baseline.get(metric)
    scores = found.trained[metric][order]
    raw["runs"].append(
        {
            "run": run.path.name,
            "method": method,
            "seed": facts["seed"],
            "gallery": gallery,
            "sha256": run.sha256(PER_QUERY),
            "facts": facts,
            "scores": pack(scores),
            "baseline": None if baseline is None else math.fsum(baseline.tolist()) / len(baseline),
        }
    )


def _why_failed(run: RunFolder) -> str:
    """Why a run has no scores; empty if it has. A finished run that only lacks the file is the user's to mend."""
    if run.exists(PER_QUERY):
        return ""
    if run.is_sealed():
        raise ArtifactError(
            f"{run.path} holds no {PER_QUERY}. Judge it on its unseen classes: accord evaluate {run.path}"
        )
    return "it has not ended, or failed"


def _its_gallery(run: RunFolder) -> str | None:
    """What a run without scores would have been judged on, as far as it is known."""
    try:
        return str(test_set(manifest_from_json(run.read_json(DATA)))["gallery"]["fingerprint"])
    except (ArtifactError, DataError):
        return None


def _check_gathered(raw: Json, methods: Mapping[str, Sequence[Path | str]]) -> None:
    if len(methods) < 2:
        raise UsageError(
            "compare: give runs of two methods or more; these are of one.\n"
            "  Runs that differ only in their seeds are one method. Name groups yourself: --group NAME=RUN,RUN"
        )
    if not raw["runs"]:
        raise UsageError("compare: none of these runs has ended, so there is nothing to compare.")
    seen = Counter((run["method"], run["gallery"], run["seed"]) for run in raw["runs"])
    for (method, _, seed), count in seen.items():
        if count > 1:
            raise UsageError(
                f"compare: {count} runs of '{method}' have seed {seed}: they are copies, or not one method.\n"
                "  Give each seed once, or put them into groups of their own: --group NAME=RUN,RUN"
            )


def _notes(raw: Json, results: Json, found: Sequence[Json]) -> list[str]:
    """What a reader must know before the figures, the gravest first."""
    notes = []
    if found:
        notes.append(f"not comparable: {', '.join(dict.fromkeys(row['name'] for row in found))}.")
    rows = [row for gallery in results["galleries"] for row in gallery["methods"]]
    if failed := len(raw["failed"]):
        count = failed + len(raw["runs"])
        notes.append(f"{failed} of {count} runs failed or have not ended: means are over the others, and flatter.")
    if any(not row["covers_seeds"] for row in rows):
        notes.append("A method has one seed only: its intervals are over classes, and other seeds are not covered.")
    if any(row["preliminary"] for row in rows):
        notes.append(f"preliminary: a method has fewer than {ENOUGH_SEEDS} seeds.")
    for gallery in results["galleries"]:
        if gallery["few_classes"]:
            notes.append(
                f"{gallery['name']} has {gallery['classes']} classes, fewer than {FEW_CLASSES}: intervals are wide; "
                "those by Student's t stand beside them."
            )
    looks = [run["facts"].get("test_set", {}).get("models") or 0 for run in raw["runs"]]
    if max(looks) > len(raw["runs"]):
        notes.append(f"The test set had judged {max(looks)} different models when the last of these runs ended.")
    notes += _mixed(raw)
    if any(not pair["paired"] for gallery in results["galleries"] for pair in gallery["differences"]):
        notes.append("Where two methods don't have the same seeds, their seeds are drawn independently.")
    return notes


def _mixed(raw: Json) -> list[str]:
    """Methods whose runs differ in more than seeds, which nobody but whoever grouped them can know to be one."""
    runs: dict[tuple[str, str], dict[str, Json]] = {}
    for place, run in enumerate(raw["runs"]):
        runs.setdefault((run["method"], run["gallery"]), {})[str(place)] = run["facts"]["config"]
    told = {method: configuration_differences(configs) for (method, _), configs in runs.items()}
    return [
        f"The runs of {method} are not of one method: they differ in {', '.join(list(keys)[:5])}."
        for method, keys in told.items()
        if keys
    ]


def _unequal(told: Any, found: Any, place: str) -> list[str]:
    """Where two nested values differ."""
    if isinstance(told, dict) and isinstance(found, dict):
        keys = dict.fromkeys([*told, *found])
        return [p for key in keys for p in _unequal(told.get(key), found.get(key), f"{place}.{key}")]
    if isinstance(told, list) and isinstance(found, list) and len(told) == len(found):
        pairs = enumerate(zip(told, found, strict=True))
        return [p for row, (one, other) in pairs for p in _unequal(one, other, f"{place}.{row}")]
    return [] if type(told) is type(found) and told == found else [f"{place}: {told!r} is written, {found!r} comes out"]

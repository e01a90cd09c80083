"""Tells which runs of a study have no record, and writes study files that ask for these alone, already tuned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from _evidence_records import Evidence, Key, named, refuse_changes, wanted

from accord.errors import UsageError
from accord.recipes.resolve import read_config
from accord.recipes.study.config import StudyConfig, make_study, read_study
from accord.recipes.study.plan import Job, Plan
from accord.types import Json

ANEW = ("arms", "grid", "compress", "ablate", "against", "data", "seeds")  # what a part says in its own way


def missing(study: StudyConfig, evidence: Evidence | None) -> list[Key]:
    """The runs without a record; one that failed has one. UsageError if a record is of another study."""
    if evidence is None:
        return wanted(study)
    plan, keys = Plan(study), wanted(study)
    for key in keys:
        recorded, tuned = (evidence.runs.get(key) or {}).get("config"), _tuned(study, evidence, key)
        if recorded is not None and tuned is not None:
            refuse_changes(key, recorded, _planned(plan, key, tuned))
    return [key for key in keys if key not in evidence.runs]


def _tuned(study: StudyConfig, evidence: Evidence | None, key: Key) -> Json | None:
    """The settings that an arm's tuning found, empty without any to do; None if it has not ended or found nothing."""
    if study.tune is None:
        return {}
    row = evidence.tunings.get((key[0], Plan(study).source(key[1]))) if evidence else None
    return row["settings"] if row and row["complete"] and row["best"] is not None else None


def _planned(plan: Plan, key: Key, tuned: Mapping[str, Any]) -> Json:
    """What a run is started with, as a study keeps it."""
    data, arm, seed, fold = key
    config = plan.final(data, plan.source(arm), seed, None if fold < 0 else fold, tuned)
    return Job("", data, arm, seed, config, compress=plan.compressed.get(arm)).planned


def rest_of(path: Path, evidence: Evidence | None) -> list[Json]:
    """Studies that ask for the runs without a record and for no others, each a mapping for a study file.

    What is made of another arm's run needs that run, which records don't keep: it is trained again, beside.
    Arms that lack the same seeds of the same data share a study; tuned ones take what was found for their settings,
    and are not tuned again. Arms whose tuning did not end are tuned anew.
    """
    study = read_study(path)
    plan = Plan(study)
    groups: dict[tuple[str, tuple[int, ...], bool], list[str]] = {}
    keys = missing(study, evidence)
    for data, arm in dict.fromkeys(key[:2] for key in keys):
        lacks = [key for key in keys if key[:2] == (data, arm)]
        seeds = tuple(dict.fromkeys(key[2] for key in lacks))
        groups.setdefault((data, seeds, _tuned(study, evidence, lacks[0]) is not None), []).append(arm)
    found = []
    for (data, seeds, tuned), arms in groups.items():
        trained = dict.fromkeys(plan.source(arm) for arm in arms)
        settings = {arm: _settings(study, evidence, data, arm) for arm in trained}
        raw = _part(path, study, data, seeds, settings, tuned=tuned)
        if made := {arm: plan.compressed[arm].model_dump(mode="json") for arm in arms if arm in plan.compressed}:
            raw["compress"] = made
        check_part(make_study(raw), study, [key for key in keys if key[0] == data and key[1] in arms], evidence)
        found.append(raw)
    return found


def _settings(study: StudyConfig, evidence: Evidence | None, data: str, arm: str) -> Json:
    return {**Plan(study).arms[arm], **(_tuned(study, evidence, (data, arm, 0, 0)) or {})}


def _part(
    path: Path, study: StudyConfig, data: str, seeds: Sequence[int], arms: Mapping[str, Json], *, tuned: bool
) -> Json:
    """The study file with other arms, one data set and some of the seeds."""
    raw = {key: value for key, value in read_config(path).items() if key not in ANEW}
    (entry,) = [entry for entry in study.data if entry.name == data]
    tune = raw.pop("tune", None)
    if tune and not tuned:
        spaces = {arm: space for arm, space in (tune.get("per_arm") or {}).items() if arm in arms}
        raw["tune"] = {**tune, "per_arm": spaces}
    described = {**entry.model_dump(mode="json", exclude_unset=True), "name": entry.name}
    return {**raw, "data": described, "arms": dict(arms), "seeds": list(seeds)}


def check_part(part: StudyConfig, study: StudyConfig, lacks: Sequence[Key], evidence: Evidence | None) -> None:
    """Refuse a study that would run anything but what is missing, or with other settings."""
    plan, rest = Plan(study), Plan(part)
    again = {(key[0], plan.source(key[1]), *key[2:]) for key in lacks}
    if stray := sorted(set(wanted(part)) ^ {*lacks, *again}):
        raise UsageError(
            f"The missing runs can't be a study of their own, because of {named(stray[0])}.\n"
            "  With every_fold a seed is trained on all folds. Let the whole study go on in its own folder."
        )
    for key in lacks:
        tuned = _tuned(study, evidence, key)
        if tuned is not None and _planned(rest, key, {}) != _planned(plan, key, tuned):
            raise UsageError(f"{named(key)} would not be trained with the settings of the study.")


def dump(raw: Json, path: Path) -> None:
    """Write a study file."""
    first = f"# The rest of {raw['name']}: runs without a record, with the settings that its tuning found.\n"
    path.write_text(first + yaml.safe_dump(raw, sort_keys=False, allow_unicode=True), encoding="utf-8")

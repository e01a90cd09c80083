"""Evidence of a study: what its run folders found, as one small file of records; gathered, merged, read and written.

A file `STUDY.jsonl.gz` holds one JSON object a line: the study, each test set (classes and their queries), each arm's
tuning, and each run that ended, well or badly. Per-class sums of what the queries scored stand in for single queries:
intervals over seeds and classes need no more. The same records are the same bytes.
"""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from accord.data import default_folds
from accord.errors import ArtifactError, UsageError
from accord.recipes.contributions import HEADS
from accord.recipes.head_names import TRUNK
from accord.recipes.per_query import load_per_query
from accord.recipes.resolve import filled
from accord.recipes.study.config import StudyConfig, make_study
from accord.recipes.study.folder import PLANNED, STUDY, changes, is_study, read_folder
from accord.recipes.study.plan import Plan
from accord.recipes.study.schedule import FAILED, FINISHED, Outcome, Schedule
from accord.recipes.untested import read_validation
from accord.runs import RunFolder
from accord.types import Json

SCHEMA_VERSION = 1
SUMMED = ("recall@1", "map@r")
PLACES = {"data": ("source", "root"), "model": ("weights",)}  # of a configuration; their folders are a machine's own
ALIKE = ("cka", "same_neighbour", "one_right")
DIGITS = 9  # of a class's sum; intervals round no finer

Key = tuple[str, str, int, int]


class Evidence(NamedTuple):
    """The records of one study: what it asked for, the test sets by fingerprint, tunings by (data, arm), and runs."""

    study: Json
    galleries: dict[str, Json]
    tunings: dict[tuple[str, str], Json]
    runs: dict[Key, Json]


def gather(root: Path) -> Evidence:
    """What a study's folder holds by now; a run that has not ended leaves no record."""
    if not is_study(root):
        raise UsageError(f"There is no study in {root}. Give the folder that `accord study --out` wrote.")
    folder = read_folder(root)
    document = folder.folder.read_json(STUDY)
    study = make_study(document["study"], source=str(root / STUDY))
    schedule = Schedule(Plan(study), {name: _tuning_folds(study, facts) for name, facts in document["data"].items()})
    outcomes = {name: folder.outcome(name) for name in schedule.names()}
    galleries: dict[str, Json] = {}
    runs: dict[Key, Json] = {}
    for data, arm in schedule.pairs():
        best = schedule.best(data, arm, outcomes) if study.tune and arm in schedule.plan.arms else None
        settings = {**_said(schedule.plan, arm), **(best.settings if best else {})}
        for place, (name, seed, fold) in enumerate(schedule.final_names(data, arm)):
            about = {"data": data, "arm": arm, "seed": seed, "fold": fold}
            blocked = schedule.blocked(data, arm, place, outcomes)
            found = Outcome(FAILED, message=blocked) if blocked else outcomes[name]
            if found.is_over:
                told = _finished(root / name, galleries, data) if found.state == FINISHED else _failed(found, root)
                runs[key_of(about)] = {**about, "settings": settings, "config": _planned(folder.folder, name), **told}
    head = {"schema_version": SCHEMA_VERSION, "study": _portable_study(document["study"]), "data": document["data"]}
    return Evidence(head, galleries, _tunings(schedule, outcomes, root), runs)


def _said(plan: Plan, arm: str) -> Json:
    """What the study says of an arm: its settings, or how it is made of another's runs."""
    made = plan.compressed.get(arm)
    return dict(plan.arms[arm]) if made is None else made.model_dump(mode="json", exclude_defaults=True)


def key_of(run: Mapping[str, Any]) -> Key:
    """What a run is known by: data set, arm, seed and fold, −1 where there is none."""
    return run["data"], run["arm"], run["seed"], -1 if run["fold"] is None else run["fold"]


def wanted(study: StudyConfig) -> list[Key]:
    """The keys of all runs that a study asks for."""
    schedule = Schedule(Plan(study), {})
    return [
        key_of({"data": data, "arm": arm, "seed": seed, "fold": fold})
        for data, arm in schedule.pairs()
        for _, seed, fold in schedule.final_names(data, arm)
    ]


def asked(evidence: Evidence) -> StudyConfig:
    """The study that the records are of."""
    return make_study(evidence.study["study"], source="the study of these records")


def portable(config: Json) -> Json:
    """A configuration without what belongs to a machine: the device, and the folders that data and weights lie in."""
    kept = {name: dict(section) if isinstance(section, dict) else section for name, section in config.items()}
    for section, names in PLACES.items():
        for name in names:
            if kept.get(section, {}).get(name):
                kept[section][name] = Path(kept[section][name]).name
    kept.get("training", {}).pop("device", None)
    return kept


def merge(old: Evidence, new: Evidence) -> Evidence:
    """Both; of one run's two records the first that finished stays. UsageError where the studies are not one."""
    for key in sorted(old.runs.keys() & new.runs.keys()):
        refuse_changes(key, old.runs[key]["config"], new.runs[key]["config"])
    same = old.galleries.keys() & new.galleries.keys()
    if any(old.galleries[one] != new.galleries[one] for one in same):
        raise ArtifactError("One test set is recorded with other classes than the study's folder has.")
    longer = len(wanted(asked(new))) >= len(wanted(asked(old)))
    runs = {**new.runs, **{key: run for key, run in old.runs.items() if _stays(run, new.runs.get(key))}}
    tunings = {**new.tunings, **{pair: row for pair, row in old.tunings.items() if _stays(row, new.tunings.get(pair))}}
    return Evidence(new.study if longer else old.study, {**old.galleries, **new.galleries}, tunings, runs)


def refuse_changes(key: Key, recorded: Json | None, now: Json | None) -> None:
    """UsageError if a run is recorded with other settings than it has now; one that never began has none."""
    if recorded is None or now is None:
        return
    if lines := changes(*(portable(filled(config)) for config in (recorded, now))):
        raise UsageError(
            f"{named(key)} is recorded with other settings than the study has now.\n  "
            + "\n  ".join(lines[:8])
            + "\n  Put the file back, or give the changed study another `name`."
        )


def named(key: Key) -> str:
    """A run in words: `objects, triplet, seed 3, fold 1`."""
    data, arm, seed, fold = key
    return f"{data}, {arm}, seed {seed}" + (f", fold {fold}" if fold >= 0 else "")


def write(evidence: Evidence, path: Path) -> None:
    """Write the records, sorted; without a time, so that equal records are equal bytes."""
    kinds: list[tuple[str, Iterable[Json]]] = [
        ("study", [evidence.study]),
        ("gallery", [evidence.galleries[key] for key in sorted(evidence.galleries)]),
        ("tuning", [evidence.tunings[key] for key in sorted(evidence.tunings)]),
        ("run", [evidence.runs[key] for key in sorted(evidence.runs)]),
    ]
    lines = [{"record": kind, **row} for kind, rows in kinds for row in rows]
    text = "".join(json.dumps(line, sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(path: Path) -> Evidence:
    """Read records back; ArtifactError if they can't be read."""
    try:
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
        kinds: dict[str, list[Json]] = {"study": [], "gallery": [], "tuning": [], "run": []}
        for row in rows:
            kinds[row.pop("record")].append(row)
        (head,) = kinds["study"]
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} holds no records of a study: {error}") from None
    if head.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(f"{path} has schema_version {head.get('schema_version')!r}; this reads {SCHEMA_VERSION}.")
    return Evidence(
        head,
        {row["fingerprint"]: row for row in kinds["gallery"]},
        {(row["data"], row["arm"]): row for row in kinds["tuning"]},
        {key_of(row): row for row in kinds["run"]},
    )


def _tuning_folds(study: StudyConfig, facts: Json) -> int:
    return 0 if study.tune is None else study.tune.folds or default_folds(facts["training_classes"])


def _stays(old: Json, new: Json | None) -> bool:
    """Whether an earlier record is kept beside a later one of the same run or tuning."""
    over = "state" not in old or old["state"] == FINISHED
    return new is None or (over and old.get("complete", True))


def _planned(folder: RunFolder, name: str) -> Json | None:
    """What a run was started with; None for one that never was."""
    planned = f"{PLANNED}/{name}.json"
    return portable(folder.read_json(planned)) if folder.exists(planned) else None


def _failed(found: Outcome, root: Path) -> Json:
    return {"state": FAILED, "message": found.message.replace(str(root), "."), "seconds": found.seconds}


def _finished(path: Path, galleries: dict[str, Json], data: str) -> Json:
    """What a run found: its validation curve, the figures on its unseen classes, and their sums class by class."""
    run = RunFolder.open(path)
    report, found = run.read_json("report.json"), load_per_query(run)
    names, counts = found.facts["class_names"], found.labels.bincount(minlength=len(found.facts["class_names"]))
    gallery = {**found.facts["gallery"], "data": data, "class_names": names, "queries": counts.tolist()}
    if galleries.setdefault(gallery["fingerprint"], gallery) != gallery:
        raise ArtifactError(f"{path} asks other queries than the runs of the same test set before it.")
    curve = [row["validation"] for row in run.read_log() if row.get("validation")]
    return {
        "state": FINISHED,
        "gallery": gallery["fingerprint"],
        "training_seed": found.facts["seed"],
        "steps": found.facts["steps"],
        "skipped_steps": found.facts["skipped_steps"],
        "training_seconds": found.facts["training_seconds"],
        "held_out": {name: _rounded(score) for name, score in (read_validation(run) or {}).items() if name in SUMMED},
        "validation": [[row["step"], *(_rounded(row[name]) for name in SUMMED)] for row in curve],
        "metrics": report["metrics"],
        "frozen": report["baseline"],
        "sums": {
            name: _sums(found.trained[name], found.labels, len(names)) for name in SUMMED if name in found.trained
        },
        "versions": report["environment"],
        "created": report["created"],
        **_alike(run),
    }


def _alike(run: RunFolder) -> Json:
    """How alike the trained heads are on validation classes, mean over each two; nothing where there are none."""
    told = run.read_json(HEADS).get("agreement", []) if run.exists(HEADS) else []
    pairs = [pair for pair in told if TRUNK not in (pair["first"], pair["second"])]
    return {"alike": {name: _rounded(fmean(pair[name] for pair in pairs)) for name in ALIKE}} if pairs else {}


def _sums(values: Tensor, labels: Tensor, classes: int) -> list[float]:
    total = torch.zeros(classes, dtype=torch.float64).index_add_(0, labels, values.double())
    return [_rounded(value) or 0 for value in total.tolist()]


def _rounded(value: float | None) -> float | None:
    if value is None:
        return None
    kept = round(value, DIGITS)
    return int(kept) if kept == int(kept) else kept


def _tunings(schedule: Schedule, outcomes: Mapping[str, Outcome], root: Path) -> dict[tuple[str, str], Json]:
    """Every trial of every arm with its settings and the score of each fold, and whether all of them ended."""
    tune = schedule.plan.study.tune
    rows: dict[tuple[str, str], Json] = {}
    for data, arm in [pair for pair in schedule.pairs() if tune and pair[1] in schedule.plan.arms]:
        best = schedule.best(data, arm, outcomes)
        trials = schedule.trials(data, arm, outcomes)
        rows[data, arm] = {
            "data": data,
            "arm": arm,
            "metric": tune.metric if tune else "",
            "complete": schedule.is_tuned(data, arm, outcomes),
            "best": best.number if best else None,
            "settings": best.settings if best else {},
            "trials": [
                {
                    "number": trial.number,
                    "settings": trial.settings,
                    "folds": [_rounded(score) for score in trial.scores],
                    "score": _rounded(trial.score),
                    "failures": [_failed(o, root)["message"] for o in trial.outcomes if o.state == FAILED],
                }
                for trial in trials
                if any(outcome.is_over for outcome in trial.outcomes)
            ],
        }
    return rows


def _portable_study(study: Json) -> Json:
    """The study as it is run, without the folders of a machine."""
    data = [portable({"data": entry})["data"] for entry in study["data"]]
    return {**study, "data": data, "base": portable(study["base"])}

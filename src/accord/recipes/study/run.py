"""Runs a study: every arm on every data set with every seed, side by side, going on wherever it stopped."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.data import default_folds, fold_classes, split_classes
from accord.errors import AccordError, DataError, UsageError
from accord.recipes.interrupt import StoppedError, stop_flag
from accord.recipes.source import find_source
from accord.recipes.study.board import Board
from accord.recipes.study.config import StudyConfig, read_study
from accord.recipes.study.folder import StudyFolder, check_free, is_study, own_folder, read_folder
from accord.recipes.study.plan import Job, Plan, check_plan
from accord.recipes.study.pool import Event, open_pool
from accord.recipes.study.results import comparison_of, results_of
from accord.recipes.study.schedule import FAILED, Outcome, Schedule
from accord.recipes.watch import Silence, Watch
from accord.reports import comparison_html
from accord.types import Json

RESULTS, COMPARISON, PAGE = "results.json", "compare.json", "compare.html"
LISTEN_SECONDS = 0.2


def run_study(
    file: Path,
    *,
    out: Path | None = None,
    data: Sequence[str] = (),
    workers: int | None = None,
    again: bool = False,
    watch: Watch | None = None,
) -> Json:
    """Do what is left of a study, and return its results; run the same file again to go on after a stop.

    `file` may be the name of a study that comes with accord, `ensemble`; `data` are sources in place of its own.

    Everything is checked before the first run starts. A finished run is never repeated; one that failed is counted,
    and tried again only with `again`. Raises UsageError for a study that does not fit, or that no longer fits the runs
    that are there, and StoppedError if it was asked to stop, with everything saved.
    """
    watch = watch or Silence()
    study = read_study(file, data=data)
    plan, root = Plan(study), out or folder_of(study)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1. Got {workers}.")
    check_plan(plan)
    check_free(root)
    facts = {} if is_study(root) else look_at_data(plan, watch)
    with own_folder(root) as folder:
        facts = {**folder.facts(), **facts}
        facts = {**facts, **look_at_data(plan, watch, known=facts)}
        schedule = _schedule(plan, facts)
        if again:
            watch.say(f"{folder.forgive()} runs that failed are tried again")
        folder.refuse_losses(schedule.names())
        outcomes: dict[str, Outcome] = {}
        _learn(folder, schedule, outcomes)
        folder.remember(study, facts)
        _work(folder, schedule, outcomes, _workers(workers, schedule.count), watch)
        return _conclude(folder, schedule, outcomes, watch)


def study_status(file: Path, *, out: Path | None = None, data: Sequence[str] = ()) -> Json:
    """The results so far of a study that was begun; nothing is run and nothing is written."""
    study = read_study(file, data=data)
    root = out or folder_of(study)
    if not is_study(root):
        raise UsageError(f"There is no study in {root} yet. Begin it: accord study {file}")
    folder, plan = read_folder(root), Plan(study)
    check_plan(plan)
    known = folder.facts()
    if missing := [name for name in plan.data if name not in known]:
        raise UsageError(f"The study in {root} was begun without the data set '{missing[0]}'. Go on with: accord study")
    schedule = _schedule(plan, known)
    outcomes: dict[str, Outcome] = {}
    _learn(folder, schedule, outcomes)
    return results_of(schedule, outcomes)


def plan_study(file: Path, *, out: Path | None = None, data: Sequence[str] = (), watch: Watch | None = None) -> Json:
    """What a study would do, checked as far as it can be without training: arms, options, data sets, number of runs."""
    study = read_study(file, data=data)
    plan = Plan(study)
    check_plan(plan)
    check_free(out or folder_of(study))
    facts = look_at_data(plan, watch or Silence())
    schedule = _schedule(plan, facts)
    arms = [
        {"arm": arm, "losses": [loss.type for loss in config.losses], "settings": plan.arms[arm]}
        for arm in plan.arms
        for config in [plan.final(next(iter(plan.data)), arm, study.seeds[0], 0 if study.folds else None, {})]
    ]
    made = [{"arm": name, **arm.model_dump()} for name, arm in plan.compressed.items()]
    return {
        "name": study.name,
        "folder": str(out or folder_of(study)),
        "data": [{"data": name, **found} for name, found in facts.items()],
        "arms": arms,
        "compress": made,
        "seeds": list(study.seeds),
        "trials": study.tune.trials if study.tune else 0,
        "runs": schedule.count,
    }


def folder_of(study: StudyConfig) -> Path:
    """Where a study lies if nothing else is said."""
    return Path("studies") / study.name


def look_at_data(plan: Plan, watch: Watch, *, known: Iterable[str] = ()) -> Json:
    """Find the images of every data set that is not known, and try its split and folds, so that no run fails later."""
    study, facts = plan.study, {}
    for name in [name for name in plan.data if name not in known]:
        arm = next(iter(plan.arms))
        config = plan.final(name, arm, study.seeds[0], 0 if study.folds else None, {}).data
        try:
            manifest = find_source(config, watch)
            split = split_classes(manifest, test=config.test, validation=config.validation, seed=config.split_seed)
            classes = len({item.label for item in split.items if item.split != "test"})
            for count in filter(None, (study.folds, _tuning_folds(study, classes))):
                fold_classes(split, fold=0, folds=count, seed=config.split_seed)
        except DataError as error:
            raise type(error)(f"The data set '{name}' can't be used.\n  {error}") from None
        test = len({item.label for item in split.items if item.split == "test"})
        if not test:
            raise DataError(f"The data set '{name}' has no unseen classes to judge an arm by; data.test is 0.")
        facts[name] = {"images": len(split), "training_classes": classes, "test_classes": test}
    return facts


def _schedule(plan: Plan, facts: Json) -> Schedule:
    folds = {name: _tuning_folds(plan.study, facts[name]["training_classes"]) or 0 for name in plan.data}
    return Schedule(plan, folds)


def _tuning_folds(study: StudyConfig, classes: int) -> int | None:
    return None if study.tune is None else study.tune.folds or default_folds(classes)


def _workers(asked: int | None, jobs: int) -> int:
    """As many runs at once as there are processors for this process, if nothing else is said."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(asked or here, jobs))


def _learn(folder: StudyFolder, schedule: Schedule, outcomes: dict[str, Outcome]) -> list[Job]:
    """Look up the runs that became known, until no more follow from them; return those that are not over.

    A run that is there already, and was started with other options, is refused whenever it becomes known.
    """
    while True:
        jobs = schedule.jobs(outcomes)
        new = [job for job in jobs if job.name not in outcomes]
        if not new:
            return [job for job in jobs if not outcomes[job.name].is_over]
        folder.refuse_changes(new)
        outcomes.update({job.name: folder.outcome(job.name) for job in new})


def _work(folder: StudyFolder, schedule: Schedule, outcomes: dict[str, Outcome], workers: int, watch: Watch) -> None:
    """Keep the workers busy until every run is over."""
    trials = schedule.plan.study.tune.trials if schedule.plan.study.tune else 0
    board = Board(watch, done=_over(outcomes), total=schedule.count)
    stopped: set[str] = set()
    with stop_flag() as flag, open_pool(folder.path, workers) as pool:
        todo = _learn(folder, schedule, outcomes)
        _clear(folder, schedule, outcomes)
        while not flag.number:
            for job in [job for job in todo if job.name not in pool.children and job.name not in stopped][: pool.free]:
                folder.begin(job)
                pool.start(job, tuned_by=trials if job.trial is None else 0)
            if not pool.children:
                break
            event = pool.next(LISTEN_SECONDS)
            if event is not None and _heard(event, folder, outcomes, board, stopped):
                todo = _learn(folder, schedule, outcomes)
                _clear(folder, schedule, outcomes)
        board.close()
        if flag.number:
            watch.say("stopping: the runs at work save what they have")
        pool.stop()
    if flag.number or stopped:
        raise StoppedError(
            f"Stopped with {_over(outcomes)} of {schedule.count} runs done; everything is saved.\n"
            "  Go on by the same command.",
            number=flag.number or 15,
        )


def _clear(folder: StudyFolder, schedule: Schedule, outcomes: Mapping[str, Outcome]) -> None:
    """Clear away what runs keep for others that are made of them, where all of those are over."""
    for source, made in schedule.sources():
        if all(outcomes.get(name, Outcome()).is_over for name in made):
            folder.clear(source)


def _over(outcomes: Mapping[str, Outcome]) -> int:
    return sum(outcome.is_over for outcome in outcomes.values())


def _heard(event: Event, folder: StudyFolder, outcomes: dict[str, Outcome], board: Board, stopped: set[str]) -> bool:
    """Take in what a run said; whether it was that it is over."""
    job, entry = event
    if "end" not in entry:
        board.moved(job, entry)
        return False
    if entry["end"] == "stopped":
        stopped.add(job.name)
        board.stopped(job)
        return False
    if entry["end"] == FAILED:
        folder.fail(job, entry["message"], seconds=entry["seconds"], trace=entry.get("trace", ""))
    outcomes[job.name] = _outcome(folder, job, entry)
    board.ended(job, outcomes[job.name], done=_over(outcomes))
    return True


def _outcome(folder: StudyFolder, job: Job, entry: Json) -> Outcome:
    """How a run that ended stands; one that says it finished, and left no result, failed."""
    try:
        found = folder.outcome(job.name)
        why = f"the run says it is {entry['end']}, and its folder is not finished"
    except AccordError as error:
        found, why = Outcome(), str(error)
    if not found.is_over:
        folder.fail(job, why, seconds=entry["seconds"])
        found = folder.outcome(job.name)
    return found


def _conclude(folder: StudyFolder, schedule: Schedule, outcomes: dict[str, Outcome], watch: Watch) -> Json:
    """Write the results and the comparison."""
    results = results_of(schedule, outcomes)
    document, why = comparison_of(schedule, outcomes, folder.path, watch)
    results["comparison"] = {"file": None, "why": why} if document is None else {"file": COMPARISON, "why": ""}
    if document is None:
        folder.folder.drop(COMPARISON)
        folder.folder.drop(PAGE)
    else:
        folder.folder.write_json(COMPARISON, document)
        folder.folder.write_text(PAGE, comparison_html(document))
        results["comparison"]["verdicts"] = _verdicts(document)
    folder.folder.write_json(RESULTS, results)
    return results


def _verdicts(document: Json) -> list[dict[str, Any]]:
    """The sentence on every pair of arms."""
    return [
        {"data": gallery["name"], "first": pair["first"], "second": pair["second"], "verdict": pair["verdict"]}
        for gallery in document["results"]["galleries"]
        for pair in gallery["differences"]
    ]

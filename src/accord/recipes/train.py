"""The main job: images in, a trained Embedder, its evaluation on unseen classes and a report out."""

import time
from pathlib import Path

import torch

from accord.data import shorter_sides
from accord.errors import UsageError
from accord.models import Embedder
from accord.recipes.artifacts import (
    BEST,
    CONFIG,
    embed_items,
    half_compressed,
    load_config,
    load_data,
    load_embedder,
    save_data,
    save_embedder,
)
from accord.recipes.build import ask_before_imports, check_parts, preprocessing_of
from accord.recipes.choose import Choice, choose_epochs, choose_shapes, smaller_size
from accord.recipes.config import RunConfig
from accord.recipes.contributions import tell_heads
from accord.recipes.evaluate import report_on
from accord.recipes.features import Looked
from accord.recipes.idle_members import excluded_entry
from accord.recipes.interrupt import StoppedError, stop_flag
from accord.recipes.log_entry import step_entry
from accord.recipes.metric import MOST, with_metric
from accord.recipes.per_query import TUNING
from accord.recipes.proxy_log import warnings_of
from accord.recipes.resolve import changed, divided, dump
from accord.recipes.run_evaluation import check_asking
from accord.recipes.session import Session, can_be_judged, open_session, refuse_other_run, seconds_per_step, warm_up
from accord.recipes.source import open_source
from accord.recipes.undone import undone
from accord.recipes.untested import end_untested, read_result, write_validation
from accord.recipes.watch import Silence, Watch
from accord.runs import RunFolder
from accord.training import environment_changes, train, warmup_cosine
from accord.types import Json, Manifest, Step

SAVE_EVERY_SECONDS = 30.0


def train_run(
    config: RunConfig,
    out: Path,
    *,
    watch: Watch | None = None,
    overwrite: bool = False,
    tuning: Json | None = None,
    keep_features: bool = False,
) -> Json:
    """Train as configured, evaluate on the unseen classes, write the run folder; return the report.

    With `evaluation.test: false` the unseen classes stay closed, and what is returned is the validation result.
    `tuning` is kept in the run: `{"trials": 20}` for a configuration that was the best of 20. With `keep_features` so
    is what its trunk gives for every image, for whoever compresses the run.
    """
    watch = watch or Silence()
    begin = time.perf_counter()
    RunFolder.check_free(out, overwrite=overwrite)
    config = divided(config)
    check_parts(config)
    if config.model.weights is not None:  # they are read again for the baseline, perhaps from another folder
        config = changed(config, model={"weights": str(Path(config.model.weights).expanduser().absolute())})
    manifest = open_source(config.data, watch)
    check_asking(manifest, config)
    config, session = _settle(config, manifest, watch)
    # here and not before: whatever can be refused has been, so a refusal leaves no folder and costs no older run
    with RunFolder.create(out, overwrite=overwrite) as run:
        run.write_text(CONFIG, dump(config))
        if tuning is not None:
            run.write_json(TUNING, tuning)
        save_data(run, session.manifest)
        session.begin = begin
        _teach(run, session, first=0, watch=watch)
        return _finish(run, session, watch, keep_features=keep_features)


def resume_run(
    path: Path, *, watch: Watch | None = None, allow_imports: bool = False, keep_features: bool = False
) -> Json:
    """Go on with a stopped run from its last saved step, as if it had never stopped; a finished one is left alone.

    A run whose backbone is code of another package goes on only with `allow_imports`.
    """
    watch = watch or Silence()
    begin = time.perf_counter()
    if RunFolder.open(path).is_sealed():
        report = read_result(path)
        watch.say("this run is finished; there is nothing to go on with. To train for longer, start a new run")
        return report
    with RunFolder.open(path) as run:
        config, manifest = load_config(run), load_data(run)
        ask_before_imports(config, allow_imports=allow_imports)
        if config.compression is not None:
            raise UsageError(half_compressed(run))
        state = run.load_state()
        session = open_session(config, manifest)
        session.begin, first = begin, 0
        if state is None:
            warm_up(session)
        else:
            if state.note:
                watch.warn(state.note)
            refuse_other_run(state.facts, config, manifest)
            first = session.restore(state.tensors, state.facts)
            for change in environment_changes(state.facts):
                watch.warn(f"{change}: the numbers may differ in their last digits from an uninterrupted run")
        run.truncate_log(first)
        watch.say(f"going on after step {first} of {session.steps}")
        _teach(run, session, first=first, watch=watch)
        return _finish(run, session, watch, keep_features=keep_features)


def _settle(config: RunConfig, manifest: Manifest, watch: Watch) -> tuple[RunConfig, Session]:
    """Fill in what the user left open, say each choice, and build the session."""
    parts = {split: manifest.only(split) for split in ("train", "validation", "test")}
    for split, part in parts.items():
        watch.say(f"{split:>10}: {len(part.classes)} classes, {len(part)} images")
    if len(parts["validation"]) and not can_be_judged(parts["validation"]):
        watch.warn("the validation classes are too few or too small to choose a checkpoint by; the last one is kept")
    shapes = choose_shapes(config, parts["train"], shorter_sides(parts["train"]))
    asked_size = config.model.size
    config = _take(config, shapes, watch)
    while True:
        session = open_session(config, manifest)
        if config.training.steps is not None:
            config = changed(config, training={"epochs": config.training.steps / len(session.plan), "steps": None})
        pace = seconds_per_step(session)
        epochs = choose_epochs(
            config,
            classes=len(parts["train"].classes),
            steps_per_epoch=len(session.plan),
            seconds_per_step=pace,
        )
        chosen = config if not epochs.sections else changed(config, **epochs.sections)
        size = None if asked_size else smaller_size(preprocessing_of(config).size, epochs=chosen.training.epochs or 0.0)
        if size is None or config.training.epochs is not None:
            for reason in epochs.reasons:
                watch.say(f"chosen: {reason}")
            session.config = chosen
            warm_up(session)  # here and not for every size that is tried: it looks at each image
            return chosen, session
        watch.say(
            f"chosen: input {size} px instead, so that enough epochs fit into {config.training.minutes:g} minutes"
        )
        config = changed(config, model={"size": size})


def _take(config: RunConfig, choice: Choice, watch: Watch) -> RunConfig:
    for reason in choice.reasons:
        watch.say(f"chosen: {reason}")
    return changed(config, **choice.sections)


def _teach(run: RunFolder, session: Session, *, first: int, watch: Watch) -> None:
    """The training loop: log every step, validate every epoch, save twice a minute, stop when asked."""
    config, steps = session.config.training, session.steps
    saved = time.perf_counter()
    cuda = [session.device] if session.device.type == "cuda" else []
    with stop_flag() as flag, torch.random.fork_rng(devices=cuda):
        if first == 0:  # what we draw comes from generators of its own; a backbone of the user's may hold dropout
            torch.manual_seed(config.seed)
        steps_done = train(
            session.embedder,
            session.objective,
            session.batches,
            session.optimizer,
            steps=steps,
            first=first,
            steps_per_epoch=len(session.plan),
            schedule=lambda step: warmup_cosine(step, steps=steps, warmup=config.warmup),
            clip_norm=config.clip_norm,
            device=session.device,
            precision=config.precision,
        )
        clock = _Clock(first, steps, config.classes_per_batch * config.per_class)  # type: ignore[operator]
        for step in steps_done:
            done = step.number + 1
            run.append_log(step_entry(step, session.objective))
            _look_at_members(run, session, step, watch)
            watch.progress("training", done, steps, clock.facts(step))
            if done % len(session.plan) == 0 or done == steps:
                _look_at_proxies(run, session, step=done, watch=watch)
                _judge(run, session, step=done, watch=watch)
            if time.perf_counter() - saved > SAVE_EVERY_SECONDS or done == steps:
                session.save(run, step=done)
                saved = time.perf_counter()
            if flag.number:
                session.save(run, step=done)
                raise StoppedError(
                    f"Stopped after step {done} of {steps}; everything is saved.\n"
                    f"  Go on with: accord train --resume {run.path}",
                    number=flag.number,
                )


def _look_at_members(run: RunFolder, session: Session, step: Step, watch: Watch) -> None:
    """Say which losses teach nothing, and log those that are left out from now on."""
    found = session.idle.look(step, session.objective)
    for warning in found.warnings:
        watch.warn(warning)
    if found.excluded:
        run.append_log(excluded_entry(step, found.excluded))


def _look_at_proxies(run: RunFolder, session: Session, *, step: int, watch: Watch) -> None:
    """Log what the proxies stand for, and say once if it is next to nothing."""
    told = session.proxies.read()
    if told:
        run.append_log({"proxies": {"step": step, **told}})
    warnings = warnings_of(told)
    if warnings and not session.warned:
        session.warned = True
        for warning in warnings:
            watch.warn(warning)


def _judge(run: RunFolder, session: Session, *, step: int, watch: Watch) -> None:
    """Validate on held-out training classes; keep the best model so far beside the last."""
    found = session.validate(watch)
    if found is None:
        return
    run.append_log({"validation": {"step": step, **found}})
    if found["map@r"] > session.best.get("map@r", -1.0):
        session.best = {"step": step, **found}
        save_embedder(run, session.deployed(), BEST, step=step)


def _finish(run: RunFolder, session: Session, watch: Watch, *, keep_features: bool) -> Json:
    """Choose the checkpoint, write the model, evaluate, write index and report, seal the folder."""
    seconds = session.seconds
    skipped = undone(run.read_log())
    skipped.refuse_all()
    for note in skipped.notes:
        watch.warn(note)
    embedder = session.deployed()
    if session.config.training.keep == "best" and session.best:
        if run.load_tensors(BEST)[1].get("step") == session.best["step"]:
            embedder = load_embedder(run, BEST, allow_imports=True).to(session.device)
            watch.say(f"the model is the one of step {session.best['step']:.0f}, best on the validation classes")
        else:  # killed between two saves and gone on differently, as another device or thread count may
            watch.warn("the best checkpoint is not the one this run remembers; the last one is the model")
    looked, final = Looked.nothing(), None
    if session.config.model.metric != "none":
        _tell_heads(run, embedder, session, watch)
        embedder = with_metric(embedder, session.manifest.only("train"), looked.own, watch)
        final = session.validate(watch, embedder)
    save_embedder(run, embedder)
    write_validation(run, session.config, session.best, final)
    if not session.config.evaluation.test:
        _tell_heads(run, embedder, session, watch)
        return end_untested(run, training_seconds=seconds)
    return report_on(
        run,
        embedder,
        session.config,
        session.manifest,
        watch=watch,
        training_seconds=seconds,
        looked=looked if 0 < len(looked.own.ids) <= MOST else None,  # of more, features are too many to keep
        keep_features=keep_features,
    )


def _tell_heads(run: RunFolder, embedder: Embedder, session: Session, watch: Watch) -> None:
    """What each head contributes, for a run whose report is not made yet; costs a pass over the validation images."""
    part = session.manifest.only("validation")
    if len(embedder.heads) > 1 and len(part):
        tell_heads(run, embedder, embed_items(embedder, part, device=session.device), part, watch)


class _Clock:
    """Images per second and time left, for the progress line."""

    def __init__(self, first: int, steps: int, batch: int) -> None:
        self.first, self.steps, self.batch = first, steps, batch
        self.begin = time.perf_counter()

    def facts(self, step: Step) -> dict[str, str]:
        """What is shown beside the bar."""
        done = step.number + 1 - self.first
        pace = (time.perf_counter() - self.begin) / done
        terms = {name: f"{float(value):.3f}" for name, value in step.terms.items()} if len(step.terms) > 1 else {}
        return {
            "epoch": str(step.epoch + 1),
            "loss": f"{float(step.loss):.3f}",
            "rate": f"{max(step.rates.values(), default=0.0):.1e}",
            "images/s": f"{self.batch / pace:.0f}",
            **terms,
        }

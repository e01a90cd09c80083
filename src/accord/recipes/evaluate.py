"""Judges a run on classes never seen in training, beside the frozen backbone, and writes index and report."""

import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

import accord
from accord.data import ClassMap, ImageTable, check_leaks, fingerprint
from accord.errors import ArtifactError
from accord.geometry import places
from accord.index import ExactIndex
from accord.models import Embedder
from accord.recipes.artifacts import (
    facts_of_split,
    load_config,
    load_data,
    load_embedder,
    save_index,
)
from accord.recipes.artifacts import fingerprint as model_fingerprint
from accord.recipes.build import ask_before_imports, build_baseline
from accord.recipes.clusters import affordable_seeds, fewer_seeds
from accord.recipes.config import RunConfig
from accord.recipes.contributions import tell_heads
from accord.recipes.device import device_at_hand
from accord.recipes.features import Looked, embed_kept, save_looked
from accord.recipes.idle_members import excluded_notes
from accord.recipes.intervals import class_intervals, few_classes, t_intervals
from accord.recipes.judgements import judge_once
from accord.recipes.ledger import Opening, open_test_set
from accord.recipes.per_query import config_fingerprint, facts_of, save_per_query, test_set
from accord.recipes.relations import relation_notes
from accord.recipes.run_evaluation import chance_curve, curve, judge_pixels, judge_test, protocol_of, shown
from accord.recipes.threshold import load_threshold, realised
from accord.recipes.undone import undone
from accord.recipes.watch import Silence, Watch, bar
from accord.reports import ReportInputs, Thumbnails, make_report, render_text, write_report
from accord.runs import RunFolder
from accord.types import Evaluation, Json, Labelled, Manifest, Neighbours, Preprocessing

REPORT = "report.json"
NEIGHBOURS = 8
THUMBNAIL = 64
INTERVALS = ("recall@1", "map@r", "r_precision", "knn_accuracy")


def evaluate_run(path: Path, *, watch: Watch | None = None, allow_imports: bool = False) -> Json:
    """Evaluate a finished run anew and rewrite its index and report; return the report."""
    watch = watch or Silence()
    with RunFolder.open(path) as run:
        config, manifest = load_config(run), load_data(run)
        ask_before_imports(config, allow_imports=allow_imports)  # the baseline is built from the configuration
        embedder = load_embedder(run, allow_imports=allow_imports)
        return report_on(run, embedder.to(device_at_hand(config.training.device, watch)), config, manifest, watch=watch)


def report_on(
    run: RunFolder,
    embedder: Embedder,
    config: RunConfig,
    manifest: Manifest,
    *,
    watch: Watch,
    training_seconds: float | None = None,
    looked: Looked | None = None,
    keep_features: bool = False,
) -> Json:
    """Embed everything, judge trained and frozen on the unseen classes, write index, report and checksums.

    That the test set was opened is written to its ledger first, and then told in the report. Images that were `looked`
    at before are not opened again; with `keep_features` what was seen stays in the run's folder.
    """
    clock = _Clock()
    opening = _open(run, embedder, config, manifest)
    watch.say(f"the test set has been opened {opening.words}")
    device = next(embedder.parameters()).device
    looked = looked or (Looked.nothing() if keep_features else None)
    everything = embed_kept(embedder, manifest, looked and looked.own, device=device, progress=bar(watch, "embedding"))
    save_index(run, ExactIndex(everything), embedder)
    test, classes = _unseen(everything, manifest)
    clock.lap("embedding")
    heads = tell_heads(run, embedder, everything, manifest, watch)
    clock.lap("heads")
    seeds = affordable_seeds(test, config.evaluation.nmi_seeds)
    measured = judge_test(everything, manifest, config, nmi_seeds=seeds, neighbours=NEIGHBOURS)
    trained = shown(measured, config)
    before, told = build_baseline(config).to(device), bar(watch, "frozen baseline")
    frozen = embed_kept(before, manifest.only("test"), looked and looked.frozen, device=device, progress=told)
    frozen_seeds = affordable_seeds(frozen, config.evaluation.nmi_seeds)
    frozen_measured = judge_once(frozen, manifest, config, looked and looked.judged, nmi_seeds=frozen_seeds)
    if looked is not None and keep_features:
        save_looked(run, looked)
    baseline = shown(frozen_measured, config)
    pixels = judge_pixels(manifest, config, watch)
    clock.lap("evaluation")
    earlier = _seconds_before(run, training_seconds)
    seconds = {**earlier, **clock.laps}
    inputs = _inputs(run, trained, baseline, test, classes, manifest, config, seconds, opening)
    curves = {"trained": curve(measured), "baseline": curve(frozen_measured), "chance": chance_curve(measured)}
    protocol = protocol_of(manifest, config, nmi_seeds=seeds)
    notes = [*_notes(trained, seeds, config, manifest), *opening.notes, *relation_notes(manifest)]
    notes += [*undone(inputs.history).notes, *excluded_notes(inputs.history, embedder.weights)]
    inputs = replace(inputs, recall=curves, raw_pixels=pixels, protocol=protocol, heads=heads, notes=notes)
    by_t = t_intervals(trained.per_query, trained.query_labels)
    report = {**make_report(inputs), "t_intervals": by_t, "test_set": opening.as_json()}
    _tell_threshold(report, run, embedder, everything, manifest, watch)
    facts = facts_of(run, config, manifest, embedder, nmi_seeds=seeds, training_seconds=earlier.get("training"))
    save_per_query(run, trained, baseline, manifest, {**facts, "test_set": report["test_set"]})
    write_report(run.path, report, _thumbnails(manifest, report))
    run.seal()
    return report


def _tell_threshold(
    report: Json, run: RunFolder, embedder: Embedder, everything: Labelled, manifest: Manifest, watch: Watch
) -> None:
    """What the threshold of a calibrated run does on the test classes, which it was not set on."""
    document = load_threshold(run, embedder)
    if document is None:
        return
    found = report["threshold"] = realised(document, everything, manifest, watch=watch)
    (low, high), share = found["false_accepts"]["interval"], found["false_accepts"]["share"]
    report["notes"].append(
        f"The threshold {found['same_above']:.4f} was set to let pass {found['far']:.1%} of strangers; of the test's, "
        f"{share:.1%} pass (95 %: {low:.1%} to {high:.1%}), and of known ones {found['accepted']['share']:.1%}."
    )


def read_report(path: Path) -> Json:
    """The report of a finished run."""
    run = RunFolder.open(path)
    if not run.exists(REPORT):
        raise ArtifactError(
            f"{path} holds no report. If its training has ended, make one: accord evaluate {path}\n"
            f"  Otherwise go on with: accord train --resume {path}"
        )
    report: Json = run.read_json(REPORT)
    return report


def report_html(path: Path) -> str | None:
    """The report's page; None if the run has none."""
    page = Path(path) / "report.html"
    return page.read_text(encoding="utf-8") if page.is_file() else None


def summary(report: Json) -> str:
    """The headline of a report as plain text."""
    return render_text(report)


def _unseen(everything: Labelled, manifest: Manifest) -> tuple[Labelled, ClassMap]:
    """The rows of the test classes, with labels numbered among these."""
    part = manifest.only("test")
    if not len(part):
        raise ArtifactError("This run has no unseen classes to be judged on; data.test was 0.")
    names = ClassMap(part.classes)
    wanted = torch.tensor([item.split == "test" for item in manifest.items])
    return Labelled(everything.embeddings[wanted], names.numbers(part), everything.ids[wanted]), names


def _inputs(
    run: RunFolder,
    trained: Evaluation,
    baseline: Evaluation,
    test: Labelled,
    classes: ClassMap,
    manifest: Manifest,
    config: RunConfig,
    seconds: Mapping[str, float],
    opening: Opening,
) -> ReportInputs:
    return ReportInputs(
        trained=trained,
        baseline=baseline,
        test=test,
        neighbours=_neighbours(test, trained),
        class_names=classes.names,
        run=run.path.name,
        title=f"{manifest.name}: {config.recipe}",
        paths={item.id: item.path for item in manifest.items if item.split == "test"},
        history=run.read_log(),
        intervals=class_intervals({name: trained.per_query[name] for name in INTERVALS}, trained.query_labels),
        gain_intervals=class_intervals(
            {name: trained.per_query[name] - baseline.per_query[name] for name in INTERVALS}, trained.query_labels
        ),
        configuration=config.model_dump(mode="json"),
        data={
            "name": manifest.name,
            "sha256": fingerprint(manifest),
            "split": facts_of_split(manifest),
            "notes": list(manifest.notes),
            "test_set_opened": opening.words,
        },
        environment=environment(),
        seconds=seconds,
        peak_memory_bytes=peak_memory_bytes(),
        tsne=config.evaluation.map == "tsne",
    )


def _neighbours(test: Labelled, evaluation: Evaluation) -> Neighbours:
    """What the evaluation found for each row of `test`; nothing for an item that doesn't ask."""
    assert evaluation.neighbours is not None
    row = places(test.ids, evaluation.query_ids)
    silent = (row < 0)[:, None]
    scores, ids = (table[row] for table in evaluation.neighbours)
    return Neighbours(scores.masked_fill(silent, -torch.inf), ids.masked_fill(silent, -1))


def _open(run: RunFolder, embedder: Embedder, config: RunConfig, manifest: Manifest) -> Opening:
    """Write to the ledger that the test set is opened now."""
    gallery = test_set(manifest)["gallery"]["fingerprint"]
    model = model_fingerprint(embedder)
    return open_test_set(gallery, model=model, config=config_fingerprint(config), run=run.path.name)


def _notes(trained: Evaluation, seeds: int, config: RunConfig, manifest: Manifest) -> list[str]:
    notes = [*few_classes(trained.query_labels), *fewer_seeds(seeds, config.evaluation.nmi_seeds)]
    if (how := config.compression) is not None:
        notes.append(f"The embedding was compressed to {how.dim} numbers by {how.method} (compression.json says how).")
    within = check_leaks(manifest)["within"].get("test", 0)
    if within:
        notes.append(
            f"{within} images of the unseen classes repeat another one byte for byte; copies find each other for free."
        )
    if trained.counts.get("singletons"):
        notes.append(
            f"{trained.counts['singletons']} test images are alone in their class: they distract, but don't ask."
        )
    return notes


def _thumbnails(manifest: Manifest, report: Json) -> Thumbnails:
    """Pictures of the items that the report speaks of, and of no others: there may be 60,000."""
    rows = [row for row, item in enumerate(manifest.items) if str(item.id) in report["items"]]
    table = ImageTable(manifest, Preprocessing(THUMBNAIL, fit="pad"), budget_bytes=0)
    pixels = table.images(rows)
    return Thumbnails([manifest.items[row].id for row in rows], pixels.permute(0, 2, 3, 1).contiguous())


def _seconds_before(run: RunFolder, training: float | None) -> dict[str, float]:
    """How long training took: told by the caller, or found in the report that is being replaced."""
    if training is not None:
        return {"training": training}
    try:
        return {"training": float(run.read_json(REPORT)["seconds"]["training"])}
    except (ArtifactError, KeyError, TypeError, ValueError):  # none, or one that is about to be replaced by a good one
        return {}


def environment() -> Json:
    """Versions and machine, as far as they can change a number."""
    return {
        "accord": accord.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def peak_memory_bytes() -> int | None:
    """Largest resident memory of this process so far; None on systems that don't tell."""
    try:
        import resource  # here and not above: Windows has none
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Clock:
    """Seconds per phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a phase."""
        now = time.perf_counter()
        self.laps[name], self._at = now - self._at, now

"""What a compression found, as `compression.json` says it, and the run that is made of it, judged like the first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from accord.evaluation import evaluate
from accord.geometry import normalise
from accord.models import Embedder
from accord.recipes.artifacts import COMPRESSION, CONFIG, fingerprint, save_data, save_embedder
from accord.recipes.compress.methods import Candidate, Material
from accord.recipes.compress.space import Cost, Stored, cost_of, outputs_of
from accord.recipes.config import RunConfig
from accord.recipes.evaluate import REPORT, report_on
from accord.recipes.features import Looked
from accord.recipes.per_query import TUNING
from accord.recipes.resolve import changed, dump
from accord.recipes.untested import VALIDATION, end_untested
from accord.recipes.watch import Watch
from accord.runs import RunFolder
from accord.types import Json, Labelled, Manifest

SCHEMA_VERSION = 1
HEAD = "compressed"


class Source(NamedTuple):
    """The run that is compressed."""

    run: RunFolder
    config: RunConfig
    embedder: Embedder
    used: Embedder  # what the small one is held against
    manifest: Manifest
    train: Stored
    validation: Stored | None
    looked: Looked


@torch.no_grad()
def judged(head: nn.Module, part: Stored | None) -> dict[str, float] | None:
    """What a head finds on validation classes, where there are any."""
    if part is None:
        return None
    return _metrics(normalise(head(part.features)), part)


def _metrics(embeddings: torch.Tensor, part: Stored) -> dict[str, float]:
    found = evaluate(Labelled(embeddings, part.labels, torch.arange(len(part.labels))), clusters=False).metrics
    return {name: found[name] for name in ("recall@1", "map@r")}


@torch.no_grad()
def document_of(
    source: Source, given: Material, chosen: Candidate, tried: list[Json], dim: int, *, fitted: bool, named: bool
) -> Json:
    """What `compression.json` says."""
    embedder, part = source.used, source.validation
    heads = dict(embedder.heads.items())
    before = None if part is None else _metrics(embedder.join(outputs_of(heads, part.features)), part)
    costs = [cost_of(head) for head in embedder.heads.values()]
    was = Cost(*(sum(column) for column in zip(*costs, strict=True)))
    return {
        "schema_version": SCHEMA_VERSION,
        "source": str(source.run.path.resolve()),
        "source_model": fingerprint(embedder),
        "method": chosen.method,
        "scale": chosen.scale,
        "dim": dim,
        "retained": chosen.retained,
        "weights": dict(given.shares),
        "heads": dict(given.shares) if named else None,
        "fit_weights": fitted,
        "seed": given.seed,
        "before": {"numbers": embedder.dim, **was._asdict()},
        "after": {"numbers": dim, **cost_of(chosen.head)._asdict()},
        "validation": None if part is None else {"before": before, "after": judged(chosen.head, part)},
        "tried": tried,
    }


def write_compressed(
    source: Source, chosen: Candidate, document: Json, out: Path, *, overwrite: bool, watch: Watch
) -> Json:
    """The new run: model, configuration, how it was made, and what it scores on the unseen classes."""
    old, embedder = source.run, source.embedder
    how = {key: document[key] for key in ("method", "scale", "dim", "fit_weights", "seed", "heads")}
    config = changed(source.config, compression=how)
    small = Embedder(embedder.backbone, embedder.pool, {HEAD: chosen.head}, preprocessing=embedder.preprocessing)
    small = small.to(next(embedder.backbone.parameters()).device).eval()
    training = _training_seconds(old)
    with RunFolder.create(out, overwrite=overwrite) as run:
        run.write_json(COMPRESSION, document)  # first: it tells whoever finds half a run what to do
        run.write_text(CONFIG, dump(config))
        save_data(run, source.manifest)
        for entry in old.read_log():
            run.append_log(entry)
        if old.exists(TUNING):
            run.write_json(TUNING, old.read_json(TUNING))
        save_embedder(run, small)
        run.write_json(VALIDATION, {"validation": document["validation"] and document["validation"]["after"]})
        result = {"run": str(out), **document, "metrics": None, "original": None}
        if not config.evaluation.test:
            watch.say("the unseen classes of this run stay closed (evaluation.test=false), and so do the new one's")
            end_untested(run, training_seconds=training or 0.0)
            return result
        report = report_on(
            run, small, config, source.manifest, watch=watch, training_seconds=training, looked=source.looked
        )
    return {**result, "metrics": report["metrics"], "original": _report(old).get("metrics")}


def _report(run: RunFolder) -> Mapping[str, Any]:
    """A run's report; empty where it has none."""
    found: Json = run.read_json(REPORT) if run.exists(REPORT) else {}
    return found


def _training_seconds(run: RunFolder) -> float | None:
    """How long the training of what is compressed took, where its files tell."""
    told = run.read_json(VALIDATION) if run.exists(VALIDATION) and not run.exists(REPORT) else _report(run)
    found = (told.get("seconds") or {}).get("training")
    return None if found is None else float(found)

"""Keeps what every single query of a run scored, and under which conditions, so that runs can be compared later."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

import accord
from accord.data import fingerprint
from accord.errors import ArtifactError
from accord.models import Embedder
from accord.recipes.artifacts import fingerprint as model_fingerprint
from accord.recipes.config import RunConfig
from accord.recipes.run_evaluation import protocol_of
from accord.recipes.undone import undone
from accord.runs import RunFolder
from accord.types import Evaluation, Json, Manifest

PER_QUERY = "evaluation.safetensors"
TUNING = "tuning.json"
SCHEMA_VERSION = 1
METRICS_VERSION = 1  # raised whenever the code may give a query another value than before


class PerQuery(NamedTuple):
    """What each query of a run scored: `trained` and `baseline` map a metric to one value per query, as float64.

    `labels` are places in `facts["class_names"]`; `places` number the images of the test set by their paths, so that
    they agree between runs whatever their ids.
    """

    ids: Int[Tensor, " query"]
    labels: Int[Tensor, " query"]
    places: Int[Tensor, " query"]
    trained: Mapping[str, Float[Tensor, " query"]]
    baseline: Mapping[str, Float[Tensor, " query"]]
    facts: Json


def save_per_query(run: RunFolder, trained: Evaluation, baseline: Evaluation, manifest: Manifest, facts: Json) -> None:
    """Write `evaluation.safetensors`: ids, labels, places, and every metric of the trained and the frozen model."""
    tensors = {
        "ids": trained.query_ids,
        "labels": trained.query_labels,
        "places": _places(manifest, trained.query_ids),
        **{f"trained/{name}": values.double() for name, values in trained.per_query.items()},
        **{f"baseline/{name}": values.double() for name, values in baseline.per_query.items()},
    }
    run.save_tensors(PER_QUERY, tensors, facts)


def load_per_query(run: RunFolder) -> PerQuery:
    """Read it back; ArtifactError if the run has none, or one that this version can't read."""
    if not run.exists(PER_QUERY):
        raise ArtifactError(f"{run.path} holds no {PER_QUERY}. Evaluate it again: accord evaluate {run.path}")
    tensors, facts = run.load_tensors(PER_QUERY)
    if facts.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"{run.path / PER_QUERY} has schema_version {facts.get('schema_version')!r}; this version of accord reads "
            f"{SCHEMA_VERSION}. Evaluate it again: accord evaluate {run.path}"
        )
    if not len(tensors["ids"]):
        raise ArtifactError(f"{run.path / PER_QUERY} holds no queries. Evaluate it again: accord evaluate {run.path}")
    return PerQuery(
        tensors["ids"],
        tensors["labels"],
        tensors["places"],
        _side(tensors, "trained"),
        _side(tensors, "baseline"),
        facts,
    )


def facts_of(
    run: RunFolder,
    config: RunConfig,
    manifest: Manifest,
    embedder: Embedder,
    *,
    nmi_seeds: int,
    training_seconds: float | None,
) -> Json:
    """Everything that two runs must share, or that sets them apart: gallery, protocol, model, budget, seed."""
    model, training = config.model, config.training
    taken = undone(run.read_log())
    return {
        "schema_version": SCHEMA_VERSION,
        "accord_version": accord.__version__,
        "metrics_version": METRICS_VERSION,
        "run": run.path.name,
        "recipe": config.recipe,
        "seed": training.seed,
        **test_set(manifest),
        "training_data": fingerprint(_learnt_from(manifest)),
        "protocol": protocol_of(manifest, config, nmi_seeds=nmi_seeds),
        "backbone": model.backbone,
        "weights": _weights(config),
        "augmentation": config.augment.model_dump(mode="json"),
        "input_size": f"{model.size} px, {model.fit}",
        "embedding_size": embedder.dim,
        "batch": f"{training.classes_per_batch} classes × {training.per_class}",
        "epochs": training.epochs,
        "steps": taken.of,
        "skipped_steps": taken.steps,
        "training_seconds": training_seconds,
        "tuning": _tuning(run),
        "model": model_fingerprint(embedder),
        "config_sha256": config_fingerprint(config),
        "config": config.model_dump(mode="json"),
    }


def test_set(manifest: Manifest) -> Json:
    """What a run is judged on: fingerprint over paths, classes and contents, name, sizes, and the names of classes."""
    part = manifest.only("test")
    gallery = {
        "fingerprint": fingerprint(part),
        "name": manifest.name,
        "images": len(part),
        "classes": len(part.classes),
    }
    return {"gallery": gallery, "class_names": list(part.classes)}


def config_fingerprint(config: RunConfig) -> str:
    """SHA-256 of a configuration."""
    return hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _places(manifest: Manifest, ids: Tensor) -> Tensor:
    ordered = sorted(manifest.only("test").items, key=lambda item: item.path.encode(errors="surrogateescape"))
    place = {item.id: number for number, item in enumerate(ordered)}
    return torch.tensor([place[item] for item in ids.tolist()], dtype=torch.int64)


def _side(tensors: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{side}/"): values for name, values in tensors.items() if name.startswith(f"{side}/")}


def _learnt_from(manifest: Manifest) -> Manifest:
    items = tuple(item for item in manifest.items if item.split != "test")
    return Manifest(manifest.name, manifest.root, items)


def _weights(config: RunConfig) -> str:
    """The weights the backbone began with: of its package, none, or a file of one's own by its contents."""
    if config.model.weights is not None:
        path = Path(config.model.weights)
        return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" if path.is_file() else f"file {path.name}"
    return "packaged" if config.model.pretrained else "none"


def _tuning(run: RunFolder) -> int:
    """How many trials its options were tuned with; whoever tunes says so in `tuning.json`."""
    return int(run.read_json(TUNING)["trials"]) if run.exists(TUNING) else 0

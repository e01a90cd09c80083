"""Reads and writes what a run folder holds for people: the model, the index, the data table, the configuration."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from accord.data import ImageTable, manifest_from_json, manifest_to_json
from accord.errors import ArtifactError, DataError, UsageError
from accord.index import ExactIndex
from accord.models import Embedder, embed
from accord.recipes.config import RunConfig
from accord.recipes.resolve import read_yaml, validate
from accord.runs import RunFolder
from accord.types import Json, Labelled, Manifest

MODEL, BEST, INDEX, DATA, CONFIG = (
    "model.safetensors",
    "best.safetensors",
    "index/exact.safetensors",
    "data.json",
    "config.yaml",
)
COMPRESSION = "compression.json"  # how a run was made of another one; the first file that it gets
EMBED_BATCH = 128


def save_embedder(run: RunFolder, embedder: Embedder, name: str = MODEL, *, step: int | None = None) -> None:
    """Write backbone, heads, test weights and preprocessing as one safetensors file; `step` says when it was so."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in embedder.state_dict().items()}
    run.save_tensors(name, tensors, {"embedder": json.dumps(embedder.describe()), "step": step})


def load_embedder(run: RunFolder, name: str = MODEL, *, allow_imports: bool = False) -> Embedder:
    """Read an Embedder back, in evaluation mode; a file that is not one is refused.

    A model whose backbone is code of another package is only loaded with `allow_imports`.
    """
    if name == MODEL and not run.exists(MODEL) and run.exists(COMPRESSION):
        raise ArtifactError(half_compressed(run))
    _expect(run, name, "model", "Its training has not ended; go on with: accord train --resume")
    tensors, metadata = run.load_tensors(name)
    if "embedder" not in metadata:
        raise ArtifactError(f"{run.path / name} holds tensors, but not an accord Embedder.")
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and then replaced
        embedder = Embedder.from_description(json.loads(metadata["embedder"]), allow_imports=allow_imports)
    try:
        embedder.load_state_dict(tensors)
    except RuntimeError as error:
        raise ArtifactError(f"{run.path / name} does not fit its own description: {error}") from None
    return embedder.eval()


def half_compressed(run: RunFolder) -> str:
    """What to say of a run that was to be another one's compression, and has no model."""
    source = run.read_json(COMPRESSION)["source"] if run.exists(COMPRESSION) else "RUN"
    return (
        f"{run.path} was compressed from another run, and stopped before its end. There is no training to go on with.\n"
        f"  Make it anew: accord compress {source} --out {run.path} --overwrite"
    )


def load(path: str | Path, *, allow_imports: bool = False) -> Embedder:
    """The trained Embedder of a run folder, ready to use: `accord.load("runs/objects")(images)`.

    A run whose backbone is your own code (`package.module:factory`) imports that code only with `allow_imports`.
    """
    return load_embedder(RunFolder.open(Path(path)), allow_imports=allow_imports)


def fingerprint(embedder: Embedder) -> str:
    """SHA-256 over weights and description: equal only for models that embed alike."""
    digest = hashlib.sha256(json.dumps(embedder.describe(), sort_keys=True).encode())
    for key, value in sorted(embedder.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_index(run: RunFolder, index: ExactIndex, embedder: Embedder) -> None:
    """Write the exact index with the fingerprint of the model that made it."""
    run.save_tensors(INDEX, index.to_tensors(), {"model": fingerprint(embedder)})


def load_index(run: RunFolder, embedder: Embedder) -> ExactIndex:
    """Read the index; one made by another model is refused, since its neighbours would be noise."""
    _expect(run, INDEX, "index", "Make it: accord evaluate")
    tensors, metadata = run.load_tensors(INDEX)
    if metadata.get("model") != fingerprint(embedder):
        raise ArtifactError(f"{run.path / INDEX} was made by another model. Make it anew: accord evaluate {run.path}")
    return ExactIndex.from_tensors(tensors)


def save_data(run: RunFolder, manifest: Manifest) -> None:
    """Write the table of images, classes and splits, so that every later command uses the same."""
    run.write_json(DATA, manifest_to_json(manifest))


def load_data(run: RunFolder) -> Manifest:
    """The table of images the run was made from; its folder must still be there."""
    try:
        manifest = manifest_from_json(run.read_json(DATA))
    except DataError as error:
        raise ArtifactError(f"{run.path / DATA}: {error}") from None
    if not manifest.root.exists():
        raise DataError(
            f"The images of this run lay at {manifest.root}, and that is gone.\n"
            "  Move them back, or put a link to them there."
        )
    return manifest


def load_config(run: RunFolder) -> RunConfig:
    """The resolved configuration of a run."""
    try:
        raw = read_yaml(run.read_text(CONFIG), source=str(run.path / CONFIG))
        return validate(raw if isinstance(raw, dict) else {})
    except UsageError as error:
        raise ArtifactError(f"{run.path / CONFIG} is not what accord wrote.\n{error}") from None


def _expect(run: RunFolder, name: str, what: str, remedy: str) -> None:
    if not run.exists(name):
        raise ArtifactError(f"{run.path} holds no {what} ({name}). {remedy} {run.path}")


def embed_items(
    embedder: Embedder,
    manifest: Manifest,
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """Embed every item of a manifest in order; labels are numbers of `manifest.classes`, ids are the items' ids."""
    table = ImageTable(manifest, embedder.preprocessing, budget_bytes=0)
    told = None if progress is None else lambda done: progress(done, len(table))
    return embed(embedder, table.batches(EMBED_BATCH), device=device, progress=told)


def facts_of_split(manifest: Manifest) -> Json:
    """Classes and images of each split."""
    return {
        split: {"classes": len(part.classes), "images": len(part)}
        for split in ("train", "validation", "test")
        if len(part := manifest.only(split))
    }

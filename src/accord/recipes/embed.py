"""Embeds images with a run's model and writes the vectors, with the names of their rows, to a file."""

import os
from pathlib import Path

from accord.errors import ResourceError, UsageError
from accord.recipes.artifacts import embed_items, load_config, load_embedder
from accord.recipes.device import device_at_hand
from accord.recipes.source import open_images
from accord.recipes.watch import Silence, Watch
from accord.reports import write_embeddings
from accord.runs import RunFolder
from accord.types import Json

SUFFIXES = (".npy", ".safetensors", ".csv")


def embed_source(
    run_path: Path,
    source: str,
    out: Path,
    *,
    watch: Watch | None = None,
    overwrite: bool = False,
    allow_imports: bool = False,
) -> Json:
    """Embed one image, a folder or an archive; return what was written and where."""
    watch = watch or Silence()
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out {out}: give a file name that ends in {', '.join(SUFFIXES)}.")
    _refuse_to_write(out, overwrite)
    run = RunFolder.open(run_path)
    embedder = load_embedder(run, allow_imports=allow_imports)
    device = device_at_hand(load_config(run).training.device, watch)
    manifest = open_images(source, watch)
    labelled = embed_items(
        embedder.to(device),
        manifest,
        device=device,
        progress=lambda done, total: watch.progress("embedding", done, total),
    )
    rows = [{"path": item.path, "label": item.label} for item in manifest.items]
    write_embeddings(out, labelled.embeddings, rows)
    return {"out": str(out), "items": len(manifest), "dim": labelled.embeddings.shape[1], "root": str(manifest.root)}


def _refuse_to_write(out: Path, overwrite: bool) -> None:
    """What would only be found out after all images are embedded, or would cost somebody a file."""
    for file in (out, out.with_suffix(".json")) if out.suffix == ".npy" else (out,):
        if file.is_dir() or (file.exists() and not overwrite):
            raise UsageError(f"{file} exists already. Give another name{'' if file.is_dir() else ', or --overwrite'}.")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: there is no folder {out.parent}. Make it, or give another.")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise ResourceError(f"--out {out}: {out.parent} can't be written to. Give another folder.")

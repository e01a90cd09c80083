"""Embeds images with a run's model and writes the vectors, with the names of their rows, to a file."""

from pathlib import Path

from accord.data import loose_images
from accord.errors import UsageError
from accord.recipes.artifacts import embed_items, load_config, load_embedder
from accord.recipes.device import device_at_hand
from accord.recipes.source import find_source
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
    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists already. Give another name, or --overwrite.")
    run = RunFolder.open(run_path)
    embedder = load_embedder(run, allow_imports=allow_imports)
    device = device_at_hand(load_config(run).training.device, watch)
    loose = loose_images(Path(source))
    manifest = loose if loose is not None else find_source(source, watch)
    labelled = embed_items(
        embedder.to(device),
        manifest,
        device=device,
        progress=lambda done, total: watch.progress("embedding", done, total),
    )
    rows = [{"path": item.path, "label": item.label} for item in manifest.items]
    write_embeddings(out, labelled.embeddings, rows)
    return {"out": str(out), "items": len(manifest), "dim": labelled.embeddings.shape[1], "root": str(manifest.root)}

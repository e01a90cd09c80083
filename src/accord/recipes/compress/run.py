"""Compresses a finished run to one head of a few numbers, and writes it as a run of its own, judged like the first."""

import time
from collections.abc import Mapping
from pathlib import Path

import torch

from accord.checks import check_count
from accord.data import ClassMap
from accord.ensembles import fit_shares
from accord.errors import AccordError, DataError, UsageError
from accord.models import Embedder
from accord.recipes.artifacts import load_config, load_data, load_embedder
from accord.recipes.build import ask_before_imports
from accord.recipes.compress.heads import pick_heads
from accord.recipes.compress.methods import (
    AUTO,
    HEADS,
    METHODS,
    WCCN,
    Candidate,
    Material,
    check_names,
    plans,
    usual_scale,
)
from accord.recipes.compress.space import Stored, cost_of, heads_of, outputs_of
from accord.recipes.compress.write import Source, document_of, judged, write_compressed
from accord.recipes.config import LARGEST_SEED, RunConfig
from accord.recipes.device import device_at_hand
from accord.recipes.features import load_looked
from accord.recipes.metric import without_metric
from accord.recipes.session import can_be_judged
from accord.recipes.watch import Silence, Watch, bar
from accord.runs import RunFolder
from accord.types import Json, Manifest

MOST_FOR_SHARES = 1000


def compress_run(
    path: Path,
    *,
    dim: int | None = None,
    method: str = AUTO,
    scale: str | None = None,
    fit_weights: bool = False,
    heads: Mapping[str, float | None] | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    watch: Watch | None = None,
    allow_imports: bool = False,
) -> Json:
    """Compress a run's embedding to `dim` numbers, write it as a new run and judge it beside the first; return both.

    Everything is fitted on the training classes; `auto` and `fit_weights` decide by the validation classes. `dim` is
    by default that of one head, and for `wccn` all there are. The trunk stays as it is, so what is compressed costs one
    pass over the images.
    `scale` is `unit`, `length` or `distance`: whether each image's output has unit length, as in use, or each head is
    divided by its mean length or mean distance; the latter two fold into one linear head where heads are linear.
    A metric that training ended with is taken off first. `heads` names those that are made one, all by default, each
    with its share of the embedding or None for the one it has in the run. `trunk`, the pooled feature, is a head of
    every run. The method `heads` makes no map: it puts the named ones side by side as they are.
    """
    watch, begin = watch or Silence(), time.perf_counter()
    check_names(method, scale)
    check_count("compress", "seed", seed, low=0, high=LARGEST_SEED)
    run = RunFolder.open(path)
    config = load_config(run)
    ask_before_imports(config, allow_imports=allow_imports)
    used = load_embedder(run, allow_imports=allow_imports)
    embedder = pick_heads(without_metric(used), heads)
    manifest = load_data(run)
    asked, dim = dim, _dim(dim, method, embedder, config, len(manifest.only("train")))
    out = out or _beside(path, dim)
    if out.resolve() == path.resolve():
        raise UsageError("compress: what is compressed becomes a run of its own; give another folder: --out.")
    RunFolder.check_free(out, overwrite=overwrite)
    source = _look(run, config, embedder, used, manifest, watch)
    shares = _shares(source, fit_weights, watch)
    given = Material(heads_of(embedder, shares), shares, source.train, 2 * _head_dim(config), seed, watch)
    dim = _left(dim, asked, method, embedder, given)
    chosen, tried = _choose(source, given, dim, method, scale, watch)
    document = document_of(source, given, chosen, tried, dim, fitted=fit_weights, named=heads is not None)
    document["seconds"] = time.perf_counter() - begin
    return write_compressed(source, chosen, document, out, overwrite=overwrite, watch=watch)


def _beside(path: Path, dim: int) -> Path:
    """RUN-DIM beside RUN; a run named as `.` goes by its whole path."""
    named = path.resolve() if path.name in ("", "..") else path
    return named.with_name(f"{named.name}-{dim}")


def _head_dim(config: RunConfig) -> int:
    assert config.model.dim is not None, "a run's embedding size was chosen before it trained"
    return config.model.dim


def _numbers(embedder: Embedder) -> int:
    """How many numbers the heads have that count for something."""
    return sum(embedder.dims[name] for name, weight in embedder.weights.items() if weight > 0)


def _left(dim: int, asked: int | None, method: str, embedder: Embedder, given: Material) -> int:
    """How many numbers there can be of those heads that fitted weights have left."""
    whole = sum(embedder.dims[name] for name in given.heads)
    if method == HEADS or (method == WCCN and asked is None):
        return whole
    if dim > whole:
        raise UsageError(
            f"compress: dim={dim}, but the fitted weights leave only {', '.join(given.heads)}, which have {whole} "
            "numbers.\n  Give fewer, or leave out --fit-weights."
        )
    return dim


def _dim(dim: int | None, method: str, embedder: Embedder, config: RunConfig, images: int) -> int:
    """How many numbers, refused where there are not so many."""
    whole = _numbers(embedder)
    if method == HEADS:
        if dim not in (None, whole):
            raise UsageError(
                f"compress: dim={dim}, but these heads have {whole} numbers side by side, and the method heads "
                "makes no fewer of them. Leave --dim out, or take --method pca."
            )
        return whole
    if dim is None and method == WCCN:
        return whole
    if dim is None:
        dim = _head_dim(config)
        if dim >= whole:
            raise UsageError(f"compress: this run's embeddings have {whole} numbers; say how few: --dim.")
    check_count("compress", "dim", dim)
    if dim > whole:
        what = "this run's embeddings" if whole == embedder.dim else "the heads of this run that count"
        raise UsageError(f"compress: dim={dim}, but {what} have {whole} numbers. Give fewer.")
    if dim >= images and (method, dim) != (WCCN, whole):
        raise DataError(
            f"compress: dim={dim}, but there are {images} training images, which span {images - 1} directions.\n"
            f"  Give --dim {max(1, images - 1)} or less."
        )
    return dim


def _look(
    run: RunFolder, config: RunConfig, embedder: Embedder, used: Embedder, manifest: Manifest, watch: Watch
) -> Source:
    """One pass over the images that may be looked at: those of the test stay closed."""
    device = device_at_hand(config.training.device, watch)
    embedder, looked = embedder.to(device), load_looked(run)
    parts: dict[str, Stored | None] = {"validation": None}
    for split in ("train", "validation"):
        part = manifest.only(split)
        if split == "train" or can_be_judged(part):
            told = bar(watch, f"embedding {split}")
            features = looked.own.of(embedder, part, device=device, progress=told)
            parts[split] = Stored(features, ClassMap(part.classes).numbers(part))
    embedder.heads.cpu()
    used.heads.cpu()
    train = parts["train"]
    assert train is not None, "a run without training images was refused"
    return Source(run, config, embedder, used, manifest, train, parts["validation"], looked)


def _shares(source: Source, fit: bool, watch: Watch) -> dict[str, float]:
    """The run's own weights of its heads, or those fitted on held-out classes."""
    total = sum(source.embedder.weights.values())
    own = {name: weight / total for name, weight in source.embedder.weights.items()}
    if not fit:
        return own
    if len(own) < 2:
        raise UsageError("compress: --fit-weights weighs heads against each other, and this run has one. Leave it out.")
    part = source.validation
    if part is None:
        watch.warn("no validation classes to fit the heads' weights on; they are fitted on the training classes")
        part = source.train
    rows = torch.arange(len(part.labels))
    if len(rows) > MOST_FOR_SHARES:
        rows = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_FOR_SHARES]
    with torch.no_grad():
        outputs = outputs_of(dict(source.embedder.heads.items()), part.features[rows])
    found = fit_shares(outputs, part.labels[rows], start=own)
    for name, share in found.items():
        watch.say(f"weight of {name}: {share:.3f} (was {own[name]:.3f})")
    return found


def _choose(
    source: Source, given: Material, dim: int, method: str, scale: str | None, watch: Watch
) -> tuple[Candidate, list[Json]]:
    """The candidate that does best on the validation classes, and what each of them does there."""
    if method != AUTO:
        made = METHODS[method](given, dim, scale or usual_scale(method))
        return made, [_told(made, source.validation)]
    if source.validation is None:
        watch.warn("no validation classes to choose a method by; taking pca")
        return _choose(source, given, dim, "pca", scale, watch)
    found: list[tuple[Candidate, Json]] = []
    for name, at in plans(given.heads, scale):
        try:
            made = METHODS[name](given, dim, at)
            told = _told(made, source.validation)
        except AccordError as error:
            watch.say(f"{name} can't be had here: {error}")
            continue
        found.append((made, told))
        watch.say(f"{name}, scale {at}: MAP@R {told['map@r']:.4f}, R@1 {told['recall@1']:.4f} on validation")
    if not found:
        raise DataError("compress: no method can be had for this run; name one to see why: --method pca.")
    best = max(found, key=lambda pair: (pair[1]["map@r"], -pair[1]["multiply_adds"]))[0]
    return best, [told for _, told in found]


def _told(made: Candidate, part: Stored | None) -> Json:
    facts: Json = {"method": made.method, "scale": made.scale, "retained": made.retained}
    return {**facts, **cost_of(made.head)._asdict(), **(judged(made.head, part) or {})}

"""Pooled trunk features of images, kept for whoever asks again: nobody pays twice for the same pass over the images."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from accord.data import ClassMap, ImageTable
from accord.geometry import places
from accord.models import Embedder, evaluating
from accord.recipes.artifacts import EMBED_BATCH, MODEL, embed_items
from accord.recipes.judgements import Judgements, as_tensors, from_tensors
from accord.runs import RunFolder
from accord.types import Labelled, Manifest

FEATURES = "features.safetensors"


class Features:
    """What one trunk gives for the images it was shown so far, by item id, in main memory."""

    def __init__(self, ids: Tensor | None = None, rows: Tensor | None = None) -> None:
        self.ids = torch.empty(0, dtype=torch.int64) if ids is None else ids
        self.rows = torch.empty(0, 0) if rows is None else rows

    def of(
        self,
        embedder: Embedder,
        manifest: Manifest,
        *,
        device: torch.device,
        progress: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """(item, feature) of a manifest's items, in their order; one pass over those that are not known yet.

        Every embedder given must have the same trunk, on `device`.
        """
        wanted = torch.tensor([item.id for item in manifest.items], dtype=torch.int64)
        at = places(wanted, self.ids)
        if bool((at < 0).any()):
            new = [item for item, place in zip(manifest.items, at.tolist(), strict=True) if place < 0]
            part = Manifest(manifest.name, manifest.root, tuple(new))
            rows = _pass(embedder, ImageTable(part, embedder.preprocessing, budget_bytes=0), device, progress)
            self.rows = torch.cat([self.rows, rows]) if len(self.ids) else rows
            self.ids = torch.cat([self.ids, torch.tensor([item.id for item in new], dtype=torch.int64)])
            at = places(wanted, self.ids)
        return self.rows if torch.equal(self.ids, wanted) else self.rows[at]


class Looked(NamedTuple):
    """What was seen of a run's images: by its own trunk, and by the frozen one that it is held against, whose score is
    `judged`."""

    own: Features
    frozen: Features
    judged: Judgements

    @classmethod
    def nothing(cls) -> "Looked":
        """Before any image was looked at."""
        return cls(Features(), Features(), {})


def embed_kept(
    embedder: Embedder,
    manifest: Manifest,
    kept: Features | None,
    *,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> Labelled:
    """What `embed_items` gives, bit for bit where all is new, with `kept` asked before an image is opened.

    Where nobody keeps what the trunk saw (None), it is not held in memory either.
    """
    if kept is None:
        return embed_items(embedder, manifest, device=device, progress=progress)
    features = kept.of(embedder, manifest, device=device, progress=progress)
    with evaluating(embedder), torch.no_grad(), torch.autocast(device.type, enabled=False):
        rows = [
            embedder.join({name: head(part) for name, head in embedder.heads.items()}).cpu()
            for part in (chunk.to(device) for chunk in torch.split(features, EMBED_BATCH))
        ]
    ids = torch.tensor([item.id for item in manifest.items], dtype=torch.int64)
    return Labelled(torch.cat(rows), ClassMap(manifest.classes).numbers(manifest), ids)


def save_looked(run: RunFolder, looked: Looked) -> None:
    """Write them beside the model whose they are."""
    tensors = {"ids": looked.own.ids, "own": looked.own.rows}
    tensors |= {"frozen_ids": looked.frozen.ids, "frozen": looked.frozen.rows}
    judged, told = as_tensors(looked.judged)
    run.save_tensors(FEATURES, tensors | judged, {"model": run.sha256(MODEL), "judged": told})


def load_looked(run: RunFolder) -> Looked:
    """What a run keeps; nothing where it keeps none, or where its model is no longer the one that saw the images."""
    if not run.exists(FEATURES):
        return Looked.nothing()
    tensors, metadata = run.load_tensors(FEATURES)
    if metadata.get("model") != run.sha256(MODEL):
        return Looked.nothing()
    own, frozen = Features(tensors["ids"], tensors["own"]), Features(tensors["frozen_ids"], tensors["frozen"])
    return Looked(own, frozen, from_tensors(tensors, metadata.get("judged", {})))


def _pass(
    embedder: Embedder, table: ImageTable, device: torch.device, progress: Callable[[int, int], None] | None
) -> Tensor:
    found: list[Tensor] = []
    done = 0
    with evaluating(embedder), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for batch in table.batches(EMBED_BATCH):
            found.append(embedder.features(batch.inputs.to(device)).cpu())
            done += len(batch.ids)
            if progress is not None:
                progress(done, len(table))
    return torch.cat(found)

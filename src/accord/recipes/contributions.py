"""What each head of a run contributes on its validation classes: `heads.json`, and what the report says of it."""

import torch
from torch import Tensor

from accord.data import ClassMap
from accord.evaluation import HeadContributions, head_contributions
from accord.models import Embedder
from accord.recipes.intervals import class_intervals
from accord.recipes.session import can_be_judged
from accord.recipes.watch import Watch
from accord.runs import RunFolder
from accord.types import Json, Labelled, Manifest

HEADS = "heads.json"
SCHEMA_VERSION = 1
METRICS = ("recall@1", "map@r")
# beyond, whole classes are drawn: every head is judged twice, at a cost that grows with the square of the images
MOST_IMAGES = 4000
MOST_OF_CLASS = 200


def tell_heads(run: RunFolder, embedder: Embedder, embedded: Labelled, manifest: Manifest, watch: Watch) -> Json:
    """Measure what each head contributes and write it; return what the report says. Of a run with one head that is
    what was written before its heads became one, or nothing.

    `embedded` holds the joined embeddings of the manifest's items, in their order. Heads are taken out of them again,
    so nothing is embedded for it. Of the items only those of the validation classes are looked at: no loss has learned
    from them, and the test stays out of it.
    """
    counting = [name for name in embedder.heads if embedder.weights[name] > 0]
    if len(counting) < 2:
        before: Json = run.read_json(HEADS) if run.exists(HEADS) else {}
        return before
    part = manifest.only("validation")
    if not can_be_judged(part):
        watch.say("what each head contributes is left out: no validation classes to measure it on")
        return {"left_out": "This run has no validation classes on which it could be measured."}
    held_out = torch.tensor([item.split == "validation" for item in manifest.items])
    joined, labels = embedded.embeddings[held_out], ClassMap(part.classes).numbers(part)
    rows = some_of(labels)
    heads = embedder.parts(joined[rows])
    found = head_contributions(heads, labels[rows], shares={name: float(embedder.weights[name]) for name in heads})
    told = _told(found, embedder, labels[rows], of_images=len(part))
    run.write_json(HEADS, told)
    return told


def some_of(labels: Tensor, *, most: int = MOST_IMAGES, of_class: int = MOST_OF_CLASS) -> Tensor:
    """All rows of a small set, in order; of a large one about `most`, by classes drawn with seed 0, whole where they
    are not larger than `of_class`."""
    if len(labels) <= most:
        return torch.arange(len(labels))
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(labels), generator=generator)
    chosen: list[Tensor] = []
    for label in torch.randperm(int(labels.max()) + 1, generator=generator).tolist():
        chosen.append(shuffled[labels[shuffled] == label][:of_class])
        if sum(map(len, chosen)) >= most:
            break
    return torch.cat(chosen).sort().values


def _told(found: HeadContributions, embedder: Embedder, labels: Tensor, *, of_images: int) -> Json:
    """What `heads.json` says."""
    return {
        "schema_version": SCHEMA_VERSION,
        "images": len(labels),
        "of_images": of_images,
        "classes": len(set(labels.tolist())),
        "queries": len(found.whole.query_ids),
        "metrics": _metrics(found.whole.metrics),
        "heads": [_head(name, found, embedder.dims[name]) for name in found.shares],
        "silent": [name for name in embedder.heads if name not in found.shares],
        "agreement": [pair._asdict() for pair in found.agreement],
    }


def _head(name: str, found: HeadContributions, numbers: int) -> Json:
    without = found.without[name]
    lost = {key: found.whole.per_query[key] - without.per_query[key] for key in METRICS}
    return {
        "name": name,
        "numbers": numbers,
        "share": found.shares[name],
        "alone": _metrics(found.alone[name].metrics),
        "without": _metrics(without.metrics),
        "lost": {key: float(values.mean()) for key, values in lost.items()},
        "lost_intervals": class_intervals(lost, without.query_labels),
    }


def _metrics(metrics: dict[str, float]) -> dict[str, float]:
    return {key: metrics[key] for key in METRICS}

"""Sets the score below which a search answers "unknown", on classes held out of training, and says what it does."""

import math
from pathlib import Path

import torch
from torch import Tensor

from accord.errors import ArtifactError, DataError
from accord.evaluation import FEW_CLASSES, Matches, Rate, best_matches, calibrate, pair_scores, rate, rate_in_gallery
from accord.models import Embedder
from accord.recipes.artifacts import INDEX, embed_items, fingerprint, load_config, load_data, load_embedder, load_index
from accord.recipes.device import device_at_hand
from accord.recipes.watch import Silence, Watch
from accord.runs import RunFolder
from accord.types import Json, Labelled, Manifest, Pairs

THRESHOLD = "threshold.json"
SCHEMA_VERSION = 1
AT_A_TIME = 512
MOST_FOR_PAIRS = 1000


def calibrate_run(
    path: Path, *, far: float = 0.05, frr: float | None = None, watch: Watch | None = None, allow_imports: bool = False
) -> Json:
    """Set a run's thresholds on its validation classes, write them to `threshold.json` and return what was written.

    Two questions, two thresholds. `search`: is the best match good enough? Each validation image asks all images that
    are not the test's, once with its own class left out, as a stranger would. `pairs`: do two images show one class?
    The more images a gallery holds, the higher a stranger's best score: the size it was set for stands beside it. The
    test classes are not looked at; `realised` judges the threshold on them.
    """
    watch = watch or Silence()
    with RunFolder.open(path) as run:
        sealed = run.is_sealed()
        if sealed:  # or a damaged file would be sealed anew as if it were whole
            run.verify()
        embedder, manifest = load_embedder(run, allow_imports=allow_imports), load_data(run)
        _refuse_no_validation(manifest)
        gallery = _embedded(run, embedder, manifest, watch)
        asking = _only(gallery, manifest, "validation")
        here = _supported(far, strangers=len(asking.ids), calibrated=len(gallery.ids), searched=len(manifest))
        matches = _ask(asking, gallery, watch)
        found = calibrate(
            matches.best[matches.known],
            matches.other,
            far=here,
            genuine_groups=asking.labels[matches.known],
            impostor_groups=asking.labels,
        )
        document: Json = {
            "schema_version": SCHEMA_VERSION,
            "model": fingerprint(embedder),
            "score": "cosine",
            "far": far,
            "frr": frr,
            "search": {
                "same_above": found.same_above,
                "for_images": len(manifest),
                "strangers": matches.other.sort(descending=True).values.tolist(),
                "gallery": {"images": len(gallery.ids), "classes": len(torch.unique(gallery.labels))},
                **_outcome(matches, asking.labels, found.same_above),
            },
            "pairs": _pairs(asking, far, frr),
            "notes": _notes(asking),
        }
        run.write_json(THRESHOLD, document)
        if sealed:
            run.seal()
        return document


def load_threshold(run: RunFolder, embedder: Embedder) -> Json | None:
    """The thresholds of a run, None if it was not calibrated; those of another model are refused."""
    if not run.exists(THRESHOLD):
        return None
    document: Json = run.read_json(THRESHOLD)
    if document.get("schema_version") != SCHEMA_VERSION or document.get("model") != fingerprint(embedder):
        raise ArtifactError(
            f"{run.path / THRESHOLD} was made for another model or by another version of accord.\n"
            f"  Make it anew: accord calibrate {run.path}"
        )
    return document


def threshold_for(document: Json, images: int) -> tuple[float, bool]:
    """The search threshold for a gallery of so many images, and whether calibration was large enough to support it.

    Where it was not, the threshold is the one no stranger of the calibration reached.
    """
    search = document["search"]
    if images == search["for_images"]:
        return search["same_above"], True
    scores = torch.tensor(search["strangers"], dtype=torch.float64)
    far = rate_in_gallery(document["far"], calibrated=search["gallery"]["images"], searched=images)
    supported = far * (len(scores) + 1) >= 1
    rate_of_one = far if supported else 1.5 / (len(scores) + 1)
    return calibrate(scores, scores, far=rate_of_one).same_above, supported


def realised(document: Json, everything: Labelled, manifest: Manifest, *, watch: Watch | None = None) -> Json:
    """What the search threshold does on the test classes, which it was not set on.

    Each test image asks all images of the run, as a search does: with its own class left out (`false_accepts`), and
    with it (`accepted`, and `identified` if the first hit is also right).
    """
    asking = _only(everything, manifest, "test")
    matches = _ask(asking, everything, watch or Silence())
    threshold = document["search"]["same_above"]
    gallery = {"images": len(everything.ids), "classes": len(torch.unique(everything.labels))}
    outcome = _outcome(matches, asking.labels, threshold)
    return {"far": document["far"], "same_above": threshold, "gallery": gallery, **outcome}


def _supported(far: float, *, strangers: int, calibrated: int, searched: int) -> float:
    """The rate to calibrate at, refused where it takes more images than were held out."""
    here = rate_in_gallery(far, calibrated=calibrated, searched=searched)
    if here * (strangers + 1) >= 1:
        return here
    least = rate_in_gallery(1 / (strangers + 1), calibrated=searched, searched=calibrated)
    raise DataError(
        f"calibrate: far={far:g} in a gallery of {searched:,} images takes at least {math.ceil(1 / here) - 1:,} images "
        f"of held-out classes, and there are {strangers:,}.\n"
        f"  Ask for far={math.ceil(1000 * least) / 1000:g} or more, or train with more held-out classes: "
        "--set data.validation=0.2"
    )


def _embedded(run: RunFolder, embedder: Embedder, manifest: Manifest, watch: Watch) -> Labelled:
    """All images that are not the test's: from the run's index if it has one, else embedded now."""
    learnt = Manifest(manifest.name, manifest.root, tuple(item for item in manifest.items if item.split != "test"))
    if run.exists(INDEX):
        everything = load_index(run, embedder).labelled
        wanted = torch.tensor(sorted(item.id for item in learnt.items))
        kept = torch.isin(everything.ids, wanted)
        return Labelled(*(column[kept] for column in everything))
    device = device_at_hand(load_config(run).training.device, watch)
    return embed_items(
        embedder.to(device), learnt, device=device, progress=lambda done, all: watch.progress("embedding", done, all)
    )


def _only(items: Labelled, manifest: Manifest, split: str) -> Labelled:
    wanted = torch.tensor([item.id for item in manifest.only(split).items])
    kept = torch.isin(items.ids, wanted)
    return Labelled(*(column[kept] for column in items))


def _ask(asking: Labelled, gallery: Labelled, watch: Watch) -> Matches:
    parts = []
    for start in range(0, len(asking.ids), AT_A_TIME):
        watch.progress("searching", start, len(asking.ids))
        parts.append(best_matches(Labelled(*(column[start : start + AT_A_TIME] for column in asking)), gallery))
    watch.progress("searching", len(asking.ids), len(asking.ids))
    return Matches(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _outcome(matches: Matches, labels: Tensor, threshold: float) -> Json:
    """What becomes of strangers, and of queries whose class is in the gallery."""
    known = matches.known
    accepted = matches.best[known] >= threshold
    right = (matches.place[known] == 1) & (matches.own[known] >= threshold)
    return {
        "queries": len(labels),
        "classes": len(torch.unique(labels)),
        "false_accepts": _told(rate(matches.other >= threshold, groups=labels)),
        "accepted": _told(rate(accepted, groups=labels[known])),
        "identified": _told(rate(right, groups=labels[known])),
    }


def _pairs(asking: Labelled, far: float, frr: float | None) -> Json:
    """Thresholds for two images side by side, on all pairs of validation images (of at most a thousand of them)."""
    rows = torch.arange(len(asking.ids))
    if len(rows) > MOST_FOR_PAIRS:
        rows = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:MOST_FOR_PAIRS].sort().values
    some = Labelled(*(column[rows] for column in asking))
    first, second = torch.triu_indices(len(rows), len(rows), 1)
    scores = pair_scores(some, Pairs(first, second), by="row")
    same = some.labels[first] == some.labels[second]
    found = calibrate(
        scores[same],
        scores[~same],
        far=far,
        frr=frr,
        genuine_groups=some.labels[first[same]],
        impostor_groups=some.labels[first[~same]],
    )
    rates = {name: _told(getattr(found, name)) for name in ("false_accepts", "false_rejects", "accepted")}
    return {"same_above": found.same_above, "different_below": found.different_below, "images": len(rows), **rates}


def _told(share: Rate) -> Json:
    return {**share._asdict(), "interval": list(share.interval)}


def _notes(asking: Labelled) -> list[str]:
    notes = [
        "The rate holds for queries like the validation classes; for the size of the gallery it was carried over.",
        "The validation classes also chose the checkpoint, so they may be a little easier than others.",
    ]
    if (classes := len(torch.unique(asking.labels))) < FEW_CLASSES:
        notes.append(f"Only {classes} classes were held out: the interval is wide, and rests on few classes.")
    return notes


def _refuse_no_validation(manifest: Manifest) -> None:
    part = manifest.only("validation")
    labels = [item.label for item in part.items]
    if len(set(labels)) < 2 or len(set(labels)) == len(labels):
        raise DataError(
            f"A threshold is set on classes that were held out of training, and this run held out {len(set(labels))} "
            f"with {len(labels)} images: too few.\n"
            "  Train with more: --set data.validation=0.2 (two classes, one of them with two images, at the least)"
        )

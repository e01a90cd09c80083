"""Pairs and triplets in place of classes: which losses learn from them, and what a run tells of them."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from accord.data import GROUPS_NOTE, relation_kind
from accord.errors import UsageError
from accord.evaluation import triplet_accuracy
from accord.losses import Kind, ProxyLoss, Related, check_related
from accord.recipes.catalog.losses import LOSSES, build_loss
from accord.recipes.config import RunConfig
from accord.types import Evaluation, Labelled, Manifest, Triplets

TRIPLET_ACCURACY = "triplet_accuracy"


def kind_of(config: RunConfig) -> Kind | None:
    """What `data.relations` holds, by its first line; None without it. Refuses options that need classes."""
    if config.data.relations is None:
        return None
    if config.training.hard_classes:
        raise UsageError("training.hard_classes chooses classes; with data.relations leave it out.")
    return relation_kind(Path(config.data.relations))


def learnable(kind: Kind) -> list[str]:
    """The names of the catalogued losses that learn from pairs, or from triplets, as they are; found by trying."""
    return [name for name in LOSSES if _learns(build_loss(name, dim=4, classes=4), kind)]


def freed(kind: Kind) -> list[str]:
    """Those that learn from them with `assignment: dynamic`."""
    names = [name for name, info in LOSSES.items() if "assignment" in info.options]
    return [name for name in names if _learns(build_loss(name, dim=4, classes=4, assignment="dynamic"), kind)]


def related(loss: nn.Module, name: str, kind: Kind) -> nn.Module:
    """A loss that takes pairs or triplets; UsageError with all that do where this one does not."""
    try:
        check_related(loss, kind)
    except UsageError as error:
        known = f"  From {kind} learn: {', '.join(learnable(kind))};"
        dynamic = f"  with the option assignment: dynamic, {', '.join(freed(kind))}."
        pairs = "\n  Without the column negative the table is one of pairs, from which this loss learns."
        more = pairs if kind == "triplets" and _learns(loss, "pairs") else ""
        raise UsageError(f"{name}: {error}\n{known}\n{dynamic}{more}") from None
    # proxies that know pairs and triplets are left as they are, for whoever warms or watches them
    return loss if isinstance(loss, ProxyLoss) else Related(loss)


def judge_triplets(
    evaluation: Evaluation, labelled: Labelled, manifest: Manifest, *, split: str = "test"
) -> Evaluation:
    """The evaluation with the accuracy on the triplets of one split, if there are any, and how many they are."""
    found = accuracy_on(labelled, manifest.only(split))
    if found is None:
        return evaluation
    accuracy, count = found
    overall = {**evaluation.overall, TRIPLET_ACCURACY: accuracy}
    return replace(evaluation, overall=overall, counts={**evaluation.counts, "triplets": count})


def accuracy_on(labelled: Labelled, part: Manifest) -> tuple[float, int] | None:
    """The accuracy on the triplets of a part of the data, and how many they are; None without triplets."""
    table = torch.tensor(part.relations, dtype=torch.int64)
    if not len(table) or table.shape[1] != len(Triplets._fields):
        return None
    return triplet_accuracy(labelled, Triplets(*table.unbind(dim=1))), len(table)


def relation_notes(manifest: Manifest) -> list[str]:
    """What a reader must know of a run that was given relations."""
    if not manifest.relations:
        return []
    notes = [f"There are no class labels: {GROUPS_NOTE}."]
    if len(manifest.relations[0]) == len(Triplets._fields) and not manifest.only("test").relations:
        notes.append("No triplet lies wholly among the unseen images, so there is no triplet accuracy.")
    return notes


def _learns(loss: nn.Module, kind: Kind) -> bool:
    try:
        check_related(loss, kind)
    except UsageError:
        return False
    return True

"""Who asks whom: gallery, queries and groups of a run's unseen images, from the roles and groups in its manifest."""

import torch
from torch import Tensor

from accord.data import ClassMap
from accord.errors import ArtifactError
from accord.recipes.columns import number_names
from accord.recipes.vectors import Judged, Vectors
from accord.types import Labelled, Manifest

QUERY = "query"


def asked_of(labelled: Labelled, manifest: Manifest, *, split: str = "test") -> Judged:
    """The images of a split as the engine is asked about them; `labelled` may hold others, too.

    Where the data set publishes roles, its queries ask its gallery; otherwise every image asks all others. Labels are
    numbered among the split's classes. Groups are those of the items (a camera, a vendor), None where no item has one.
    """
    part = manifest.only(split)
    if not len(part):
        raise ArtifactError("This run has no unseen classes to be judged on; data.test was 0.")
    rows = _rows(labelled, part)
    names = ClassMap(part.classes)
    everyone = Labelled(labelled.embeddings[rows], names.numbers(part), labelled.ids[rows])
    group_names, groups = _groups(part)
    asks = torch.tensor([item.role == QUERY for item in part.items])
    if not asks.any():
        return Judged(Vectors(everyone, groups), None, names.names, group_names, {}, ())
    notes = _role_notes(part)
    gallery, queries = (_only(everyone, groups, chosen) for chosen in (~asks, asks))
    return Judged(gallery, queries, names.names, group_names, {}, notes)


def _rows(labelled: Labelled, part: Manifest) -> Tensor:
    """Where the items of the split are in what was embedded."""
    place = {item: row for row, item in enumerate(labelled.ids.tolist())}
    missing = [item.path for item in part.items if item.id not in place]
    if missing:
        raise ArtifactError(f"{len(missing)} images of the split were never embedded, such as {missing[0]}.")
    return torch.tensor([place[item.id] for item in part.items])


def _groups(part: Manifest) -> tuple[tuple[str, ...], Tensor | None]:
    if not any(item.group for item in part.items):
        return (), None
    return number_names([item.group for item in part.items])


def _only(labelled: Labelled, groups: Tensor | None, chosen: Tensor) -> Vectors:
    return Vectors(Labelled(*(column[chosen] for column in labelled)), None if groups is None else groups[chosen])


def _role_notes(part: Manifest) -> tuple[str, ...]:
    neither = sum(not item.role for item in part.items)
    return (f"{neither} images have no role; they stand in the gallery.",) if neither else ()

"""Parts of one evaluation put together: items from several processes, and results of several shares of the queries."""

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.errors import BatchError
from accord.evaluation._evaluate import WITHOUT
from accord.evaluation._gallery import fingerprints, shown
from accord.evaluation._measure import mean
from accord.types import Evaluation, Labelled, Neighbours

_SUMMED = ("queries", "queries_without_match", "excluded", "tied_queries")


def merge_labelled(parts: Sequence[Labelled]) -> Labelled:
    """All items of several parts in the order of their ids, each once, as if one process had embedded them.

    A distributed sampler pads its shares with items of others. Such copies, known by their id, are dropped where they
    are equal bit for bit. Raises BatchError where two items with one id differ, or there is no part.

        evaluate(merge_labelled(gathered))
    """
    if not parts:
        raise BatchError("merge_labelled: there are no parts. Give at least one.")
    kinds = {(part.embeddings.shape[1:], part.embeddings.dtype) for part in parts}
    if len(kinds) > 1:
        raise BatchError(
            f"merge_labelled: embeddings must be of one width and dtype, but are {sorted(map(str, kinds))}."
        )
    embeddings, labels, ids = (torch.cat(column) for column in zip(*parts, strict=True))
    order = ids.argsort(stable=True)
    embeddings, labels, ids = embeddings[order], labels[order], ids[order]
    prints = fingerprints(embeddings)
    again = torch.zeros_like(ids, dtype=torch.bool)
    again[1:] = ids[1:] == ids[:-1]
    differs = again[1:] & ((prints[1:] != prints[:-1]) | (labels[1:] != labels[:-1]))
    if bool(differs.any()):
        wrong: list[int] = torch.unique(ids[1:][differs]).tolist()
        raise BatchError(
            f"merge_labelled: an id must mean one item, but {len(wrong)} are given with different embeddings "
            f"or labels: {shown(wrong)}.\nEmbed in evaluation mode, so that an item embedded twice "
            "is the same twice, and number items over the whole data set."
        )
    return Labelled(embeddings[~again], labels[~again], ids[~again])


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The evaluation of all queries from evaluations of disjoint shares of them against one gallery.

    Every number is what one evaluation of all queries gives, bit for bit; queries stand in the order given. Metrics of
    the gallery as a whole (clusters) are taken from whichever part has them; `confusions` are left out, since parts
    know only their own most frequent ones. Raises BatchError where parts do not belong together.
    """
    if not evaluations:
        raise BatchError("merge: there are no evaluations. Give at least one.")
    first = evaluations[0]
    ids = torch.cat([part.query_ids for part in evaluations])
    _check(evaluations, ids)
    labels = torch.cat([part.query_labels for part in evaluations])
    aside = {name: torch.cat([part.aside[name] for part in evaluations]) for name in _common(evaluations)}
    counts = {
        name: sum(part.counts[name] for part in evaluations) if name in _SUMMED else count
        for name, count in first.counts.items()
    }
    overall = {name: value for part in evaluations for name, value in part.overall.items() if name != WITHOUT}
    asked = _without_copies(evaluations)
    if len(asked):
        overall[WITHOUT] = mean(asked)
    return Evaluation(
        per_query={name: torch.cat([part.per_query[name] for part in evaluations]) for name in first.per_query},
        query_ids=ids,
        query_labels=labels,
        overall=overall,
        counts=counts,
        chance=_means(aside, "chance/"),
        optimistic=_means(aside, "optimistic/"),
        notes=tuple(dict.fromkeys(note for part in evaluations for note in part.notes)),
        neighbours=_neighbours(evaluations),
        aside=aside,
    )


def _check(evaluations: Sequence[Evaluation], ids: Tensor) -> None:
    values, times = torch.unique(ids, return_counts=True)
    twice = values[times > 1].tolist()
    if twice:
        raise BatchError(f"merge: parts must be of different queries, but {len(twice)} are in several: {shown(twice)}.")
    kinds = {_kind(part) for part in evaluations}
    if len(kinds) > 1:
        raise BatchError(
            "merge: parts must have the same metrics and the same gallery, but these differ:\n  "
            + "\n  ".join(str(kind) for kind in sorted(kinds, key=str))
        )


def _kind(part: Evaluation) -> tuple[object, ...]:
    """What all parts must agree on: metrics, the gallery's counts, how many neighbours are listed."""
    same = tuple((name, count) for name, count in part.counts.items() if name not in _SUMMED)
    width = None if part.neighbours is None else part.neighbours.ids.shape[1]
    return (tuple(part.per_query), same, width)


def _without_copies(evaluations: Sequence[Evaluation]) -> Tensor:
    """Recall@1 without copies, of the queries that count; nothing where there are no copies or a part can't tell."""
    if not any(WITHOUT in part.aside for part in evaluations):
        return torch.empty(0)
    # a part none of whose queries has a copy says the same by its plain recall
    values = [part.aside.get(WITHOUT, part.per_query.get("recall@1")) for part in evaluations]
    known = [value for value in values if value is not None]
    found = torch.cat(known)
    return found[~found.isnan()] if len(known) == len(values) else torch.empty(0)


def _common(evaluations: Sequence[Evaluation]) -> list[str]:
    return [name for name in evaluations[0].aside if all(name in part.aside for part in evaluations)]


def _means(aside: dict[str, Tensor], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): mean(values) for name, values in aside.items() if name.startswith(prefix)}


def _neighbours(evaluations: Sequence[Evaluation]) -> Neighbours | None:
    lists = [part.neighbours for part in evaluations if part.neighbours is not None]
    return Neighbours(*(torch.cat(column) for column in zip(*lists, strict=True))) if lists else None

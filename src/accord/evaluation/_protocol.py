"""Who searches among whom: leave-one-out or queries against a gallery, and which items each query leaves out."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from accord.checks import describe
from accord.errors import BatchError, UnknownNameError, UsageError
from accord.evaluation._gallery import Items, gather, shown
from accord.geometry import places
from accord.types import Labelled

Exclusion = Literal["self", "same_class_same_group", "same_group"]


@dataclass(frozen=True)
class Problem:
    """Queries and gallery with classes numbered over both; per query, what it leaves out and what it can find.

    `own` is the query's own row in the gallery, -1 where it is not in there. Where there are keys, a query leaves out
    the items with its own key. `relevant` and `searched` count what it may find and all that it looks through;
    `right_lost` and `wrong_lost` say how many of either have no direction and can't be found.
    """

    queries: Items
    gallery: Items
    query_classes: Int[Tensor, " query"]
    classes: Int[Tensor, " item"]
    own: Int[Tensor, " query"]
    query_keys: Int[Tensor, " query"] | None
    keys: Int[Tensor, " item"] | None
    relevant: Int[Tensor, " query"]
    searched: Int[Tensor, " query"]
    right_lost: Int[Tensor, " query"]
    wrong_lost: Int[Tensor, " query"]

    @property
    def within(self) -> bool:
        """Whether the gallery asks itself."""
        return self.queries is self.gallery

    @property
    def found(self) -> Int[Tensor, " query"]:
        """How many items a query can find: those it looks through, less those without a direction."""
        return self.searched - self.right_lost - self.wrong_lost

    @property
    def class_count(self) -> int:
        """How many classes there are in queries and gallery together."""
        return 1 + int(torch.maximum(self.query_classes.max(), self.classes.max()))

    def barred(self, rows: Tensor, columns: slice) -> Bool[Tensor, "query item"] | None:
        """Which of these items these queries leave out because of their keys; None where there are no keys."""
        if self.keys is None or self.query_keys is None:
            return None
        return self.query_keys[rows, None] == self.keys[columns]

    def count(
        self, query_codes: Tensor, codes: Tensor, among: Bool[Tensor, " item"] | None = None
    ) -> Int[Tensor, " query"]:
        """For each query, the items that it looks through whose code is the query's own; only those in `among`."""
        chosen = torch.ones_like(codes, dtype=torch.bool) if among is None else among
        total = _matching(query_codes, codes[chosen])
        own = self.own.clamp_min(0)
        left_out = (self.own >= 0) & chosen[own] & (codes[own] == query_codes)
        if self.keys is not None and self.query_keys is not None:
            span = 1 + int(torch.maximum(self.keys.max(), self.query_keys.max()))
            total = total - _matching(query_codes * span + self.query_keys, (codes * span + self.keys)[chosen])
            left_out &= self.keys[own] != self.query_keys
        return total - left_out.long()


def pose(
    who: str,
    labelled: Labelled,
    queries: Labelled | None,
    groups: Tensor | None,
    query_groups: Tensor | None,
    exclude: str,
    allow_nonfinite: bool,
) -> Problem:
    """Check everything that says who searches among whom. Raises BatchError, NumericError, UsageError."""
    gallery = gather(who, labelled, allow_nonfinite=allow_nonfinite)
    asked = gallery if queries is None else gather(who, queries, allow_nonfinite=allow_nonfinite)
    _check_sides(who, asked, gallery)
    own = torch.arange(len(gallery), device=gallery.ids.device) if asked is gallery else _own(who, asked, gallery)
    query_classes, classes = _numbered(asked.labels, gallery.labels)
    if len(torch.unique(classes)) < 2:
        raise BatchError(
            f"{who}: there must be at least two classes, but there is only one.\n"
            "With one class every answer is right; evaluate more classes together."
        )
    keys = _keys(who, exclude, asked, gallery, groups, query_groups, query_classes, classes)
    empty = torch.zeros_like(own)
    problem = Problem(asked, gallery, query_classes, classes, own, *keys, empty, empty, empty, empty)
    relevant = problem.count(query_classes, classes)
    searched = problem.count(torch.zeros_like(query_classes), torch.zeros_like(classes))
    right_lost, lost = empty, empty
    if not bool(gallery.sound.all()):
        right_lost = problem.count(query_classes, classes, ~gallery.sound)
        lost = problem.count(torch.zeros_like(query_classes), torch.zeros_like(classes), ~gallery.sound)
    if not bool((relevant > 0).any()):
        raise BatchError(
            f"{who}: no item has another one of its class to find: {len(asked)} queries, {len(gallery)} items, "
            f"{len(torch.unique(classes))} classes.\nGive at least one class with two items that may find each other."
        )
    return Problem(
        asked, gallery, query_classes, classes, own, *keys, relevant, searched, right_lost, lost - right_lost
    )


def _check_sides(who: str, queries: Items, gallery: Items) -> None:
    for name, side in (("queries", queries), ("gallery", gallery)):
        if not len(side):
            raise BatchError(f"{who}: there are no items in the {name}.\nGive at least one query and two classes.")
    q, k = queries.embeddings, gallery.embeddings
    if q.shape[1] != k.shape[1] or q.device != k.device:
        wish = "queries and gallery must be embeddings of one width on one device."
        raise BatchError(f"{who}: {wish}\n  queries: {describe(q)}\n  gallery: {describe(k)}")


def _own(who: str, queries: Items, gallery: Items) -> Tensor:
    """The gallery row with each query's id; -1 for none. The same id must mean the same item."""
    own = places(queries.ids, gallery.ids)
    other = queries.ids[(own >= 0) & (gallery.labels[own.clamp_min(0)] != queries.labels)].tolist()
    if other:
        raise BatchError(
            f"{who}: an id must mean the same item among the queries and in the gallery, but {len(other)} have two "
            f"labels: id {shown(other)}.\nA query never finds the item with its own id; number the queries on from "
            "the gallery's ids if they are other items."
        )
    return own


def _keys(
    who: str,
    exclude: str,
    queries: Items,
    gallery: Items,
    groups: Tensor | None,
    query_groups: Tensor | None,
    query_classes: Tensor,
    classes: Tensor,
) -> tuple[Tensor | None, Tensor | None]:
    if exclude not in get_args(Exclusion):
        raise UnknownNameError("exclusion", exclude, get_args(Exclusion))
    if exclude == "self":
        if groups is not None or query_groups is not None:
            raise UsageError(
                f"{who}: groups are given, but nothing is done with them.\nSay what a query leaves out: "
                'exclude="same_class_same_group" (re-identification) or exclude="same_group" (across sources).'
            )
        return None, None
    if queries is gallery:
        if query_groups is not None:
            raise UsageError(f"{who}: query_groups are given without queries; leave them out.")
        query_groups = groups
    for name, side, given in (("groups", gallery, groups), ("query_groups", queries, query_groups)):
        if not isinstance(given, Tensor) or given.shape != side.ids.shape or given.is_floating_point():
            wish = f"exclude={exclude!r} needs {name}: an integer tensor with one entry per item."
            raise BatchError(f"{who}: {wish}\n  {name}: {describe(given)}\n  items: {len(side)}")
    assert groups is not None
    assert query_groups is not None
    query_keys, keys = _numbered(query_groups.long(), groups.long())
    if exclude == "same_class_same_group":
        span = 1 + int(torch.maximum(query_keys.max(), keys.max()))
        query_keys, keys = _numbered(query_classes * span + query_keys, classes * span + keys)
    return query_keys, keys


def _numbered(queries: Tensor, gallery: Tensor) -> tuple[Tensor, Tensor]:
    """Both numbered from 0, in ascending order of what is numbered."""
    numbers: Tensor = torch.unique(torch.cat([queries, gallery]), return_inverse=True)[1]
    return numbers[: len(queries)], numbers[len(queries) :]


def _matching(query_codes: Tensor, codes: Tensor) -> Tensor:
    """For each query, how many codes equal its own."""
    if not len(codes):
        return torch.zeros_like(query_codes)
    values, counts = torch.unique(codes, return_counts=True)
    place = places(query_codes, values)
    return torch.where(place >= 0, counts[place], 0)

"""Values that cross the doorways between rooms, and the protocols that plug-ins satisfy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int, Integer, UInt8
from torch import Tensor

Embeddings = Float[Tensor, "item dim"]
Labels = Integer[Tensor, " item"]
Scalar = Float[Tensor, ""]
Mask = Bool[Tensor, "row column"]
Images = UInt8[Tensor, "batch channel height width"]
Json = dict[str, Any]


class Item(NamedTuple):
    """One image of a data set. `path` is relative to the manifest's root, with forward slashes.

    `group` says where it comes from (a camera, a vendor), `box` (left, top, right, bottom) which part of it counts;
    `role` is `query` or `gallery` where a published protocol asks with some images and searches others.
    """

    id: int
    path: str
    label: str
    sha256: str = ""
    split: str = ""
    group: str = ""
    box: tuple[int, int, int, int] | None = None
    role: str = ""


@dataclass(frozen=True)
class Manifest:
    """A data set as a table: where it lies and what is in it. `root` is a folder or a zip archive.

    `relations` are pairs (anchor, positive) or triplets (anchor, positive, negative) of item ids, all of one kind,
    where those were given in place of classes; labels then name groups of items that are said to belong together.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    notes: tuple[str, ...] = ()
    relations: tuple[tuple[int, ...], ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the one order used everywhere: sorted by their bytes."""
        return tuple(
            sorted({item.label for item in self.items}, key=lambda name: name.encode(errors="surrogateescape"))
        )

    def only(self, split: str) -> "Manifest":
        """The items of one split (`train`, `validation` or `test`), ids kept, with the relations among them."""
        items = tuple(item for item in self.items if item.split == split)
        ids = {item.id for item in items} if self.relations else set()
        among = tuple(relation for relation in self.relations if ids.issuperset(relation))
        return Manifest(self.name, self.root, items, self.notes, among)

    def __len__(self) -> int:
        return len(self.items)


class Preprocessing(NamedTuple):
    """How an image becomes a network's input; kept inside the Embedder so that training and search agree.

    `fit` says how a picture that is not square is brought to `size` × `size` pixels: `crop` (shorter side to size,
    centre crop), `pad` (longer side to size, white borders) or `stretch`. `mean` and `std` are RGB on the 0–255 scale.
    """

    size: int
    fit: str = "crop"
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)


class Pairs(NamedTuple):
    """Rows of a batch, two by two: `anchors[i]` belongs with `others[i]`."""

    anchors: Int[Tensor, " pair"]
    others: Int[Tensor, " pair"]


class Triplets(NamedTuple):
    """Rows of a batch, three by three: anchor, one of its class, one of another class."""

    anchors: Int[Tensor, " triplet"]
    positives: Int[Tensor, " triplet"]
    negatives: Int[Tensor, " triplet"]


Relations = Pairs | Triplets


class Batch(NamedTuple):
    """What a training step eats: 8-bit images (already augmented), class numbers and item ids.

    Where pairs or triplets teach in place of classes, `relations` are those of the batch, by row number.
    """

    inputs: Tensor
    labels: Tensor
    ids: Tensor
    relations: Relations | None = None


class Step(NamedTuple):
    """What one optimisation step did. Tensors are detached and still on their device."""

    number: int
    epoch: int
    loss: Tensor
    terms: Mapping[str, Tensor]
    rates: Mapping[str, float]
    gradient_norm: Tensor
    skipped: bool = False


class Labelled(NamedTuple):
    """Embeddings with what is known about them. `ids` are unique; a query never finds the item with its own id."""

    embeddings: Embeddings
    labels: Labels
    ids: Int[Tensor, " item"]


class Neighbours(NamedTuple):
    """The k nearest items of each query, best first. A larger score is closer; -1 marks an absent neighbour."""

    scores: Float[Tensor, "query k"]
    ids: Int[Tensor, "query k"]


class Confusion(NamedTuple):
    """`times` queries of the class `label` had their nearest neighbour in `other`: that `share` of its queries."""

    label: int
    other: int
    times: int
    share: float


class Hit(NamedTuple):
    """One neighbour for a person: its id in the gallery, label, score (larger is closer) and path in the data set."""

    id: int
    label: str
    score: float
    path: str


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation measured: a number per query for each metric, numbers for the whole set, what was counted.

    `per_query[name]` and `query_ids`, `query_labels` run in parallel; `overall` holds metrics without a per-query
    value (`nmi`); `counts` holds queries, gallery, classes, singletons, tied_queries …; `chance` the level of random
    guessing. `optimistic` holds what retrieval metrics would be with ties in favour of the query; `notes` are
    sentences for a reader. `confusions` and `neighbours` (in the order of `query_ids`) are there when they were asked
    for. `aside` holds what else is known per query: `chance/…` and `optimistic/…` of each metric.
    """

    per_query: Mapping[str, Float[Tensor, " query"]]
    query_ids: Int[Tensor, " query"]
    query_labels: Int[Tensor, " query"]
    overall: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    optimistic: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    confusions: tuple[Confusion, ...] = ()
    neighbours: Neighbours | None = None
    aside: Mapping[str, Float[Tensor, " query"]] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric as one fraction in [0, 1]: means over queries, then the overall ones.

        Sums are rounded once, so that a mean does not depend on the order of the queries.
        """
        means = {name: math.fsum(values.tolist()) / len(values) for name, values in self.per_query.items()}
        return {**means, **self.overall}


@runtime_checkable
class Objective(Protocol):
    """Whatever is trained against. An objective that has parts leaves them, detached, in `terms` after each call."""

    def __call__(self, embeddings: Any, labels: Any) -> Tensor:
        """A scalar to be minimised."""
        ...


@runtime_checkable
class Index(Protocol):
    """Finds the nearest items of a gallery."""

    def search(self, queries: Embeddings, k: int) -> Neighbours:
        """The k nearest items of each query, best first."""
        ...

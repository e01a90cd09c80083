"""Identification: whose item this is, asked of a gallery of known classes, by probes that may be of none of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count
from accord.errors import BatchError, UsageError
from accord.evaluation._cross_scores import BUDGET_BYTES, Tile, some, tile_of, tiles
from accord.evaluation._gallery import Items
from accord.evaluation._scores import TIE
from accord.evaluation._steps import (
    OperatingPoint,
    Steps,
    area,
    checked_rates,
    count_steps,
    notes_on,
    operating_point,
)
from accord.geometry import places
from accord.types import Labelled

FARS = (0.1, 0.01)


class Matches(NamedTuple):
    """What each query finds in a gallery: exact cosine scores in float64, the query's own item left out by its id.

    `own` is the best score among the items of its own class, -inf where the gallery has none, `other` the best among
    all other classes. `place` is the rank of its own class when each class is scored by its best item: 1 is the first,
    classes that tie stand before it, and 0 says that it is not there.
    """

    own: Float[Tensor, " query"]
    other: Float[Tensor, " query"]
    place: Int[Tensor, " query"]

    @property
    def best(self) -> Float[Tensor, " query"]:
        """The best score of any item: what a search returns first."""
        return torch.maximum(self.own, self.other)

    @property
    def known(self) -> Tensor:
        """Whether the gallery holds another item of the query's class."""
        return self.own > -torch.inf


@dataclass(frozen=True)
class OpenSet:
    """Probes of which some are of no class in the gallery, and a threshold below which the answer is "unknown".

    `dir[far]` is the detection and identification rate: `true_rate` is the share of known probes that find their own
    class first and at a score of at least the threshold, `false_rate` the share of unknown ones whose best score is.
    Others call them TPIR and FPIR (FNIR = 1 - TPIR) or DIR@FIR. `auroc` tells known from unknown probes by their best
    score, right or wrong; `oscr` is the area under the whole curve of DIR over false alarms.
    """

    dir: Mapping[float, OperatingPoint]
    auroc: float
    oscr: float
    steps: Steps
    known: int
    unknown: int


@dataclass(frozen=True)
class Identification:
    """How probes were identified: `cmc[k - 1]` is the share whose class is among the k best, for k up to all classes.

    `place` is each known probe's rank of its class, by `probe_ids`; `open` is None where all probes are known.
    """

    cmc: Float[Tensor, " rank"]
    place: Int[Tensor, " probe"]
    probe_ids: Int[Tensor, " probe"]
    ranks: Mapping[int, float]
    classes: int
    open: OpenSet | None
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """Every figure as a fraction in [0, 1]: `rank-k`, and with unknown probes `dir@far=…`, `auroc`, `oscr`."""
        found = {f"rank-{rank}": share for rank, share in self.ranks.items()}
        if self.open is None:
            return found
        rates = {f"dir@far={far:g}": point.true_rate for far, point in self.open.dir.items()}
        return {**found, **rates, "auroc": self.open.auroc, "oscr": self.open.oscr}


def best_matches(queries: Labelled, gallery: Labelled, *, budget_bytes: int = BUDGET_BYTES) -> Matches:
    """For each query the best score in its own class and in the others, and the rank of its class.

    What `max(own, other)` is for a query whose class is known, `other` alone is for one whose class is left out: so
    every query also says what it would score as an unknown. Tile by tile under `budget_bytes`, which changes no
    bit. Raises BatchError where shapes do not fit, NumericError naming ids of rows that are zero or not finite.
    """
    check_count("best_matches", "budget_bytes", budget_bytes, high=2**63)
    return _matches("best_matches", queries, gallery, budget_bytes)


def identify(
    probes: Labelled,
    gallery: Labelled,
    *,
    ranks: Sequence[int] = (1, 5, 10),
    fars: Sequence[float] = FARS,
    budget_bytes: int = BUDGET_BYTES,
) -> Identification:
    """Find each probe's class in a gallery with one item or several of each class.

    A class is scored by its best item. Classes that tie with the right one stand before it, so constant embeddings
    never find it. Probes whose class the gallery lacks are unknown: with some the open set is judged too. The threshold
    for a false-alarm rate is set by the best scores of the unknown probes, such that at most that share of them reaches
    it; never interpolated (Phillips, Grother, Micheals 2011, "Evaluation methods in face recognition", open-set
    identification; Sohn, NIPS 2016, DIR@FIR = 1 %). A probe that is in the gallery itself is left out there by its id.

    Raises BatchError without a known probe, NumericError naming ids, UsageError for rates outside (0, 1).
    """
    rates = checked_rates("identify", fars)
    for rank in ranks:
        check_count("identify", "each rank", rank)
    check_count("identify", "budget_bytes", budget_bytes, high=2**63)
    found = _matches("identify", probes, gallery, budget_bytes)
    known = found.known
    if not bool(known.any()):
        raise BatchError(
            f"identify: the gallery holds no class of any of the {len(known)} probes, so none can be found.\n"
            "Look whether probes and gallery number their labels alike."
        )
    classes = len(torch.unique(gallery.labels))
    place = found.place[known]
    cmc = torch.bincount(place, minlength=classes + 1)[1:].cumsum(0).double() / len(place)
    opened = _open_set(found, rates) if not bool(known.all()) else None
    said = () if opened is None else notes_on(opened.dir.values(), "probes of no known class", opened.unknown)
    trivial = [rank for rank in ranks if rank >= classes]
    if trivial:
        said = (*said, f"rank-{trivial[0]} can't miss: the gallery has only {classes} classes.")
    return Identification(
        cmc=cmc,
        place=place,
        probe_ids=probes.ids[known],
        ranks={rank: float(cmc[min(rank, classes) - 1]) for rank in ranks},
        classes=classes,
        open=opened,
        notes=said,
    )


class OpenSetSplit(NamedTuple):
    """Row numbers: what is known to the gallery, who asks and is known, who asks and is not."""

    gallery: Int[Tensor, " item"]
    known: Int[Tensor, " probe"]
    unknown: Int[Tensor, " probe"]


def open_set_split(
    labels: Int[Tensor, " item"], *, known: float = 0.5, gallery_images: int = 1, generator: torch.Generator
) -> OpenSetSplit:
    """Draw which classes a gallery knows, and which of their items it holds; all other items ask.

    A share of `known` of the classes that have more than `gallery_images` items goes in, with so many items each.
    The items of all other classes are unknown, those of classes too small to be both in the gallery and asked for too.
    """
    check_count("open_set_split", "gallery_images", gallery_images)
    if not 0 < known < 1:
        raise UsageError(f"open_set_split: known must be a share between 0 and 1, not {known!r}.")
    classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    fit = (sizes > gallery_images).nonzero()[:, 0]
    taken = min(max(1, round(known * len(fit))), len(sizes) - 1)
    if not len(fit) or taken < 1:
        raise BatchError(
            f"open_set_split: of {len(sizes)} classes {len(fit)} have more than {gallery_images} items.\n"
            "One must be known and one unknown; give more classes, or lower gallery_images."
        )
    chosen = torch.zeros_like(sizes, dtype=torch.bool)
    chosen[fit[torch.randperm(len(fit), generator=generator)[:taken]]] = True
    shuffled, turn = in_random_order(classes, sizes, generator)
    inside = chosen[classes[shuffled]]
    parts = (inside & (turn < gallery_images), inside & (turn >= gallery_images), ~inside)
    return OpenSetSplit(*(shuffled[part].sort().values for part in parts))


def in_random_order(classes: Tensor, sizes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All rows, class by class and shuffled within each, and the turn of each in its class, counted from 0."""
    shuffled = torch.randperm(len(classes), generator=generator)
    shuffled = shuffled[classes[shuffled].argsort(stable=True)]
    return shuffled, torch.arange(len(classes)) - (sizes.cumsum(0) - sizes)[classes[shuffled]]


class Draws(NamedTuple):
    """Metrics over several random splits: mean, standard deviation over the draws (NaN for one), and each draw."""

    means: Mapping[str, float]
    deviations: Mapping[str, float]
    each: tuple[Mapping[str, float], ...]
    notes: tuple[str, ...] = ()


def identify_draws(
    labelled: Labelled,
    *,
    draws: int = 10,
    known: float = 0.5,
    gallery_images: int = 1,
    ranks: Sequence[int] = (1, 5, 10),
    fars: Sequence[float] = FARS,
    generator: torch.Generator,
    budget_bytes: int = BUDGET_BYTES,
) -> Draws:
    """`identify` on several draws of `open_set_split`, closed and open set together, averaged."""
    check_count("identify_draws", "draws", draws)
    found = []
    for _ in range(draws):
        split = open_set_split(labelled.labels, known=known, gallery_images=gallery_images, generator=generator)
        gallery, asks = (
            Labelled(*(column[rows] for column in labelled))
            for rows in (split.gallery, torch.cat([split.known, split.unknown]))
        )
        found.append(identify(asks, gallery, ranks=ranks, fars=fars, budget_bytes=budget_bytes))
    return averaged(found)


def averaged(found: Sequence[Identification]) -> Draws:
    """Means and deviations of what several draws gave."""
    each = [one.metrics for one in found]
    table = torch.tensor([list(metrics.values()) for metrics in each], dtype=torch.float64)
    spread = table.std(0) if len(found) > 1 else torch.full_like(table[0], torch.nan)
    means, deviations = (dict(zip(each[0], column.tolist(), strict=True)) for column in (table.mean(0), spread))
    return Draws(means, deviations, tuple(each), tuple(dict.fromkeys(note for one in found for note in one.notes)))


def _matches(who: str, queries: Labelled, gallery: Labelled, budget_bytes: int) -> Matches:
    q, k = some(who, "queries", queries), some(who, "gallery", gallery)
    if q.embeddings.shape[1] != k.embeddings.shape[1]:
        wish = f"queries have {q.embeddings.shape[1]} numbers each, the gallery's items {k.embeddings.shape[1]}"
        raise BatchError(f"{who}: {wish}.\nEmbed both with one model.")
    names, classes = torch.unique(gallery.labels, return_inverse=True)
    column = places(queries.labels, names)
    there, column = column >= 0, column.clamp_min(0)
    tile = tile_of(budget_bytes, q.embeddings.shape[1], per_row=3 * len(names))
    found = Matches(q.norms.new_empty(len(column)), q.norms.new_empty(len(column)), torch.zeros_like(column))
    for rows, best in _class_scores(q, k, queries.ids, gallery.ids, classes, len(names), tile):
        own = best.gather(1, column[rows, None])[:, 0].masked_fill(~there[rows], -torch.inf)
        best[there[rows], column[rows][there[rows]]] = -torch.inf
        ahead = (best >= own[:, None] - TIE).sum(dim=1)
        found.own[rows], found.other[rows] = own, best.amax(dim=1)
        found.place[rows] = torch.where(own > -torch.inf, ahead + 1, 0)
    return found


def _class_scores(
    q: Items, k: Items, asking: Tensor, ids: Tensor, classes: Tensor, count: int, tile: Tile
) -> Iterator[tuple[slice, Float[Tensor, "query class"]]]:
    """The best score of each class for some queries at a time, no item finding itself."""
    best = q.norms.new_empty(0, count)
    for rows, columns, block in tiles(q, k, tile):
        if not columns.start:
            best = block.new_full((len(block), count), -torch.inf)
        block.masked_fill_(asking[rows, None] == ids[columns], -torch.inf)
        best.scatter_reduce_(1, classes[columns].expand(len(block), -1), block, "amax")
        if columns.stop == len(ids):
            yield rows, best


def _open_set(found: Matches, rates: tuple[float, ...]) -> OpenSet:
    known = found.known
    alarms = found.best[~known]
    identified = found.own[known & (found.place == 1)]
    steps = count_steps(identified, [alarms], total=int(known.sum()))
    return OpenSet(
        dir={rate: operating_point("identify", steps, rate) for rate in rates},
        auroc=area(count_steps(found.best[known], [alarms])),
        oscr=area(steps) if len(identified) else 0.0,
        steps=steps,
        known=int(known.sum()),
        unknown=len(alarms),
    )

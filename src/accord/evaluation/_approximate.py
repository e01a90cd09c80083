"""What an approximate index costs: its recall against exact search, and the figures of the lists it gives."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import check_count, describe
from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation._gallery import Items, gather
from accord.evaluation._lists import evaluate_lists, right_items
from accord.evaluation._metrics import wanted
from accord.evaluation._scores import TIE, exact_rows
from accord.geometry import places, row_blocks
from accord.types import Evaluation, Index, Labelled, Neighbours

SAMPLE = 1000
WITH_R = ("map@r", "r_precision")
BUDGET_BYTES = 64 * 2**20


def index_recall(
    index: Index,
    labelled: Labelled,
    *,
    k: int,
    queries: Labelled | None = None,
    sample: int = SAMPLE,
    generator: torch.Generator,
) -> float:
    """Which share of the true k nearest an index finds, as a mean over `sample` random queries; 1 is exact search.

    `labelled` is what the index holds; without `queries` its own items ask, each kept out of its list by its id. Of
    items that tie with the k-th nearest any will do: an item is right if its exact cosine is no less than that one's.
    An absent neighbour (-1) is not found. Costs `sample` exact searches. This is the recall of Aumüller, Bernhardsson,
    Faithfull, Information Systems 87, 2020, with a tolerance of 2⁻⁴⁰ on the cosine instead of a relative one.

    Raises UsageError for a k beyond what there is to find; BatchError for lists that do not fit what was asked, repeat
    an item or name one that is not in `labelled`; NumericError for scores that are no numbers.

        index_recall(index, labelled, k=10, generator=torch.Generator().manual_seed(0))
    """
    gallery = gather("index_recall", labelled)
    asking = gallery if queries is None else gather("index_recall", queries)
    _check_depth("index_recall", k, len(gallery), alone=queries is None)
    check_count("index_recall", "sample", sample)
    rows = torch.randperm(len(asking), generator=generator)[:sample].to(asking.ids.device)
    side = labelled if queries is None else queries
    lists = _search("index_recall", index, Labelled(*(column[rows] for column in side)), gallery, k)
    return _recall(lists, asking, rows, gallery, k)


def evaluate_index(
    index: Index,
    labelled: Labelled,
    *,
    queries: Labelled | None = None,
    metrics: Sequence[str] = ("recall@1", "recall@2", "recall@4", "recall@8"),
    sample: int = SAMPLE,
    generator: torch.Generator,
) -> Evaluation:
    """Judge what an approximate index finds, and say in the first note how much of the exact lists that is.

    The figures are those of the index with the embeddings, not of the embeddings: `evaluate` gives those. `recall@k`,
    `map@r` and `r_precision` are known here, as `evaluate_lists` defines them; an absent neighbour (-1) is a miss, and
    so are items that tie with the last of a list but are not in it. The index is asked for as many neighbours as the
    metrics need; `overall` holds its recall at that depth, as `index_recall@…`, from `sample` random queries.

    Raises what `index_recall` and `evaluate_lists` raise, and UsageError for another metric, and for `map@r` or
    `r_precision` where a list is shorter than the largest class asks for: cut lists would give another number.

        found = evaluate_index(index, labelled, metrics=["recall@1"], generator=torch.Generator().manual_seed(0))
        found.notes[0]
    """
    asked = wanted("evaluate_index", metrics, 1)
    _check_known(asked.names)
    check_count("evaluate_index", "sample", sample)
    gallery = gather("evaluate_index", labelled)
    side, asking = (labelled, gallery) if queries is None else (queries, gather("evaluate_index", queries))
    ks = [k for *_, k in asked.cuts]
    deepest = int(right_items(side, labelled).max()) if asked.has(*WITH_R) else 1
    depth = max([deepest, *ks])
    _check_depth("evaluate_index", depth, len(gallery), alone=queries is None)
    lists = _search("evaluate_index", index, side, gallery, depth)
    rows = torch.randperm(len(asking), generator=generator)[:sample].to(asking.ids.device)
    recall = _recall(Neighbours(*(part[rows] for part in lists)), asking, rows, gallery, depth)
    found = evaluate_lists(lists, side, labelled, ks=ks, allow_absent=True)
    _refuse_short(asked.names, found, deepest)
    short = int((lists.ids < 0).any(dim=1).sum())
    return replace(
        found,
        per_query={name: found.per_query[name] for name in asked.names},
        overall={f"index_recall@{depth}": recall},
        counts={**found.counts, "short_lists": short},
        notes=_notes(recall, depth, len(rows), short),
    )


def _search(who: str, index: Index, side: Labelled, gallery: Items, k: int) -> Neighbours:
    """The k nearest of each query by the index, itself taken out; where there are fewer, id -1 and score -inf."""
    width = min(k + 1, len(gallery))  # one more: the query itself may be among them
    scores, ids = index.search(side.embeddings, width)
    if ids.shape != (len(side.ids), width) or scores.shape != ids.shape or ids.is_floating_point():
        shapes = f"  scores: {describe(scores)}\n  ids:    {describe(ids)}"
        wish = f"the index must answer with {width} scores and whole ids for each of {len(side.ids)} queries"
        raise BatchError(f"{who}: {wish}; where it finds fewer, with the id -1.\n{shapes}")
    there = ids != -1
    strange = ids[there & (places(ids, gallery.ids) < 0)]
    if len(strange):
        raise BatchError(f"{who}: the index found id {strange[0]}, which is not among the items; -1 means none.")
    ordered = ids.sort(dim=1).values
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != -1)).any(dim=1).nonzero()[:, 0]
    if len(twice):
        raise BatchError(f"{who}: the index named an item twice for the query with id {side.ids[twice[0]]}.")
    if bool(scores[there].isnan().any()):
        raise NumericError(f"{who}: scores of the index are no numbers; look at the embeddings it was built from.")
    gone = ~there | (ids == side.ids[:, None])
    order = gone.byte().argsort(dim=1, stable=True)[:, :k]
    kept = ~gone.gather(1, order)
    return Neighbours(
        torch.where(kept, scores.gather(1, order), -torch.inf), torch.where(kept, ids.gather(1, order), -1)
    )


def _recall(lists: Neighbours, asking: Items, rows: Int[Tensor, " query"], gallery: Items, k: int) -> float:
    """The share of what exact search finds for these rows that is also in their lists."""
    column = places(lists.ids, gallery.ids)
    own = places(asking.ids[rows], gallery.ids)
    found = total = 0
    for part in row_blocks(len(rows), 4 * len(gallery), budget_bytes=BUDGET_BYTES, itemsize=8):
        scores = exact_rows(asking, rows[part], gallery)
        itself = (own[part] >= 0).nonzero()[:, 0]
        scores[itself, own[part][itself]] = -torch.inf
        nearest = scores.topk(k).values
        near = scores.gather(1, column[part].clamp_min(0)) >= nearest[:, -1:] - TIE
        found += int((near & (column[part] >= 0)).sum())
        total += int((nearest > -torch.inf).sum())
    return found / total


def _notes(recall: float, depth: int, queries: int, short: int) -> tuple[str, ...]:
    measured = (
        f"These are figures of an approximate index, not of the embeddings: it found {100 * recall:.2f} % of the "
        f"{depth} nearest items that exact search finds, measured on {queries:,} queries."
    )
    absent = f"{short:,} queries were given fewer than {depth} neighbours; the absent ones count as misses."
    return (measured, absent) if short else (measured,)


def _check_depth(who: str, k: int, items: int, *, alone: bool) -> None:
    check_count(who, "k", k)
    most = items - 1 if alone else items
    if k > most:
        raise UsageError(f"{who}: lists of {k} neighbours were asked for, but there are {most} to find.")


def _check_known(names: Sequence[str]) -> None:
    strange = [name for name in names if name not in WITH_R and not name.startswith("recall@")]
    if strange:
        raise UsageError(
            f"evaluate_index: lists of an index give recall@k, map@r and r_precision only, not {', '.join(strange)}."
        )


def _refuse_short(names: Sequence[str], found: Evaluation, deepest: int) -> None:
    missing = [name for name in names if name not in found.per_query]
    if missing:
        raise UsageError(
            f"evaluate_index: {' and '.join(missing)} take lists of {deepest} items, as many as the largest class asks "
            "for, and the index gave shorter ones.\n"
            "Let it search wider (faiss: nprobe, efSearch), leave these metrics out, or judge exactly with evaluate."
        )

"""Leave-one-out evaluation: every item looks for the others of its class among all other items."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_count
from accord.errors import UsageError
from accord.evaluation._chance import chance_levels
from accord.evaluation._clustering import nmi
from accord.evaluation._gallery import Gallery, collapsed, gather, twins
from accord.evaluation._knn import knn_hits
from accord.evaluation._ranking import BUDGET_BYTES, Ranked, rank
from accord.evaluation._retrieval import hit_ranks, recall_at, retrieval
from accord.types import Evaluation, Labelled


def evaluate(
    labelled: Labelled,
    *,
    ks: Sequence[int] = (1, 2, 4, 8),
    knn: int = 3,
    nmi_seeds: int = 10,
    seed: int = 0,
    budget_bytes: int = BUDGET_BYTES,
    clusters: bool = True,
) -> Evaluation:
    """Judge embeddings by whether items of one class find each other, by cosine score, each item among all the others.

    `per_query` holds `recall@k` for each of `ks`, `map@r`, `r_precision` and `knn_accuracy` as float64; `overall` holds
    `nmi` (the mean over `nmi_seeds` k-means runs on unit embeddings) unless `clusters` is false. An item never finds
    itself, known by its id. A right item tied with a wrong one ranks behind it, so constant embeddings score 0;
    `optimistic` says what the other order would give. Items that are alone in their class are no queries but stand in
    the way of others. Values depend neither on `budget_bytes`, the memory for scores, nor on the number of threads
    (k-means aside).

    Raises NumericError, naming ids, for rows that are zero or not finite; BatchError when shapes do not fit, ids
    repeat, or there is nothing to find.

        evaluation = evaluate(Labelled(embeddings, labels, torch.arange(len(labels))))
        evaluation.metrics["recall@1"]
    """
    ks = _checked_ks("evaluate", ks)
    check_count("evaluate", "knn", knn)
    check_count("evaluate", "nmi_seeds", nmi_seeds)
    gallery = gather("evaluate", labelled)
    queries = gallery.queries()
    worst, best = _measure(gallery, queries, ks, knn, budget_bytes)
    shared, different = twins(gallery.embeddings)
    one_line = collapsed(gallery, different)
    tied = torch.stack([best[name] != worst[name] for name in best]).any(dim=0)
    overall = {}
    if clusters:
        classes = len(gallery.sizes)
        overall["nmi"] = nmi(gallery.unit, gallery.classes, clusters=classes, seeds=nmi_seeds, seed=seed)
    return Evaluation(
        per_query=worst,
        query_ids=gallery.ids[queries],
        query_labels=gallery.labels[queries],
        overall=overall,
        counts={
            "queries": len(queries),
            "gallery": len(gallery.ids),
            "classes": len(gallery.sizes),
            "singletons": int((gallery.sizes == 1).sum()),
            "tied_queries": int(tied.sum()),
            "duplicates": shared,
            "collapsed": int(one_line),
        },
        chance=chance_levels(gallery.sizes, ks=ks, knn=knn),
        optimistic={name: float(values.mean()) for name, values in best.items()},
        notes=_notes(gallery, ks, knn, shared, one_line),
    )


def recall_curve(labelled: Labelled, ks: Sequence[int], *, budget_bytes: int = BUDGET_BYTES) -> dict[int, float]:
    """Recall@k for each of `ks`, averaged over queries, by the rules of `evaluate`."""
    ks = _checked_ks("recall_curve", ks)
    gallery = gather("recall_curve", labelled)
    queries = gallery.queries()
    hits = {k: queries.new_zeros((), dtype=torch.float64) for k in ks}
    for group in rank(gallery, queries, torch.full_like(queries, max(ks)), budget_bytes=budget_bytes):
        ranks = hit_ranks(group.scores, _right(gallery, group))
        for k in ks:
            hits[k] += recall_at(ranks, k).sum()
    return {k: float(count / len(queries)) for k, count in hits.items()}


def _measure(
    gallery: Gallery, queries: Tensor, ks: tuple[int, ...], knn: int, budget_bytes: int
) -> tuple[dict[str, Float[Tensor, " query"]], dict[str, Float[Tensor, " query"]]]:
    """Every metric per query with ties against it, and the retrieval metrics with ties for it."""
    relevant = gallery.relevant
    place = torch.empty_like(gallery.ids, dtype=torch.int64)
    place[queries] = torch.arange(len(queries), device=queries.device)
    worst: dict[str, Tensor] = {}
    best: dict[str, Tensor] = {}
    depths = relevant[queries].clamp_min(max(*ks, knn))
    for group in rank(gallery, queries, depths, budget_bytes=budget_bytes):
        right, rows = _right(gallery, group), place[group.queries]
        for results, optimistic in ((worst, False), (best, True)):
            ranks = hit_ranks(group.scores, right, optimistic=optimistic)
            _put(results, rows, retrieval(ranks, relevant[group.queries], ks), len(queries))
        votes = knn_hits(
            group.scores,
            gallery.classes[group.columns],
            gallery.classes[group.queries],
            k=min(knn, len(gallery.ids) - 1),
            class_count=len(gallery.sizes),
        )
        _put(worst, rows, {"knn_accuracy": votes}, len(queries))
    return worst, best


def _put(results: dict[str, Tensor], rows: Tensor, values: Mapping[str, Tensor], length: int) -> None:
    for name, value in values.items():
        results.setdefault(name, value.new_full((length,), torch.nan))[rows] = value


def _right(gallery: Gallery, group: Ranked) -> Tensor:
    return gallery.classes[group.columns] == gallery.classes[group.queries][:, None]


def _checked_ks(who: str, ks: Sequence[int]) -> tuple[int, ...]:
    for k in ks:
        check_count(who, "each of ks", k)
    if not ks:
        raise UsageError(f"{who}: ks must name at least one number of neighbours, such as (1, 2, 4, 8).")
    return tuple(sorted(set(ks)))


def _notes(gallery: Gallery, ks: Sequence[int], knn: int, shared: int, one_line: bool) -> tuple[str, ...]:
    """What a reader of the figures should know, in sentences."""
    others, alone = len(gallery.ids) - 1, int((gallery.sizes == 1).sum())
    trivial = [f"recall@{k}" for k in ks if k >= others]
    said = {
        "The embeddings have collapsed: they lie on one line, or are fewer than the classes.": one_line,
        f"{shared} items share their embedding with another item.": shared,
        f"{alone} items are alone in their class: they are no queries, but can be found.": alone,
        f"{', '.join(trivial)} can't miss: a query has only {others} other items.": trivial,
        f"knn_accuracy asks all {others} other items, fewer than {knn}.": knn > others,
    }
    return tuple(sentence for sentence, applies in said.items() if applies)

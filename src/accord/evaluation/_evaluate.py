"""Evaluation by retrieval: queries look for the items of their class, under the protocols of the field."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import check_count, check_flag, describe
from accord.errors import BatchError
from accord.evaluation._chance import random_levels
from accord.evaluation._clustering import cluster_scores
from accord.evaluation._confusion import confusions as count_confusions
from accord.evaluation._gallery import collapsed, fingerprints
from accord.evaluation._measure import Copies, Outcome, mean, measure
from accord.evaluation._metrics import METRICS, Wanted, wanted
from accord.evaluation._notes import notes
from accord.evaluation._protocol import Problem, pose
from accord.evaluation._ranking import BUDGET_BYTES
from accord.geometry import places
from accord.types import Confusion, Evaluation, Labelled

WITHOUT = "without_duplicates_recall@1"


def evaluate(
    labelled: Labelled,
    *,
    queries: Labelled | None = None,
    groups: Int[Tensor, " item"] | None = None,
    query_groups: Int[Tensor, " query"] | None = None,
    exclude: str = "self",
    metrics: Sequence[str] = METRICS,
    knn: int = 3,
    clusters: bool = True,
    nmi_seeds: int = 10,
    seed: int = 0,
    confusions: int = 0,
    neighbours: int = 0,
    duplicates: Int[Tensor, " item"] | None = None,
    allow_nonfinite: bool = False,
    budget_bytes: int = BUDGET_BYTES,
) -> Evaluation:
    """Judge embeddings by whether items of one class find each other, by cosine score.

    Each item asks all the others, or each of `queries` asks `labelled`, the gallery. An item never finds itself, known
    by its id. `exclude` says what a query leaves out besides: `same_class_same_group` the items of its class in its own
    group (re-identification: other pictures by the same camera are no proof), `same_group` all items of its group (only
    other sources are searched). Queries with nothing to find are not asked, and are counted.

    `per_query` holds each of `metrics` as float64: `recall@k`, `precision@k`, `map@k`, `ndcg@k` for any k, `map@r`,
    `r_precision`, `mrr`, `knn_accuracy` (of `knn` neighbours). Metrics that need all R right items look at R places
    whatever k is; places beyond the gallery count as wrong. `overall` holds `nmi`, `ami`, `ari`, `f1` and `purity`
    (means over `nmi_seeds` k-means runs on the gallery) unless `clusters` is false, and, where items of one class share
    an embedding or a number in `duplicates`, `without_duplicates_recall@1`: recall@1 had each of them been there once.

    A right item tied with a wrong one ranks behind it, so constant embeddings score 0; `optimistic` says what the other
    order would give. With `allow_nonfinite`, rows that are zero or not finite are never found, as queries miss, and
    where they are wrong answers stand in front of all: no metric is higher than it would be were they whole.
    `confusions` and `neighbours` ask for that many classes taken for others, and nearest items of each query; they come
    from the same sweep. `budget_bytes` is the memory that finding and judging neighbours may take (16 MiB at least),
    beside what is given and returned and a whole row of exact scores; k-means keeps its own blocks. Values depend
    neither on it nor on the number of threads (k-means aside).

    Raises NumericError, naming ids, for rows that are zero or not finite; BatchError when tensors do not fit, ids
    repeat, or there is nothing to find; UnknownNameError for a metric or an exclusion that is not known.

        evaluation = evaluate(Labelled(embeddings, labels, torch.arange(len(labels))))
        evaluation.metrics["recall@1"]
    """
    asked = _checked(metrics, knn, nmi_seeds, confusions, neighbours, budget_bytes, clusters, allow_nonfinite)
    problem = pose("evaluate", labelled, queries, groups, query_groups, exclude, allow_nonfinite)
    rows = (problem.relevant > 0).nonzero()[:, 0]
    copies, shared, different = _copies(problem, duplicates)
    outcome = measure(problem, rows, asked, copies=copies, neighbours=neighbours, budget_bytes=budget_bytes)
    levels = random_levels(problem.relevant[rows], problem.searched[rows], asked, _stranger_pairs(problem)[rows])
    counts = _counts(problem, rows, outcome, shared, different)
    return Evaluation(
        per_query=outcome.worst,
        query_ids=problem.queries.ids[rows],
        query_labels=problem.queries.labels[rows],
        overall=_overall(problem, outcome, clusters, nmi_seeds, seed),
        counts=counts,
        chance={name: mean(values) for name, values in levels.items()},
        optimistic={name: mean(values) for name, values in outcome.best.items() if name != "knn_accuracy"},
        notes=notes(problem, rows, asked, counts, _known(problem, copies)),
        confusions=_confused(problem, rows, outcome, confusions) if confusions else (),
        neighbours=outcome.neighbours,
        aside=_aside(levels, outcome),
    )


def recall_curve(labelled: Labelled, ks: Sequence[int], *, budget_bytes: int = BUDGET_BYTES) -> dict[int, float]:
    """Recall@k for each of `ks` by leave-one-out, averaged over queries, by the rules of `evaluate`."""
    for k in ks:
        check_count("recall_curve", "each of ks", k)
    names = {k: f"recall@{k}" for k in sorted(set(ks))}
    found = evaluate(labelled, metrics=list(names.values()), clusters=False, budget_bytes=budget_bytes).metrics
    return {k: found[name] for k, name in names.items()}


def _checked(
    metrics: Sequence[str],
    knn: int,
    nmi_seeds: int,
    confusions: int,
    neighbours: int,
    budget_bytes: int,
    clusters: bool,
    allow_nonfinite: bool,
) -> Wanted:
    check_count("evaluate", "knn", knn)
    check_count("evaluate", "nmi_seeds", nmi_seeds)
    check_count("evaluate", "confusions", confusions, low=0)
    check_count("evaluate", "neighbours", neighbours, low=0)
    check_count("evaluate", "budget_bytes", budget_bytes, high=2**63)
    check_flag("evaluate", "clusters", clusters)
    check_flag("evaluate", "allow_nonfinite", allow_nonfinite)
    return wanted("evaluate", metrics, knn)


def _copies(problem: Problem, duplicates: Tensor | None) -> tuple[Copies | None, int, int]:
    """Which items are copies, how many of the gallery share their embedding, and how many different ones there are."""
    gallery = problem.gallery
    prints = fingerprints(gallery.embeddings)
    sizes: Tensor = torch.unique(prints, return_counts=True)[1]
    shared, different = int(sizes[sizes > 1].sum()), len(sizes)
    if duplicates is not None:
        if (
            not isinstance(duplicates, Tensor)
            or duplicates.shape != gallery.ids.shape
            or duplicates.is_floating_point()
        ):
            wish = "duplicates must number the contents of the gallery's items: an integer tensor, one entry per item."
            raise BatchError(f"evaluate: {wish}\n  duplicates: {describe(duplicates)}\n  items: {len(gallery)}")
        prints = duplicates.long()
    numbers: Tensor = torch.unique(prints, return_inverse=True)[1]
    if problem.within:
        asked = numbers
    else:
        asked = torch.where(problem.own >= 0, numbers[problem.own.clamp_min(0)], -1)
        if duplicates is None:
            asked = torch.where(
                problem.own >= 0, asked, _found(fingerprints(problem.queries.embeddings), prints, numbers)
            )
    span = 1 + int(numbers.max())
    codes, query_codes = problem.classes * span + numbers, problem.query_classes * span + asked
    right = problem.count(torch.where(asked >= 0, query_codes, -1), codes)
    # asked of the gallery first: shares of the queries must agree on whether there are copies
    if len(torch.unique(codes)) == len(codes) and not bool((right > 0).any()):
        return None, shared, different
    return Copies(asked, numbers, right, _speaks(problem, codes)), shared, different


def _known(problem: Problem, copies: Copies | None) -> int:
    """How many queries from elsewhere find their own embedding in their own class."""
    return 0 if copies is None else int(((problem.own < 0) & (copies.right > 0)).sum())


def _found(prints: Tensor, known: Tensor, numbers: Tensor) -> Tensor:
    """The number of each print among the known ones, -1 where it is none of them."""
    row = places(prints, known)
    return torch.where(row >= 0, numbers[row], -1)


def _speaks(problem: Problem, codes: Tensor) -> Tensor:
    """Whether a query has the lowest id among its copies in the gallery; one from elsewhere speaks for itself."""
    numbers: Tensor = torch.unique(codes, return_inverse=True)[1]
    lowest = torch.full((int(numbers.max()) + 1,), 2**63 - 1, device=codes.device)
    lowest.scatter_reduce_(0, numbers, problem.gallery.ids, "amin")
    first = (lowest[numbers] == problem.gallery.ids)[problem.own.clamp_min(0)]
    return first | (problem.own < 0)


def _stranger_pairs(problem: Problem) -> Tensor:
    """For each query, the ordered pairs of items of one class, not its own, among those that it searches."""
    sizes = torch.bincount(problem.classes, minlength=problem.class_count)
    everyone = (sizes * (sizes - 1)).sum().expand_as(problem.relevant)
    if problem.keys is None or problem.query_keys is None or not _across(problem):
        own = sizes[problem.query_classes]
        return everyone - own * (own - 1)
    # without the group: Σ (s − x)(s − x − 1) over its classes is Σ s(s − 1) less x (2s − 1 − x)
    span = problem.class_count
    codes, x = torch.unique(problem.keys * span + problem.classes, return_counts=True)
    s = sizes[codes % span]
    less = torch.zeros(1 + int(torch.maximum(problem.keys.max(), problem.query_keys.max())), device=x.device).long()
    less.index_add_(0, codes // span, x * (2 * s - 1 - x))
    relevant = problem.relevant + ((problem.own >= 0) & (problem.keys[problem.own] != problem.query_keys)).long()
    return everyone - less[problem.query_keys] - relevant * (relevant - 1)


def _across(problem: Problem) -> bool:
    """Whether keys reach beyond a query's own class."""
    assert problem.keys is not None
    pairs: Tensor = torch.unique(torch.stack([problem.keys, problem.classes]), dim=1)
    return pairs.shape[1] > len(torch.unique(problem.keys))


def _overall(problem: Problem, outcome: Outcome, clusters: bool, seeds: int, seed: int) -> dict[str, float]:
    overall: dict[str, float] = {}
    if clusters:
        sound = problem.gallery.sound
        points = problem.gallery.whole()
        points, classes = (points, problem.classes) if bool(sound.all()) else (points[sound], problem.classes[sound])
        number = len(torch.unique(classes))
        overall |= cluster_scores(points, classes, clusters=number, seeds=seeds, seed=seed)
    if outcome.without_copies is not None:
        values = outcome.without_copies[~outcome.without_copies.isnan()]
        if len(values):
            overall[WITHOUT] = mean(values)
    return overall


def _counts(problem: Problem, rows: Tensor, outcome: Outcome, shared: int, different: int) -> dict[str, int]:
    gallery = problem.gallery
    changed = [outcome.best[name] != outcome.worst[name] for name in outcome.best]
    sizes = torch.bincount(problem.classes, minlength=problem.class_count)
    itself = (problem.own >= 0).sum()
    return {
        "queries": len(rows),
        "gallery": len(gallery),
        "classes": len(torch.unique(torch.cat([problem.classes, problem.query_classes]))),
        "singletons": int((sizes == 1).sum()),
        "queries_without_match": len(problem.queries) - len(rows),
        "excluded": int((len(gallery) - problem.searched).sum() - itself),
        "tied_queries": int(torch.stack(changed).any(dim=0).sum()),
        "duplicates": shared,
        "collapsed": int(collapsed(gallery, different, len(torch.unique(problem.classes)))),
        "nonfinite": int((~gallery.sound).sum() + (0 if problem.within else (~problem.queries.sound).sum())),
    }


def _confused(problem: Problem, rows: Tensor, outcome: Outcome, limit: int) -> tuple[Confusion, ...]:
    assert outcome.taken_for is not None
    labels = torch.zeros(problem.class_count, dtype=torch.int64, device=rows.device)
    labels[problem.query_classes], labels[problem.classes] = problem.queries.labels, problem.gallery.labels
    known = outcome.taken_for >= 0
    return count_confusions(problem.queries.labels[rows], labels[outcome.taken_for.clamp_min(0)], known, limit)


def _aside(levels: dict[str, Tensor], outcome: Outcome) -> dict[str, Tensor]:
    aside = {f"chance/{name}": values for name, values in levels.items()}
    aside |= {f"optimistic/{name}": values for name, values in outcome.best.items() if name != "knn_accuracy"}
    if outcome.without_copies is not None:
        aside[WITHOUT] = outcome.without_copies
    return aside

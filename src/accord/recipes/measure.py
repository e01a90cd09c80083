"""Asks the engine what is wanted of vectors: retrieval, clusters, verification; and tells how it asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from accord.checks import check_count
from accord.errors import UsageError
from accord.evaluation import METRICS, evaluate, space_scores, verify_all
from accord.recipes.clusters import MOST, affordable_seeds, fewer_seeds, pass_cost
from accord.recipes.pair_list import judge_pairs
from accord.recipes.re_ranking import LISTED, NOTE, re_ranked
from accord.recipes.vectors import Judged, Vectors
from accord.recipes.watch import Watch
from accord.types import Evaluation, Json, Labelled

EXCLUSIONS = {
    "self": "no item finds itself",
    "same_class_same_group": "items of the query's own class and group are junk: neither right nor wrong",
    "same_group": "only items of other groups are searched",
}


@dataclass(frozen=True)
class Judging:
    """How vectors are judged. None stands for the usual way: what it came to is told in the report's `protocol`."""

    metrics: Sequence[str] | None = None
    exclude: str | None = None
    knn: int | None = None
    nmi_seeds: int | None = None
    clusters: bool | None = None
    seed: int = 0
    sample_queries: int | None = None
    allow_nonfinite: bool = False
    verification: bool = False
    pairs: Path | str | None = None
    space: bool = False
    rerank: str = "none"
    rerank_k: int | None = None
    protocol: str | None = None


class Measured(NamedTuple):
    """What the engine said, how it was asked (`protocol`), what a reader must know, and further sections."""

    evaluation: Evaluation
    protocol: Json
    notes: tuple[str, ...]
    facts: Json


def measure(judged: Judged, how: Judging, watch: Watch) -> Measured:
    """Measure everything that was asked for."""
    facts: Json = {}
    if how.rerank != "none":
        evaluation, facts["re_ranking"] = _re_ranked(judged, how, watch)
        seeds, notes = 0, [NOTE.format(name=how.rerank)]
    else:
        if how.rerank_k is not None:
            raise UsageError("rerank_k is how many neighbours re-ranking uses; say which: rerank=query_expansion.")
        seeds, notes = _seeds(judged, how)
        evaluation = _plain(judged, how, seeds, watch)
    if how.verification:
        facts["verification"] = _verification(judged, how, watch)
    if judged.pairs is not None:
        watch.say(f"judging {len(judged.pairs.same):,} pairs")
        facts["pairs"] = judge_pairs(_one_set(judged, how, "--pairs"), judged.pairs)
    if how.space:
        facts["space"] = _space(judged, how, watch)
    return Measured(evaluation, _protocol(judged, how, seeds), tuple(notes), facts)


def _plain(judged: Judged, how: Judging, seeds: int, watch: Watch) -> Evaluation:
    gallery, queries = judged.gallery, _asking(judged, how)
    watch.say(_plan(gallery, queries, seeds))
    return evaluate(
        gallery.labelled,
        queries=None if queries is None else queries.labelled,
        groups=gallery.groups,
        query_groups=None if queries is None else queries.groups,
        exclude=how.exclude or "self",
        metrics=tuple(METRICS if how.metrics is None else how.metrics),
        knn=3 if how.knn is None else how.knn,
        clusters=bool(seeds),
        nmi_seeds=max(1, seeds),
        seed=how.seed,
        allow_nonfinite=how.allow_nonfinite,
    )


def _re_ranked(judged: Judged, how: Judging, watch: Watch) -> tuple[Evaluation, Json]:
    """What re-ranking gives; what it can't take into account is refused."""
    unfit = {
        "exclude": how.exclude not in (None, "self"),
        "groups": judged.gallery.groups is not None,
        "clusters": bool(how.clusters) or how.nmi_seeds is not None,
        "allow_nonfinite": how.allow_nonfinite,
    }
    if any(unfit.values()):
        named = ", ".join(name for name, given in unfit.items() if given)
        raise UsageError(f"Re-ranking ({how.rerank}) knows nothing of {named}; leave that out.")
    queries = _asking(judged, how)
    watch.say(f"{_plan(judged.gallery, queries, 0)}, and again, re-ranked by {how.rerank}")
    usual = LISTED if how.rerank == "k_reciprocal" and how.knn is None else METRICS
    return re_ranked(
        how.rerank,
        judged.gallery.labelled,
        None if queries is None else queries.labelled,
        metrics=tuple(usual if how.metrics is None else how.metrics),
        knn=3 if how.knn is None else how.knn,
        k=how.rerank_k,
    )


def _asking(judged: Judged, how: Judging) -> Vectors | None:
    """Who asks: the queries, a random sample of them or of the gallery, or None for every item of the gallery."""
    if how.sample_queries is None:
        return judged.queries
    check_count("judge", "sample_queries", how.sample_queries)
    side = judged.queries or judged.gallery
    total = len(side.labelled.ids)
    if how.sample_queries >= total:
        return judged.queries
    generator = torch.Generator().manual_seed(how.seed)
    rows = torch.randperm(total, generator=generator)[: how.sample_queries].sort().values
    picked = Labelled(*(column[rows] for column in side.labelled))
    return Vectors(picked, None if side.groups is None else side.groups[rows])


def _seeds(judged: Judged, how: Judging) -> tuple[int, list[str]]:
    """How many k-means runs there are, none where clusters are not wanted or would take too long; and what to say."""
    if how.clusters is False:
        return 0, []
    wanted = 10 if how.nmi_seeds is None else how.nmi_seeds
    check_count("judge", "nmi_seeds", wanted)
    gallery, unasked = judged.gallery.labelled, how.clusters is None and how.nmi_seeds is None
    if unasked and (how.sample_queries is not None or pass_cost(gallery) > MOST):
        reason = "only a sample of the items asks" if how.sample_queries is not None else "the set is large"
        return 0, [f"Clusters were left out, since {reason}; ask for clusters to have them."]
    seeds = wanted if how.clusters else affordable_seeds(gallery, wanted)
    return seeds, fewer_seeds(seeds, wanted)


def _plan(gallery: Vectors, queries: Vectors | None, seeds: int) -> str:
    items, dim = gallery.labelled.embeddings.shape
    asking = f"{items if queries is None else len(queries.labelled.ids):,} queries"
    clusters = f", then {seeds} k-means runs" if seeds else ""
    return f"{asking} ask {items:,} items of {dim} numbers{clusters}"


def _verification(judged: Judged, how: Judging, watch: Watch) -> Json:
    """Every pair of the gallery: same class, or not?"""
    labelled = _one_set(judged, how, "verification")
    items = len(labelled.ids)
    watch.say(f"comparing {items * (items - 1) // 2:,} pairs")
    found = verify_all(labelled)
    return {
        **found.metrics,
        "eer_threshold": found.eer_threshold,
        "thresholds": {f"far={far:g}": point.threshold for far, point in found.tar.items()},
        "best_accuracy": found.best_accuracy,
        "notes": list(found.notes),
    }


def _one_set(judged: Judged, how: Judging, what: str) -> Labelled:
    """The items that pairs are made of; groups and a second set have no meaning for them."""
    if judged.queries is not None:
        raise UsageError(f"{what} judges all pairs of one set; leave out the queries.")
    if how.exclude not in (None, "self"):
        raise UsageError(f"{what} judges all pairs alike; leave out exclude.")
    return judged.gallery.labelled


def _space(judged: Judged, how: Judging, watch: Watch) -> Json:
    """How the gallery's embeddings fill their space."""
    if how.allow_nonfinite:
        raise UsageError("space needs every row; leave out allow_nonfinite.")
    watch.say("measuring the space of the embeddings")
    return dict(space_scores(judged.gallery.labelled.embeddings, judged.gallery.labelled.labels))


def _protocol(judged: Judged, how: Judging, seeds: int) -> Json:
    exclude = how.exclude or "self"
    queries = "leave-one-out" if judged.queries is None else "query/gallery"
    words = [f"{queries.capitalize()} by cosine; {EXCLUSIONS[exclude]}."]
    if how.sample_queries is not None:
        words.append(f"{how.sample_queries:,} queries were drawn with seed {how.seed}.")
    return {
        "queries": queries,
        "score": "cosine",
        "exclude": exclude,
        "re_ranking": how.rerank,
        "metrics": list(how.metrics or METRICS),
        "knn": 3 if how.knn is None else how.knn,
        "nmi_seeds": seeds,
        "seed": how.seed,
        "sample_queries": how.sample_queries,
        "allow_nonfinite": how.allow_nonfinite,
        "words": " ".join(words),
    }

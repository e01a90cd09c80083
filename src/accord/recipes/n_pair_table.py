"""The whole table of the N-pair paper for one set of items: verification, identification, recognition, clusters."""

import math
from dataclasses import replace

import torch

from accord.errors import UsageError
from accord.evaluation import (
    Draws,
    class_clusters,
    class_fold_pairs,
    closed_set_draws,
    identify_draws,
    most_class_folds,
    pair_scores,
    verify_against,
    verify_pairs,
)
from accord.recipes.measure import Judging, Measured, measure
from accord.recipes.vectors import Judged
from accord.recipes.watch import Watch
from accord.types import Json, Labelled

NEGATIVES = 71
FOLDS, PAIRS = 10, 300
DRAWS = 10
FAR = 0.01


def measure_n_pair(judged: Judged, how: Judging, watch: Watch) -> Measured:
    """What `measure` finds, with the section `n_pair`: each figure of the paper's tables with its standard error.

    Sohn, NIPS 2016. k-means runs once, for the figures of the whole set and for their errors. What is drawn
    (pairs, galleries, centres) hangs on `how.seed` and the items alone.
    """
    if how.allow_nonfinite:
        raise UsageError("The protocol n_pair compares pairs of items and needs every row; leave out allow_nonfinite.")
    seeds = how.nmi_seeds or 10
    found = measure(judged, replace(how, clusters=False, nmi_seeds=None), watch)
    items = judged.gallery.labelled
    classes = len(torch.unique(items.labels))
    watch.say(f"verification, {DRAWS} galleries and {seeds} k-means runs of {len(items.ids):,} items")
    runs = class_clusters(items, seeds=seeds, seed=how.seed)
    overall = {name: float(values.mean()) for name, values in runs.items()}
    evaluation = replace(found.evaluation, overall={**overall, **found.evaluation.overall})
    told = _Table()
    _against(told, items, classes)
    _verification(told, items, how.seed)
    _identification(told, items, how.seed)
    queries = f"leave-one-out, {len(evaluation.query_ids):,} queries"
    told.add("recognition", f"recognition, {how.knn or 3} nearest", evaluation.metrics["knn_accuracy"], None, queries)
    for name in ("f1", "nmi"):
        told.add(name, name.upper(), overall[name], _error(runs[name].tolist()), f"{seeds} k-means runs")
    if how.sample_queries is not None:
        told.notes.append(
            "Only retrieval and recognition are of the sample; the rest of the N-pair table is of all items."
        )
    section = {"figures": told.figures, "seed": how.seed, "notes": told.notes}
    protocol = {**found.protocol, "nmi_seeds": seeds}
    return Measured(evaluation, protocol, found.notes, {**found.facts, "n_pair": section})


class _Table:
    """Figures by name, and what a reader must know."""

    def __init__(self) -> None:
        self.figures: Json = {}
        self.notes: list[str] = []

    def add(self, name: str, words: str, value: float, error: float | None, over: str) -> None:
        """A fraction in [0, 1], its standard error where something was drawn, and what it was measured over."""
        known = None if error is None else round(error, 6)
        self.figures[name] = {"words": words, "value": round(value, 6), "standard_error": known, "over": over}


def _against(told: _Table, items: Labelled, classes: int) -> None:
    """Verification against k strangers: nothing is drawn, so there is no error of drawing."""
    most = min(NEGATIVES, classes - 1)
    for k, values in verify_against(items, negatives=sorted({1, most})).items():
        words = f"verification, {k} negative{'s' if k > 1 else ''}"
        told.add(f"vrf@{k}", words, float(values.mean()), None, f"{len(values):,} queries, no draw")
    if most < NEGATIVES:
        told.notes.append(
            f"The paper holds a partner against {NEGATIVES} negatives, here it is {most}: the number of other classes."
        )


def _verification(told: _Table, items: Labelled, seed: int) -> None:
    """One threshold for same or different, chosen on the classes of the other folds."""
    folds = min(FOLDS, most_class_folds(items.labels))
    if folds < 2:
        told.notes.append("Too few classes for folds that share none: there is no verification accuracy.")
        return
    generator = torch.Generator().manual_seed(seed)
    drawn = class_fold_pairs(items.labels, folds=folds, each=PAIRS, generator=generator)
    found = verify_pairs(pair_scores(items, drawn.pairs, by="row"), drawn.same, folds=drawn.fold)
    assert found.accuracy is not None
    over = f"{folds} folds of classes, {len(drawn.same):,} pairs"
    told.add("verification_accuracy", "verification accuracy", found.accuracy, found.standard_error, over)
    if folds < FOLDS:
        told.notes.append(f"There are classes for {folds} folds that share none, not for {FOLDS}.")


def _identification(told: _Table, items: Labelled, seed: int) -> None:
    """Who is it: among all classes, and among half of them while the other half asks, too."""
    closed = closed_set_draws(items, draws=DRAWS, ranks=(1,), generator=torch.Generator().manual_seed(seed))
    told.add("rank-1", "rank-1, closed set", *_mean(closed, "rank-1"), f"{DRAWS} galleries, one item a class")
    generator = torch.Generator().manual_seed(seed)
    opened = identify_draws(items, draws=DRAWS, ranks=(1,), fars=(FAR,), generator=generator)
    over = f"{DRAWS} galleries of half the classes"
    told.add(f"dir@far={FAR:g}", f"DIR@FAR {FAR:.0%}, open set", *_mean(opened, f"dir@far={FAR:g}"), over)
    # draws differ only in how many strangers ask: the first one speaks for all
    told.notes += [note for note in opened.notes if "can't miss" not in note][:1]


def _mean(draws: Draws, name: str) -> tuple[float, float]:
    return draws.means[name], _error([one[name] for one in draws.each])


def _error(values: list[float]) -> float:
    """The standard error of a mean over draws: s/√draws."""
    return float(torch.tensor(values, dtype=torch.float64).std()) / math.sqrt(len(values))

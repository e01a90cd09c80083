"""One sweep over the gallery for everything that is asked of it: metrics, neighbours and who is taken for whom."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.evaluation._deep import first_ranks
from accord.evaluation._knn import knn_hits
from accord.evaluation._metrics import Wanted
from accord.evaluation._protocol import Problem
from accord.evaluation._ranking import Ranked, rank
from accord.evaluation._retrieval import hit_ranks, recall_at, retrieval
from accord.evaluation._scores import TIE, exact_pairs
from accord.types import Neighbours


@dataclass(frozen=True)
class Copies:
    """Which items are copies of each other: per query its number among the gallery's copies (-1: none), how many right
    items are copies of it, and whether it speaks for its copies (the lowest id does).
    """

    query_numbers: Int[Tensor, " query"]
    numbers: Int[Tensor, " item"]
    right: Int[Tensor, " query"]
    speaks: Bool[Tensor, " query"]


@dataclass
class Outcome:
    """What one sweep found, each tensor in the order of the queries that have something to find.

    `worst` and `best` are the metrics with ties against and for the query; `taken_for` the class of a wrong item among
    the nearest, -1 where all are right; `without_copies` recall@1 had there been no copies, NaN where not asked then.
    """

    worst: dict[str, Float[Tensor, " query"]] = field(default_factory=dict)
    best: dict[str, Float[Tensor, " query"]] = field(default_factory=dict)
    taken_for: Int[Tensor, " query"] | None = None
    without_copies: Float[Tensor, " query"] | None = None
    neighbours: Neighbours | None = None


def measure(
    problem: Problem,
    queries: Int[Tensor, " query"],
    asked: Wanted,
    *,
    copies: Copies | None,
    neighbours: int,
    budget_bytes: int,
) -> Outcome:
    """Rank the gallery once for each query (by row number) and judge the lists."""
    device, count = queries.device, len(queries)
    outcome = Outcome(taken_for=torch.full((count,), -1, device=device))
    for name in asked.names:
        # zero until measured: a query without a direction finds nothing
        outcome.worst[name] = torch.zeros(count, dtype=torch.float64, device=device)
        outcome.best[name] = torch.zeros(count, dtype=torch.float64, device=device)
    if copies is not None:
        outcome.without_copies = torch.zeros(count, dtype=torch.float64, device=device)
    if neighbours:
        outcome.neighbours = Neighbours(
            torch.full((count, neighbours), -torch.inf, device=device),
            torch.full((count, neighbours), -1, device=device),
        )
    place = torch.empty_like(problem.own)
    place[queries] = torch.arange(count, device=device)
    able = queries[problem.queries.sound[queries] & (problem.found[queries] > 0)]
    depths = asked.depths(problem.relevant[able]).clamp_min(neighbours)
    if copies is not None:
        depths = torch.maximum(depths, copies.right[able] + 1)
    if not len(able):
        return outcome
    for group in rank(problem, able, depths, fine=max(1, asked.knn), ordered=neighbours, budget_bytes=budget_bytes):
        _judge(problem, group, place[group.queries], asked, outcome)
        if copies is not None:
            _judge_without(problem, group, place[group.queries], copies, outcome)
        if neighbours:
            _list(problem, group, place[group.queries], outcome)
    if asked.has("mrr"):
        _go_deep(problem, able, depths, place, outcome, budget_bytes)
    return outcome


def _judge(problem: Problem, group: Ranked, places: Tensor, asked: Wanted, outcome: Outcome) -> None:
    queries, scores, columns = group
    classes, own = problem.classes[columns], problem.query_classes[queries]
    right = (classes == own[:, None]) & scores.isfinite()
    relevant, lost = problem.relevant[queries], problem.wrong_lost[queries]
    for results, optimistic in ((outcome.worst, False), (outcome.best, True)):
        ranks = hit_ranks(scores, right, optimistic=optimistic)
        # wrong items without a place may stand in front of all
        ranks = ranks if optimistic else ranks + lost[:, None]
        for name, values in retrieval(ranks, relevant, asked).items():
            results[name][places] = values
    if asked.has("knn_accuracy"):
        hits = knn_hits(
            scores,
            classes,
            own,
            k=problem.found[queries].clamp_max(asked.knn),
            class_count=problem.class_count,
            taken=lost,
        )
        outcome.worst["knn_accuracy"][places] = hits
        # whether another order would vote otherwise is not asked: a lower bound is enough for a vote
        outcome.best["knn_accuracy"][places] = hits
    wrong = ~right & (scores >= scores[:, :1] - TIE) & scores.isfinite()
    first = columns.masked_fill(~wrong, len(problem.gallery)).amin(dim=1)
    missed = wrong.any(dim=1)
    assert outcome.taken_for is not None
    outcome.taken_for[places[missed]] = problem.classes[first[missed]]


def _judge_without(problem: Problem, group: Ranked, places: Tensor, copies: Copies, outcome: Outcome) -> None:
    """Recall@1 had each item been there once: a query's own copies are neither right nor in the way."""
    queries, scores, columns = group
    same = problem.classes[columns] == problem.query_classes[queries, None]
    copy = copies.numbers[columns] == copies.query_numbers[queries, None]
    ranks = hit_ranks(scores, same & ~copy & scores.isfinite(), wrong=~same)
    values = recall_at(ranks + problem.wrong_lost[queries, None], 1)
    counts = copies.speaks[queries] & (problem.relevant[queries] > copies.right[queries])
    assert outcome.without_copies is not None
    outcome.without_copies[places] = torch.where(counts, values, torch.nan)


def _list(problem: Problem, group: Ranked, places: Tensor, outcome: Outcome) -> None:
    """The first items of each list, with exact scores."""
    assert outcome.neighbours is not None
    width = min(outcome.neighbours.ids.shape[1], group.scores.shape[1])
    columns, there = group.columns[:, :width], group.scores[:, :width].isfinite()
    row, place = there.nonzero(as_tuple=True)
    exact = exact_pairs(problem.queries, group.queries[row], problem.gallery, columns[row, place])
    outcome.neighbours.scores[places[row], place] = exact.clamp(-1, 1).float()
    outcome.neighbours.ids[places[row], place] = problem.gallery.ids[columns[row, place]]


def _go_deep(
    problem: Problem, able: Tensor, depths: Tensor, place: Tensor, outcome: Outcome, budget_bytes: int
) -> None:
    """Count how many items stand before the first right one where no list reaches down to it."""
    reached = outcome.worst["mrr"][place[able]] >= 1 / depths
    reached &= outcome.best["mrr"][place[able]] >= 1 / depths
    rest = able[~reached & (problem.relevant[able] > problem.right_lost[able])]
    outcome.worst["mrr"][place[able[~reached]]] = 0
    outcome.best["mrr"][place[able[~reached]]] = 0
    worst, best = first_ranks(problem, rest, budget_bytes=budget_bytes)
    outcome.worst["mrr"][place[rest]] = 1 / (worst + problem.wrong_lost[rest])
    outcome.best["mrr"][place[rest]] = 1 / best


def mean(values: Float[Tensor, " query"]) -> float:
    """The mean, its sum rounded once: it does not depend on the order."""
    return math.fsum(values.tolist()) / len(values)

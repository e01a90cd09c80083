"""What random guessing scores: each metric's mean when every order of the items searched is equally likely."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.evaluation._metrics import METRICS, Wanted, wanted
from accord.evaluation._retrieval import best_gain


def chance_levels(sizes: Int[Tensor, " class"], *, metrics: Sequence[str] = METRICS, knn: int = 3) -> dict[str, float]:
    """Chance level of each metric for leave-one-out over classes of these sizes, averaged over queries.

    Items that are alone in their class are no queries. `knn_accuracy` is given for up to three neighbours, where a
    short formula exists, and left out beyond.
    """
    asked = wanted("chance_levels", metrics, knn)
    weights = sizes[sizes > 1].double()
    relevant = sizes[sizes > 1] - 1
    searched = (sizes.sum() - 1).expand_as(relevant)
    pairs = (sizes * (sizes - 1)).sum() - (relevant + 1) * relevant
    levels = random_levels(relevant, searched, asked, pairs)
    return {name: float((level * weights).sum() / weights.sum()) for name, level in levels.items()}


def random_levels(
    relevant: Int[Tensor, " query"],
    searched: Int[Tensor, " query"],
    asked: Wanted,
    stranger_pairs: Int[Tensor, " query"] | None = None,
) -> dict[str, Float[Tensor, " query"]]:
    """The expected value of each metric per query with R relevant of N searched items in a random order.

    `stranger_pairs` counts the ordered pairs of items of one class, not the query's own, that it searches; without it
    `knn_accuracy` is left out.
    """
    r, n = relevant.double(), searched.double()
    levels = {name: _cut_level(family, k, relevant, r, n) for name, family, k in asked.cuts}
    if asked.has("map@r"):
        levels["map@r"] = random_map(r, n, r)
    if asked.has("r_precision"):
        levels["r_precision"] = r / n
    if asked.has("mrr"):
        levels["mrr"] = random_mrr(r, n)
    if asked.has("knn_accuracy") and asked.knn <= 3 and stranger_pairs is not None:
        levels["knn_accuracy"] = _random_knn(r, n, stranger_pairs.double(), asked.knn)
    return {name: levels[name] for name in asked.names if name in levels}


def random_recall(
    relevant: Float[Tensor, " query"], searched: Float[Tensor, " query"], k: int
) -> Float[Tensor, " query"]:
    """Chance that k of N items, drawn without replacement, hold one of R: 1 − C(N−R, k) / C(N, k)."""
    drawn = searched.clamp_max(k)
    missed = torch.ones_like(relevant)
    # place by place, and no further than any query's list reaches or any chance of missing is left
    for place in range(int(drawn.max())):
        left = torch.where(place < drawn, (searched - relevant - place) / (searched - place).clamp_min(1), 1)
        missed = missed * left.clamp_min(0)
        if not bool((missed > 0).any()):
            break
    return 1 - missed


def random_map(
    relevant: Float[Tensor, " query"], searched: Float[Tensor, " query"], k: Float[Tensor, " query"]
) -> Float[Tensor, " query"]:
    """Expected MAP@k of a random order: (1/min(k, R)) Σ_{i≤k} (R/N) (1 + (i−1) (R−1)/(N−1)) / i.

    The i-th place is right with probability R/N, and then each place before it with probability (R−1)/(N−1).
    """
    places = torch.minimum(k, searched)
    harmonic = _harmonic(places)
    again = (relevant - 1) / (searched - 1).clamp_min(1)
    return relevant / searched * (harmonic + (places - harmonic) * again) / torch.minimum(k, relevant)


def random_map_at_r(relevant: Float[Tensor, " query"], searched: Float[Tensor, " query"]) -> Float[Tensor, " query"]:
    """Expected MAP@R of a random order of N items of which R are right."""
    return random_map(relevant, searched, relevant)


def random_mrr(relevant: Float[Tensor, " query"], searched: Float[Tensor, " query"]) -> Float[Tensor, " query"]:
    """Expected 1 / rank of the first of R right items among N in a random order: R / (N−R+1) · (H_N − H_{R−1})."""
    return relevant / (searched - relevant + 1) * (_harmonic(searched) - _harmonic(relevant - 1))


def _cut_level(family: str, k: int, relevant: Tensor, r: Tensor, n: Tensor) -> Tensor:
    if family == "recall":
        return random_recall(r, n, k)
    if family == "precision":
        return n.clamp_max(k) / k * r / n
    if family == "map":
        return random_map(r, n, torch.full_like(r, k))
    return r / n * best_gain(n.long(), k) / best_gain(relevant, k)


def _harmonic(count: Tensor) -> Tensor:
    harmonic: Tensor = torch.digamma(count + 1) - torch.digamma(torch.ones_like(count))
    return harmonic


def _random_knn(relevant: Tensor, searched: Tensor, stranger_pairs: Tensor, k: int) -> Tensor:
    # one vote each: the nearest decides, so a second neighbour changes nothing
    first = relevant / searched
    if k < 3:
        return first
    pairs, strangers = ((searched - 1) * (searched - 2)).clamp_min(1), searched - relevant
    both_right = (relevant - 1) * (relevant - 2) / pairs
    one_right = 2 * (relevant - 1) * strangers / pairs
    # pairs of strangers of one class outvote the first neighbour
    all_different = (strangers * (strangers - 1) - stranger_pairs) / pairs
    then_both = relevant * (relevant - 1) / pairs
    three = first * (both_right + one_right + all_different) + strangers / searched * then_both
    return torch.where(searched < 3, first, three)

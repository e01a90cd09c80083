"""Retrieval metrics, one number per query, from the ranks of its right items; ties count for or against the query."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.evaluation._metrics import Wanted
from accord.evaluation._scores import TIE


def hit_ranks(
    scores: Float[Tensor, "query rank"],
    right: Bool[Tensor, "query rank"],
    *,
    wrong: Bool[Tensor, "query rank"] | None = None,
    optimistic: bool = False,
) -> Float[Tensor, "query rank"]:
    """The rank of each right item among all items of its row, counted from 1; infinite where an item is not right.

    Scores go down along a row. A right item stands behind every wrong one that scores higher or ties with it; with
    `optimistic` it stands before those that tie. Among right items the order makes no difference. Items that are
    neither right nor wrong, where `wrong` is given, are as if they were not there.
    """
    falling = -scores.contiguous()
    ahead = torch.searchsorted(falling, falling - TIE if optimistic else falling + TIE, right=not optimistic)
    wrong_so_far = torch.nn.functional.pad((~right if wrong is None else wrong).cumsum(dim=1), (1, 0))
    ranks = right.cumsum(dim=1) + wrong_so_far.gather(1, ahead)
    return ranks.double().masked_fill(~right, torch.inf)


def recall_at(ranks: Float[Tensor, "query rank"], k: int) -> Float[Tensor, " query"]:
    """1 where a right item is among the k nearest, else 0 (Jégou et al., TPAMI 2011; in metric learning since 2016).

    Not the share of all right items that is found, which information retrieval calls recall.
    """
    return (ranks.amin(dim=1) <= k).double()


def precision_at(ranks: Float[Tensor, "query rank"], k: int) -> Float[Tensor, " query"]:
    """The share of right items among the k nearest: (1/k) Σ_{i≤k} rel(i). Places without an item count as wrong."""
    return (ranks <= k).sum(dim=1).double() / k


def map_at(
    ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"], k: int | Int[Tensor, " query"]
) -> Float[Tensor, " query"]:
    """Average precision among the k nearest: (1 / min(k, R)) Σ_{i≤k} P(i) · rel(i), where R items are right.

    P(i) is the precision among the i nearest, rel(i) whether the i-th is right. Divided by what k places can hold, so
    that 1 can be reached; peers who divide by the number found, by R or by k give other values.
    """
    found: Tensor = torch.isfinite(ranks).cumsum(dim=1)
    most = torch.as_tensor(k, device=relevant.device).expand_as(relevant)
    gains = torch.where(ranks <= most[:, None], found / ranks, 0.0)
    return gains.sum(dim=1) / torch.minimum(most, relevant)


def map_at_r(ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"]) -> Float[Tensor, " query"]:
    """Mean average precision at R: (1/R) Σ_{i≤R} P(i) · rel(i) (Musgrave et al., ECCV 2020, §3.3).

    Sensitive to the order within the R nearest, where R-precision is not.
    """
    return map_at(ranks, relevant, relevant)


def r_precision(ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"]) -> Float[Tensor, " query"]:
    """The share of right items among the R nearest, where R items are right (Musgrave et al., ECCV 2020, §3.3)."""
    return (ranks <= relevant[:, None]).sum(dim=1) / relevant.double()


def ndcg_at(ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"], k: int) -> Float[Tensor, " query"]:
    """Normalised discounted cumulative gain: Σ_{i≤k} rel(i) / log₂(i + 1), over its largest value (Järvelin 2002).

    An item is right or wrong, so gains are 1 or 0; the largest value has min(k, R) right items in front.
    """
    gains = torch.where(ranks <= k, 1 / torch.log2(ranks + 1), 0.0).sum(dim=1)
    return gains / best_gain(relevant, k)


def best_gain(relevant: Int[Tensor, " query"], k: int) -> Float[Tensor, " query"]:
    """Σ_{i ≤ min(k, R)} 1 / log₂(i + 1)."""
    most = relevant.clamp_max(k)
    places = torch.arange(1, int(most.max()) + 1, dtype=torch.float64, device=relevant.device)
    return (1 / torch.log2(places + 1)).cumsum(0)[most - 1]


def retrieval(
    ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"], asked: Wanted
) -> dict[str, Float[Tensor, " query"]]:
    """Every retrieval metric asked for, by name; `mrr` (1 / rank of the first right item) is 0 beyond the list."""
    found = {}
    for name, family, k in asked.cuts:
        if family == "recall":
            found[name] = recall_at(ranks, k)
        elif family == "precision":
            found[name] = precision_at(ranks, k)
        else:
            found[name] = map_at(ranks, relevant, k) if family == "map" else ndcg_at(ranks, relevant, k)
    if asked.has("map@r"):
        found["map@r"] = map_at_r(ranks, relevant)
    if asked.has("r_precision"):
        found["r_precision"] = r_precision(ranks, relevant)
    if asked.has("mrr"):
        found["mrr"] = 1 / ranks.amin(dim=1)
    return found

"""Retrieval metrics: recall@k, MAP@R and R-precision, one number per query, with ties for or against the query."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.evaluation._scores import TIE


def hit_ranks(
    scores: Float[Tensor, "query rank"], right: Bool[Tensor, "query rank"], *, optimistic: bool = False
) -> Float[Tensor, "query rank"]:
    """The rank of each right item among all items of its row, counted from 1; infinite where an item is wrong.

    Scores go down along a row. A right item stands behind every wrong one that scores higher or ties with it; with
    `optimistic` it stands before those that tie. Among right items the order makes no difference.
    """
    falling = -scores.contiguous()
    ahead = torch.searchsorted(falling, falling - TIE if optimistic else falling + TIE, right=not optimistic)
    wrong_so_far = torch.nn.functional.pad((~right).cumsum(dim=1), (1, 0))
    ranks = right.cumsum(dim=1) + wrong_so_far.gather(1, ahead)
    return ranks.double().masked_fill(~right, torch.inf)


def recall_at(ranks: Float[Tensor, "query rank"], k: int) -> Float[Tensor, " query"]:
    """1 where a right item is among the k nearest, else 0 (Jégou et al., TPAMI 2011; in metric learning since 2016)."""
    return (ranks.amin(dim=1) <= k).double()


def r_precision(ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"]) -> Float[Tensor, " query"]:
    """The share of right items among the R nearest, where R items are right (Musgrave et al., ECCV 2020, §3.3)."""
    return (ranks <= relevant[:, None]).sum(dim=1) / relevant.double()


def map_at_r(ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"]) -> Float[Tensor, " query"]:
    """Mean average precision at R: (1/R) Σ_{i≤R} P(i) · rel(i) (Musgrave et al., ECCV 2020, §3.3).

    P(i) is the precision among the i nearest, rel(i) whether the i-th is right. Sensitive to the order within the R
    nearest, where R-precision is not.
    """
    found: Tensor = torch.isfinite(ranks).cumsum(dim=1)
    gains = torch.where(ranks <= relevant[:, None], found / ranks, 0.0)
    return gains.sum(dim=1) / relevant


def retrieval(
    ranks: Float[Tensor, "query rank"], relevant: Int[Tensor, " query"], ks: Sequence[int]
) -> dict[str, Float[Tensor, " query"]]:
    """Every metric of this file by name: `recall@k` for each k, `map@r`, `r_precision`."""
    recalls = {f"recall@{k}": recall_at(ranks, k) for k in ks}
    return {**recalls, "map@r": map_at_r(ranks, relevant), "r_precision": r_precision(ranks, relevant)}

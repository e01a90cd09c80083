"""The metric at test time: how much each head counts, fitted on labelled items, and how far apart its items lie."""

from collections.abc import Mapping
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_batch, check_range
from accord.errors import BatchError, UnknownNameError, UsageError
from accord.geometry import euclidean, normalise, row_blocks
from accord.types import Embeddings, Labels

BY = ("map@r", "nca")
STEPS = (2.0, 0.5, 1.2, 1 / 1.2, 0.0)  # what a share is multiplied by in turn
ITERATIONS = 100
SHARPEST = 100.0  # the largest sum of shares / temperature: a cosine of 0.1 more then counts e^10 times as much


def head_distance_scales(heads: Mapping[str, Embeddings]) -> dict[str, float]:
    """Each head's mean Euclidean distance between two of its (item, dim) rows, over all pairs.

    Divided by it, heads of any length are equally wide, and weights between them mean what they say. Costs items² per
    head, in blocks. BatchError where a head has less than two rows, or rows that are all the same.
    """
    scales = {}
    for name, head in heads.items():
        count = len(head)
        if count < 2:
            raise BatchError(f"head_distance_scales: head '{name}' has {count} rows; a distance takes two.")
        rows = head.double()
        total = sum(float(euclidean(rows[block], rows).sum()) for block in row_blocks(count, count, itemsize=8))
        if not total:
            raise BatchError(f"head_distance_scales: all rows of head '{name}' are the same; leave it out.")
        scales[name] = total / (count * (count - 1))
    return scales


def fit_shares(
    heads: Mapping[str, Embeddings],
    labels: Labels,
    *,
    by: str = "map@r",
    start: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Head weights ≥ 0 with sum 1 whose mean of cosines best finds items of one class, each item left out in turn.

    `by="map@r"` climbs from `start` (equal shares by default): a head's share is doubled, halved, moved by a fifth or
    taken away as long as MAP@R rises; what comes out never does worse on these items. `by="nca"` maximises
    the mean log of the probability Σ_{j of i's class} p(j | i) that a neighbour is right, p(j | i) ∝ exp(Σ_h β_h
    cos_h(i, j)), j ≠ i (Goldberger et al., NIPS 2004, with cosines and the log), over β ≥ 0 with Σ β ≤ 100; the shares
    are β / Σ β. It is smooth, and looks at the nearest right item rather than at all.

    These are as many numbers as heads; fit them on classes that the heads did not learn from. Items without another of
    their class do not ask. Keeps items² numbers per head: hand over a few thousand items at most.

    BatchError if no class has two items; UsageError without a head, and for options that do not fit.
    """
    if by not in BY:
        raise UnknownNameError("way to fit shares", by, BY)
    for name, head in heads.items():
        check_batch(f"fit_shares, head '{name}'", head, labels)
    first = _first(heads, by, start)
    if len(heads) == 1:
        return dict.fromkeys(heads, 1.0)
    own = torch.eye(len(labels), dtype=torch.bool)
    same = (labels[:, None] == labels) & ~own
    asks = same.any(dim=1)
    if not bool(asks.any()):
        raise BatchError("fit_shares: no class has two items, so that nothing could be found.")
    cosines = torch.stack([_cosines(head) for head in heads.values()])[:, asks]
    found = _climb(cosines, same[asks], own[asks], first) if by == "map@r" else _descend(cosines, same[asks], own[asks])
    return dict(zip(heads, (found / found.sum()).tolist(), strict=True))


def _first(heads: Mapping[str, Embeddings], by: str, start: Mapping[str, float] | None) -> Tensor:
    """Where the climb begins."""
    if not heads:
        raise UsageError("fit_shares: give at least one head.")
    if start is None:
        return torch.full((len(heads),), 1 / len(heads), dtype=torch.float64)
    if by != "map@r":
        raise UsageError(f"fit_shares: only by='map@r' has a start; leave it out for by='{by}'.")
    if set(start) != set(heads):
        raise UsageError(f"fit_shares: start names {sorted(start)}, but the heads are {sorted(heads)}.")
    for name, share in start.items():
        check_range("fit_shares", f"the start of '{name}'", share, low=0)
    if not any(start.values()):
        raise UsageError("fit_shares: at least one share of the start must be more than 0.")
    first = torch.tensor([float(start[name]) for name in heads], dtype=torch.float64)
    return first / first.sum()


def _cosines(head: Embeddings) -> Float[Tensor, "item item"]:
    unit = normalise(head.double())
    return unit @ unit.T


def _climb(cosines: Tensor, same: Tensor, own: Tensor, shares: Tensor) -> Tensor:
    """The shares from which no single step leads up."""
    best = _map_at_r(shares, cosines, same, own)
    rising = True
    while rising:
        rising = False
        for head, step in product(range(len(shares)), STEPS):
            moved = shares.clone()
            # a head that was given up may come back
            moved[head] = step * (shares[head] if shares[head] > 0 else 0.5 / len(shares))
            if not moved.any():
                continue
            moved = moved / moved.sum()
            reached = _map_at_r(moved, cosines, same, own)
            if reached > best + 1e-9:
                shares, best, rising = moved, reached, True
    return shares


def _map_at_r(shares: Tensor, cosines: Tensor, same: Tensor, own: Tensor) -> float:
    """Mean of right · precision over the first R places, R the right items there are (Musgrave et al., ECCV 2020)."""
    scores = torch.tensordot(shares, cosines, dims=1).masked_fill(own, -torch.inf)
    # of two equal scores the wrong item's comes first
    order = (scores - 1e-12 * same).argsort(dim=1, descending=True)
    right = same.gather(1, order)
    places = torch.arange(1, right.shape[1] + 1)
    wanted = same.sum(dim=1, keepdim=True)
    precision = right.cumsum(dim=1) / places * right * (places <= wanted)
    return float((precision.sum(dim=1) / wanted[:, 0]).mean())


def _descend(cosines: Tensor, same: Tensor, own: Tensor) -> Tensor:
    """The β at which the loss no longer falls, from equal shares on."""
    members = len(cosines)
    # the last one carries what is left to the largest sum
    free = torch.zeros(members + 1, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([free], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        scores = torch.tensordot(SHARPEST * free.softmax(dim=0)[:members], cosines, dims=1).masked_fill(own, -torch.inf)
        loss = (scores.logsumexp(dim=1) - scores.masked_fill(~same, -torch.inf).logsumexp(dim=1)).mean()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return SHARPEST * free.detach().softmax(dim=0)[:members]

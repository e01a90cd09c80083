"""The metric at test time: how much each head counts, fitted on labelled items, and how far apart its items lie."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_batch, check_count
from accord.errors import BatchError, UsageError
from accord.geometry import euclidean, normalise, row_blocks
from accord.types import Embeddings, Labels

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


def fit_shares(heads: Mapping[str, Embeddings], labels: Labels, *, steps: int = 100) -> dict[str, float]:
    """Head weights ≥ 0 with sum 1 whose mean of cosines best finds items of one class, each item left out in turn.

    Maximises the mean log of the probability that an item's neighbour is of its class, p(j | i) ∝ exp(Σ_h β_h cos_h(i,
    j)), j ≠ i (Goldberger et al., NIPS 2004, with cosines and the log), over β ≥ 0 with Σ β ≤ 100; the shares are
    β / Σ β. These are as many numbers as heads; fit them on classes that the heads did not learn from. Items without
    another of their class do not ask. Keeps items² numbers per head: hand over a few thousand items at most.

    BatchError if no class has two items; UsageError if there is no head.
    """
    if not heads:
        raise UsageError("fit_shares: give at least one head.")
    check_count("fit_shares", "steps", steps)
    for name, head in heads.items():
        check_batch(f"fit_shares, head '{name}'", head, labels)
    if len(heads) == 1:
        return dict.fromkeys(heads, 1.0)
    cosines = torch.stack([_cosines(head) for head in heads.values()])
    own = torch.eye(len(labels), dtype=torch.bool)
    same = (labels[:, None] == labels) & ~own
    asks = same.any(dim=1)
    if not bool(asks.any()):
        raise BatchError("fit_shares: no class has two items, so that nothing could be found.")
    sharpness = _descend(cosines[:, asks], same[asks], own[asks], steps)
    shares = sharpness / sharpness.sum()
    return dict(zip(heads, shares.tolist(), strict=True))


def _cosines(head: Embeddings) -> Float[Tensor, "item item"]:
    unit = normalise(head.double())
    return unit @ unit.T


def _descend(cosines: Tensor, same: Tensor, own: Tensor, steps: int) -> Tensor:
    """The β at which the loss no longer falls, from equal shares on."""
    members = len(cosines)
    # the last one carries what is left to the largest sum
    free = torch.zeros(members + 1, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.LBFGS([free], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        scores = torch.tensordot(SHARPEST * free.softmax(dim=0)[:members], cosines, dims=1).masked_fill(own, -torch.inf)
        loss = (scores.logsumexp(dim=1) - scores.masked_fill(~same, -torch.inf).logsumexp(dim=1)).mean()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return SHARPEST * free.detach().softmax(dim=0)[:members]

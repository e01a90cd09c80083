"""Likelihoods of a row's positives against its negatives: log-sums that autograd follows, and the same by hand."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from accord.losses._sums import softmax_

Rows = Float[Tensor, " row"]
Slots = Float[Tensor, "row slot"]
Columns = Float[Tensor, "row column"]
Kept = Bool[Tensor, "row slot"]


def log_sum(x: Columns, present: Bool[Tensor, " row"]) -> Rows:
    """log Σ exp(x) of each row; rows that are not `present` give -inf and pass no gradient."""
    # the input is masked too: the gradient of a log-sum over nothing is NaN, which no mask behind it takes away
    return torch.where(present, torch.where(present[:, None], x, 0).logsumexp(dim=1), -torch.inf)


def log_sum_kept(x: Slots, kept: Kept) -> Rows:
    """log Σ exp(x) over what is kept; rows without any give -inf and pass no gradient."""
    return log_sum(torch.where(kept, x, -torch.inf), kept.any(dim=1))


def pair_costs(pulls: Slots, pushes: Columns, kept: Kept, present: Bool[Tensor, " row"]) -> Rows:
    """Σ over kept pulls of log(1 + Σ exp(pushes - pull)): each positive by itself against all negatives."""
    gaps = log_sum(pushes, present)[:, None] - torch.where(kept, pulls, 0)
    return torch.where(kept, F.softplus(gaps), 0).sum(dim=1)


def pair_pull(pulls: Slots, pushes: Columns, kept: Kept) -> tuple[Rows, Slots, Columns]:
    """By hand: those costs, with their derivatives by pulls and pushes. `pushes` is written to."""
    rivals, shares = softmax_(pushes)
    gaps = torch.where(kept, rivals[:, None] - pulls, -torch.inf)
    missing = gaps.sigmoid()
    return F.softplus(gaps).sum(dim=1), -missing, shares.mul_(missing.sum(dim=1, keepdim=True))


class Odds:
    """By hand: log Σ exp over the negatives less that over the positives, `gaps`, and the softmax of both sides.

    `share` is the negatives' part of the sum over both. `whole` says which rows have a kept positive; the others have
    nothing to say: gap -inf, `own` 0. `pushes` is written to.
    """

    def __init__(self, pulls: Slots, pushes: Columns, kept: Kept, whole: Bool[Tensor, " row"]) -> None:
        rivals, self.negatives = softmax_(pushes)
        own, self.positives = softmax_(torch.where(kept, pulls, -torch.inf))
        self.gaps = torch.where(whole, rivals - own, -torch.inf)
        self.own = torch.where(whole, own, 0)
        self.share = self.gaps.sigmoid()


def log_odds(pulls: Slots, pushes: Columns, kept: Kept, present: Bool[Tensor, " row"]) -> tuple[Rows, Rows]:
    """That gap for autograd, with the log-sum over the positives; rows without a kept positive give -inf and 0."""
    whole = kept.any(dim=1)
    own = torch.where(whole, log_sum_kept(pulls, kept), 0)
    return torch.where(whole, log_sum(pushes, present) - own, -torch.inf), own

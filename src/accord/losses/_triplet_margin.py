"""Triplet margin loss: an item closer to its own class than to others, by a margin, over mined triplets."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_batch, check_range
from accord.errors import UnknownNameError, UsageError
from accord.geometry import euclidean, full, normalise, squared_euclidean
from accord.losses._shared import mean_where
from accord.mining import all_pairs, batch_hard, pair_masks, semi_hard
from accord.types import Embeddings, Labels, Mask, Scalar

Mining = Literal["semi_hard", "batch_hard", "all"]
Margin = float | Literal["soft"]


def triplet_margin(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: Margin = 0.2,
    mining: Mining = "semi_hard",
    squared: bool = True,
    normalised: bool = True,
    violating_only: bool = False,
) -> Scalar:
    """Ask that an item lies closer to one of its class than to one of another, by `margin`.

    A triplet (anchor, positive, negative) costs max(0, d(a,p) - d(a,n) + margin), or log(1 + exp(d(a,p) - d(a,n)))
    with `margin="soft"`. The result is the mean over the mined triplets, ≥ 0; `violating_only` averages over those
    that cost something. d is the squared Euclidean distance of unit-length embeddings; `squared=False` takes the root,
    `normalised=False` leaves lengths alone. A batch without triplets costs zero and still carries a gradient.

    Which triplets: `semi_hard`, for each ordered positive pair the closest negative strictly farther than the
    positive, or, where none is farther, the farthest negative; `batch_hard`, each anchor's farthest positive and
    closest negative; `all`, every triplet (in closed form: batch × batch memory; not with the soft margin).

    Schroff et al., "FaceNet", CVPR 2015, eq. 1–3, margin 0.2: our default, with a mean for its sum and the fallback,
    which it does not specify. Hermans et al. 2017: `mining="batch_hard", squared=False, normalised=False`, `"soft"`
    optional; their BA variant is `all`, BA≠0 is `all` with `violating_only`.
    """
    check_batch("triplet_margin", embeddings, labels)
    _check_options(margin, mining)
    x = normalise(embeddings, dtype=full(embeddings).dtype) if normalised else full(embeddings)
    distances = squared_euclidean(x, x) if squared else euclidean(x, x)
    positives, negatives = all_pairs(distances, *pair_masks(labels))
    if mining == "all" and margin != "soft":
        return _every_triplet(distances, positives, negatives, margin, violating_only)
    if mining == "batch_hard":
        farthest, closest = batch_hard(-distances.detach(), positives, negatives)
        gaps = torch.where(farthest, distances, 0).sum(dim=1) - torch.where(closest, distances, 0).sum(dim=1)
        kept = positives.any(dim=1)
    else:
        gaps = distances - distances.gather(1, semi_hard(-distances.detach(), positives, negatives))
        kept = positives
    costs = F.softplus(gaps) if margin == "soft" else F.relu(gaps + margin)
    return mean_where(costs, kept & (costs > 0) if violating_only else kept)


class TripletMargin(nn.Module):
    """Triplet margin loss with its options remembered; see `triplet_margin`."""

    def __init__(
        self,
        *,
        margin: Margin = 0.2,
        mining: Mining = "semi_hard",
        squared: bool = True,
        normalised: bool = True,
        violating_only: bool = False,
    ) -> None:
        super().__init__()
        _check_options(margin, mining)
        self.margin, self.mining = margin, mining
        self.squared, self.normalised, self.violating_only = squared, normalised, violating_only

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return triplet_margin(
            embeddings,
            labels,
            margin=self.margin,
            mining=self.mining,
            squared=self.squared,
            normalised=self.normalised,
            violating_only=self.violating_only,
        )


def _every_triplet(distances: Tensor, positives: Mask, negatives: Mask, margin: float, violating_only: bool) -> Scalar:
    """The hinge over all triplets: with a row's negatives sorted, those within reach of a positive are a prefix.

    Their costs sum to count · (d(a,p) + margin) - (sum of the prefix), so no triplet is ever written down.
    """
    ascending, order = distances.detach().masked_fill(~negatives, torch.inf).sort(dim=1)
    reach = distances + margin
    count = torch.searchsorted(ascending, reach.detach().contiguous())
    prefix = F.pad(torch.where(ascending.isfinite(), distances.gather(1, order), 0).cumsum(dim=1), (1, 0))
    total = torch.where(positives, count * reach - prefix.gather(1, count), 0).sum()
    reached = count if violating_only else negatives.sum(dim=1, keepdim=True)
    return total / (positives * reached).sum().clamp_min(1)


def _check_options(margin: Margin, mining: Mining) -> None:
    if mining not in get_args(Mining):
        raise UnknownNameError("mining of triplet_margin", mining, get_args(Mining))
    if margin == "soft" and mining == "all":
        raise UsageError("triplet_margin: margin='soft' goes with mining='batch_hard' or 'semi_hard', not with 'all'.")
    if margin != "soft":
        check_range("triplet_margin", "margin", margin, low=0)

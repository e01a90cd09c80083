"""k-nearest-neighbour accuracy: whether the majority of an item's neighbours names its class."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.evaluation._scores import TIE


def knn_hits(
    scores: Float[Tensor, "query rank"],
    classes: Int[Tensor, "query rank"],
    own: Int[Tensor, " query"],
    *,
    k: Int[Tensor, " query"],
    class_count: int,
    taken: Int[Tensor, " query"] | None = None,
) -> Float[Tensor, " query"]:
    """1 where the k nearest items vote for the query's own class, else 0, in the order of ties worst for the query.

    Classes with equally many votes are settled by the nearest member. Scores go down along a row, which must hold
    everything that ties with the k-th item. Items tied at the k-th place fill the remaining seats with as few right
    items and as many of one wrong class as there can be, so no order of tied items gives less. `taken` says how many
    of the k seats are taken, in front of all, by wrong items whose place is not known: they vote as one.
    """
    taken = torch.zeros_like(k) if taken is None else torch.minimum(taken, k)
    k = k - taken
    limit = scores.gather(1, (k - 1).clamp_min(0)[:, None])
    seats = int((scores >= limit - TIE).sum(dim=1).max())
    scores, classes = scores[:, :seats], classes[:, :seats]
    above, tied = scores > limit + TIE, (scores - limit).abs() <= TIE
    tied &= scores.isfinite()
    right = classes == own[:, None]
    free = k - above.sum(dim=1)
    wrong_free = torch.minimum(free, (tied & ~right).sum(dim=1))
    votes = (above & right).sum(dim=1) + free - wrong_free
    sure = _per_class(above, classes, class_count)
    rivals = sure + torch.minimum(_per_class(tied, classes, class_count), wrong_free[:, None]) + taken[:, None]
    nearest = _nearest_of_class(scores, classes, above | tied, class_count)
    # unused where no right item is seated: then there are no votes either
    own_nearest = scores.masked_fill(~(right & (above | tied)), -torch.inf).amax(dim=1, keepdim=True)
    first = (nearest >= own_nearest - TIE) | (taken[:, None] > 0)
    beaten = (rivals > votes[:, None]) | ((rivals == votes[:, None]) & first)
    lost = (beaten & ~right & (above | tied)).any(dim=1) | ((taken > 0) & (taken >= votes))
    return ((votes > 0) & ~lost & (k > 0)).double()


def _per_class(chosen: Bool[Tensor, "query rank"], classes: Tensor, class_count: int) -> Int[Tensor, "query rank"]:
    """For each item, how many chosen ones of its row share its class."""
    if classes.shape[1] ** 2 <= class_count:
        same = classes[:, :, None] == classes[:, None, :]
        return (same & chosen[:, None, :]).sum(dim=2)
    totals = chosen.new_zeros(len(classes), class_count, dtype=torch.int64)
    return totals.scatter_add_(1, classes, chosen.long()).gather(1, classes)


def _nearest_of_class(
    scores: Tensor, classes: Tensor, seated: Bool[Tensor, "query rank"], class_count: int
) -> Float[Tensor, "query rank"]:
    """For each item, the best score among the seated ones of its row that share its class."""
    scores = scores.masked_fill(~seated, -torch.inf)
    if classes.shape[1] ** 2 <= class_count:
        same = classes[:, :, None] == classes[:, None, :]
        return torch.where(same, scores[:, None, :], -torch.inf).amax(dim=2)
    best = scores.new_full((len(classes), class_count), -torch.inf)
    return best.scatter_reduce_(1, classes, scores, "amax").gather(1, classes)

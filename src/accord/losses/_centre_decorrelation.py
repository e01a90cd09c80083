"""A regulariser that keeps the centres of classes apart: those of the batch, or those of a learned table."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_finite
from accord.errors import UnknownNameError
from accord.geometry import full, inner, normalise, smallest_norm
from accord.losses._engine import sweep
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Over = Literal["nearest", "all"]


@dataclass(frozen=True)
class NearestCentreRule:
    """What one row of cosines costs, where rows are centres and a centre may be repeated under one label."""

    name = "centre_decorrelation"
    measure: Measure = "score"
    unit = False  # they come at unit length

    def costs(self, block: Block) -> Tally:
        """The largest cosine with another centre; the rows of one class count as one."""
        share, nearest = self._nearest(block)
        return Tally(nearest * share, share)

    def pull(self, block: Block) -> Pull:
        """By hand: 1 at the largest, shared by those that are equally large."""
        share, nearest = self._nearest(block)
        by_negatives = (block.negatives == nearest[:, None]).to(nearest.dtype)
        by_negatives.mul_((share / by_negatives.sum(dim=1).clamp_min(1))[:, None])
        return Pull(Tally(nearest * share, share), torch.zeros_like(block.positives), by_negatives)

    def _nearest(self, block: Block) -> tuple[Tensor, Tensor]:
        some = block.negative_count > 0
        return some / (block.positive_count + 1), torch.where(some[:, None], block.negatives, 0).amax(dim=1)


def centre_decorrelation(
    embeddings: Embeddings,
    labels: Labels,
    centres: Float[Tensor, "class dim"] | None = None,
    *,
    over: Over = "nearest",
) -> Scalar:
    """Keep the centres of classes apart: lower the cosine of each with its nearest other centre.

    A class's centre is the mean of its unit-length embeddings in the batch. The result is the mean over classes of the
    largest cosine with another centre, in [-1, 1]; with `over="all"` the mean squared cosine over all pairs of classes,
    in [0, 1] up to rounding, which is least when centres are at right angles. Given `centres`, a table of proxies or
    class weights, all of its rows are kept apart instead, and the batch has no influence. One class or none costs zero.

    Zhao et al., CVPR 2019 (RegularFace, "exclusive regularisation"), there on class weights only; `all` is ours.
    """
    if over not in get_args(Over):
        raise UnknownNameError("over of centre_decorrelation", over, get_args(Over))
    check_batch("centre_decorrelation", embeddings, labels)
    if centres is not None:
        check_finite("centre_decorrelation", "centres", centres)
        x, tiny = full(centres), smallest_norm(centres.dtype)
        return _apart(x, torch.arange(len(x), device=x.device), None, over, tiny) + 0 * full(embeddings).sum()
    x, groups = normalise(embeddings, dtype=full(embeddings).dtype), _numbered(labels)
    sums = torch.zeros_like(x).index_add(0, groups, x)
    sizes = torch.zeros_like(x[:, 0]).index_add(0, groups, torch.ones_like(x[:, 0]))
    means = sums / sizes.clamp_min(1)[:, None]
    return _apart(means, labels, groups, over, smallest_norm(embeddings.dtype))


def _apart(means: Tensor, names: Tensor, groups: Tensor | None, over: Over, tiny: float) -> Scalar:
    """`means` are the centres, or zero where there is none; `groups` says which of them belongs to each of `names`."""
    # centres shorter than `tiny` count as zero, so that the gradient fits the dtype of the embeddings
    units = means / torch.linalg.vector_norm(means, dim=1, keepdim=True).clamp_min(tiny)
    if over == "nearest":
        return sweep(NearestCentreRule(), units if groups is None else units[groups], names)
    # Σ over pairs of squared cosines is that of the squares of a dim × dim matrix, in which each centre meets itself
    squares = inner(units.T, units.T).square().sum() - units.square().sum(dim=1).square().sum()
    count = (means.detach() != 0).any(dim=1).sum()
    return torch.where(count > 1, squares / (count * (count - 1)).clamp_min(1), 0 * squares)


def _numbered(labels: Labels) -> Tensor:
    """The place of each label among the different labels; asks for no value, so nothing waits."""
    ascending, order = labels.to(torch.int64).sort()
    steps = (ascending[1:] != ascending[:-1]).to(torch.int64).cumsum(0)
    places = torch.cat([torch.zeros_like(ascending[:1]), steps])
    return torch.empty_like(order).scatter(0, order, places)


class CentreDecorrelation(nn.Module):
    """The regulariser on the classes of each batch, with its option remembered; see `centre_decorrelation`."""

    def __init__(self, *, over: Over = "nearest") -> None:
        super().__init__()
        if over not in get_args(Over):
            raise UnknownNameError("over of centre_decorrelation", over, get_args(Over))
        self.over = over

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The penalty of one batch."""
        return centre_decorrelation(embeddings, labels, over=self.over)

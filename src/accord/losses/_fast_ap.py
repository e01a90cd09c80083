"""FastAP: average precision from soft histograms of distances."""

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.checks import check_count
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class FastAPRule:
    """What one row of squared distances costs; see `fast_ap`."""

    bins: int = 10
    name = "fast_ap"
    measure: Measure = "squared"
    unit = True

    def __post_init__(self) -> None:
        check_count(self.name, "bins", self.bins, high=10_000)

    def costs(self, block: Block) -> Tally:
        """One less the soft average precision."""
        own = self._spread(*self._places(block.positives), block.kept.to(block.positives.dtype))
        others = self._spread(*self._places(block.negatives), None)
        return _judge(block, own, *_running(block, own, others))

    def pull(self, block: Block) -> Pull:
        """By hand: an item moves weight from the node below it to the one above."""
        here, part = self._places(block.positives)
        there, rest = self._places(block.negatives)
        own = self._spread(here, part, block.kept.to(block.positives.dtype))
        below, total = _running(block, own, self._spread(there, rest, None))
        scale = (block.whole / block.positive_count.clamp_min(1) * (-self.bins / 4))[:, None]
        precision, gain = below / total, own / total
        lost = (gain * precision)[:, :-1]
        by_positives = (precision.diff(dim=1) + lost - gain[:, :-1]).mul_(scale)
        tally = _judge(block, own, below, total)
        return Pull(tally, by_positives.gather(1, here), lost.mul_(scale).gather(1, there))

    def _places(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The node below each value, and how far above it the value is, in bins. Beyond 4 is on the last node."""
        places = values.mul(self.bins / 4).clamp_max_(self.bins)
        below = places.detach().to(torch.int64).clamp_(0, self.bins - 1)
        return below, places.sub_(below)

    def _spread(self, below: Tensor, part: Tensor, weights: Tensor | None) -> Tensor:
        """A soft histogram: each value's weight, shared between the nodes on both sides of it."""
        under = 1 - part
        if weights is not None:
            part, under = part * weights, under * weights
        nodes = part.new_zeros(len(part), self.bins + 1)
        nodes[:, :-1].scatter_add_(1, below, under)
        nodes[:, 1:].scatter_add_(1, below, part)
        return nodes


def _running(block: Block, own: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Running sums of the positives' histogram and of all items', by which one may divide.

    Nodes before the first item have a sum of 0, and no positives to divide by it. The columns that are no negatives,
    +inf, all fell on the last node, where the sum is known.
    """
    below = own.cumsum(dim=1)
    total = below + others.cumsum(dim=1)
    everything = (block.positive_count + block.negative_count)[:, None]
    total = torch.cat([total[:, :-1], everything], dim=1)
    return below, torch.where(total > 0, total, 1)


def _judge(block: Block, own: Tensor, below: Tensor, total: Tensor) -> Tally:
    """One less the soft average precision, where there is something to sort."""
    average = (own * below / total).sum(dim=1) / block.positive_count.clamp_min(1)
    return Tally(torch.where(block.whole, 1 - average, 0), block.kept.any(dim=1))


def fast_ap(embeddings: Embeddings, labels: Labels, *, bins: int = 10) -> Scalar:
    """Sort the others by their distance to each item into a few soft bins, and raise the average precision over those.

    Squared Euclidean distances of unit-length embeddings, in [0, 4], are spread over `bins` + 1 evenly spaced nodes,
    each distance being shared linearly between its two neighbours. With h⁺ the histogram of a query's positives, H⁺ its
    running sum and H that of all items, FastAP = Σ_b h⁺_b H⁺_b / H_b / (number of positives); the query costs
    1 - FastAP, and the mean over queries with a positive is returned, in [0, 1). Every item is a query once, never in
    its own histogram. Items inside one bin are tied: a few bins average over the order inside, many approach the true
    average precision but teach only pairs that share a bin. The slope changes at nodes. Batches without positives or
    without negatives cost zero and carry a gradient.

    Cakir et al., "Deep metric learning to rank", CVPR 2019; 10 bins are widely used. Costs O(batch²) time whatever
    `bins`, O(batch) memory.
    """
    return sweep(FastAPRule(bins), embeddings, labels)


class FastAP(RowLoss):
    """FastAP with its options remembered; see `fast_ap`."""

    def __init__(self, *, bins: int = 10) -> None:
        super().__init__()
        self.rule = FastAPRule(bins)

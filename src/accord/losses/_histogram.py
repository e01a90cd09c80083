"""Histogram loss: the distribution of negative similarities below that of positive ones."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_count
from accord.losses._survey import survey
from accord.mining import Block, Measure, Own
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class HistogramRule:
    """What a row tells of itself, a soft histogram of each side, and what they cost together; see `histogram`."""

    bins: int = 100
    name = "histogram"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_count(self.name, "bins", self.bins, high=10_000)

    def read(self, block: Block) -> Tensor:
        """A soft histogram of the row's positives, then one of its negatives, each with bins + 1 nodes."""
        absent = len(block.negatives[0]) - block.negative_count
        positives = self._spread(block.positives, block.kept.to(block.positives.dtype))
        negatives = self._spread(block.negatives, None)
        # a column that is no negative, -inf, fell wholly on the first node
        first = F.pad(absent[:, None], (0, self.bins))
        return torch.cat([positives, negatives - first], dim=1)

    def unread(self, block: Block, by_statistics: Tensor) -> tuple[Tensor, Tensor]:
        """By hand: a similarity moves weight from the node below it to the one above."""
        middle = self.bins + 1
        by_positives, by_negatives = by_statistics[:, :middle], by_statistics[:, middle:]
        return self._slopes(block.positives, by_positives), self._slopes(block.negatives, by_negatives)

    def finish(self, statistics: Tensor, own: Own | None) -> Tensor:
        """The chance that a negative pair is more similar than a positive one."""
        both = statistics.sum(dim=0).reshape(2, self.bins + 1)
        both = both / both.detach().sum(dim=1, keepdim=True).clamp_min(1)
        return torch.dot(both[1], both[0].cumsum(dim=0))

    def _places(self, values: Tensor) -> Tensor:
        """Where values fall, in units of bins; always inside the last bin, so that there is a node above."""
        last = self.bins * (1 - torch.finfo(values.dtype).eps)
        return ((values + 1) * (self.bins / 2)).clamp(0, last)

    def _slopes(self, values: Tensor, by: Tensor) -> Tensor:
        """What moving each value upwards changes."""
        return (by.diff(dim=1) * (self.bins / 2)).gather(1, self._places(values).to(torch.int64))

    def _spread(self, values: Tensor, weights: Tensor | None) -> Tensor:
        """Each value's weight, shared between the nodes on both sides of it."""
        places = self._places(values)
        below = places.detach().to(torch.int64)
        above = places - below
        under = 1 - above
        if weights is not None:
            above, under = above * weights, under * weights
        empty = values.new_zeros(len(values), self.bins + 1)
        return empty.scatter_add(1, below, under) + F.pad(empty[:, 1:].scatter_add(1, below, above), (1, 0))


def histogram(embeddings: Embeddings, labels: Labels, *, bins: int = 100) -> Scalar:
    """Estimate how often a random pair of two classes is more similar than a random pair of one class; lower that.

    Cosines of all positive and of all negative pairs are spread over soft histograms on `bins` + 1 evenly spaced nodes
    from -1 to 1, a cosine's weight being shared linearly between its two neighbours. With h⁺ and h⁻ the histograms,
    each of sum 1, the loss is Σ_r h⁻_r Σ_{q≤r} h⁺_q, in [0, 1]; ties inside a node count as errors, so even classes
    far apart cost exactly zero only when no node is shared. Every pair counts alike: no anchors, no margin. The slope
    changes at nodes. A batch without positives or without negatives costs zero and still carries a gradient.

    Ustinova & Lempitsky, "Learning deep embeddings with histogram loss", NIPS 2016, which counts nodes where we count
    the intervals between them (`bins=100` is 101 nodes); 100 and 150 are widely used. Estimates from few pairs are
    poor: it wants large batches. Costs O(batch²) time whatever `bins`, O(batch · bins) memory.
    """
    return survey(HistogramRule(bins), embeddings, labels)


class Histogram(nn.Module):
    """Histogram loss with its options remembered; see `histogram`."""

    def __init__(self, *, bins: int = 100) -> None:
        super().__init__()
        self.rule = HistogramRule(bins)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return survey(self.rule, embeddings, labels)

"""Smooth-AP: average precision with a sigmoid for every comparison of two items."""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.losses._engine import sweep
from accord.losses._ranks import Above, Itself, above, ranking
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class SmoothAPRule:
    """What one row of cosines costs; see `smooth_ap`."""

    tau: float = 0.01
    itself: Itself = "excluded"
    name = "smooth_ap"
    measure: Measure = "score"
    unit = True
    tables = 1

    def __post_init__(self) -> None:
        check_range(self.name, "tau", self.tau, low=0, open_low=True)
        if self.itself not in get_args(Itself):
            raise UnknownNameError("itself of smooth_ap", self.itself, get_args(Itself))

    def costs(self, block: Block) -> Tally:
        """The share of negatives in each positive's rank, averaged over the positives."""
        ranks = ranking(block, self.itself)
        wrong = above(ranks.negatives, ranks.marks, self.tau)
        rank = wrong + _own_rank(above(ranks.positives, ranks.marks, self.tau))
        return Tally((ranks.weights * wrong / rank).sum(dim=1), ranks.present)

    def pull(self, block: Block) -> Pull:
        """By hand: a negative above moves a positive's share by (rank among positives) / rank², a positive back."""
        ranks = ranking(block, self.itself)
        negatives = Above(ranks.negatives, ranks.marks, self.tau)
        positives = Above(ranks.positives, ranks.marks, self.tau)
        wrong, own = negatives.counts, _own_rank(positives.counts)
        share = wrong / (wrong + own)
        each = ranks.weights / (wrong + own)
        by_negatives, by_marks = negatives.back(each * (1 - share))
        by_positives, by_other_marks = positives.back(-each * share)
        drawn = by_marks.add_(by_positives).add_(by_other_marks)[:, : block.positives.shape[1]]
        return Pull(Tally((ranks.weights * share).sum(dim=1), ranks.present), drawn, by_negatives)


def _own_rank(counts: Tensor) -> Tensor:
    """A positive's rank among the positives: one, and the others above. It was compared with itself, which gave ½."""
    return counts + 0.5


def smooth_ap(embeddings: Embeddings, labels: Labels, *, tau: float = 0.01, itself: Itself = "excluded") -> Scalar:
    """Rank all others by their similarity to each item and raise the average precision of that list, made smooth.

    With s the cosine to the query and σ(x) = 1 / (1 + exp(-x / tau)), positive p has rank R⁺ = 1 + Σ_q σ(s_q - s_p)
    among the query's positives q ≠ p, and R = R⁺ + Σ_n σ(s_n - s_p) among all items. The query costs 1 - the mean of
    R⁺ / R over its positives, and the mean over queries with a positive is returned, in [0, 1). Every item of the batch
    is a query once; the query itself is in no list, neither as p nor as q. Classes may have any sizes and come in any
    order. Batches without positives or without negatives cost zero and carry a gradient. Gradients fade where
    |s_n - s_p| is many `tau`.

    Brown et al., "Smooth-AP", ECCV 2020, where tau is 0.01. Their implementation lets a query retrieve itself, as one
    more positive of cosine 1, which lowers the loss: `itself="included"` does so. Costs O(batch · positive pairs) time;
    memory stays bounded.
    """
    return sweep(SmoothAPRule(tau, itself), embeddings, labels)


class SmoothAP(RowLoss):
    """Smooth-AP with its options remembered; see `smooth_ap`."""

    def __init__(self, *, tau: float = 0.01, itself: Itself = "excluded") -> None:
        super().__init__()
        self.rule = SmoothAPRule(tau, itself)

"""Recall@k surrogate: the share of positives among the first k, with sigmoids for ranks and for the cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from accord.checks import check_count, check_range
from accord.errors import UsageError
from accord.losses._engine import sweep
from accord.losses._ranks import Above, Ranking, above, ranking
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class RecallAtKRule:
    """What one row of cosines costs; see `recall_at_k`."""

    ks: tuple[int, ...] = (1, 2, 4, 8, 16)
    tau_rank: float = 0.01
    tau_k: float = 1.0
    name = "recall_at_k"
    measure: Measure = "score"
    unit = True
    tables = 1

    def __post_init__(self) -> None:
        if not self.ks:
            raise UsageError("recall_at_k: ks must name at least one k, such as (1, 2, 4).")
        for k in self.ks:
            check_count(self.name, "each of ks", k)
        if any(after <= before for before, after in pairwise(self.ks)):
            raise UsageError(f"recall_at_k: ks must ascend, not {self.ks}.")
        check_range(self.name, "tau_rank", self.tau_rank, low=0, open_low=True)
        check_range(self.name, "tau_k", self.tau_k, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """One less the mean of the soft recalls."""
        ranks = _judged(block)
        costs, _ = self._judge(above(ranks.negatives, ranks.marks, self.tau_rank), ranks)
        return Tally(costs, ranks.present)

    def pull(self, block: Block) -> Pull:
        """By hand: the slope of each positive's cut at each k, unless that recall is full."""
        ranks = _judged(block)
        wrong = Above(ranks.negatives, ranks.marks, self.tau_rank)
        costs, by_counts = self._judge(wrong.counts, ranks)
        by_negatives, by_positives = wrong.back(by_counts)
        return Pull(Tally(costs, ranks.present), by_positives, by_negatives)

    def _judge(self, wrong: Tensor, ranks: Ranking) -> tuple[Tensor, Tensor]:
        """Costs of rows by the negatives above each positive, and their derivatives."""
        kept = ranks.weights > 0
        count = kept.sum(dim=1).to(wrong.dtype)
        costs, by_counts = ranks.present, wrong.new_zeros(wrong.shape)
        for k in self.ks:
            within = ((k - 1 - wrong) / self.tau_k).sigmoid() * kept
            found = within.sum(dim=1)
            share = 1 / (count.clamp(1, k) * len(self.ks))
            costs = costs - found.clamp_max(k) * share
            open_ = share * (found <= k) / self.tau_k
            by_counts = by_counts + open_[:, None] * (within - within.square())
        return costs, by_counts


def _judged(block: Block) -> Ranking:
    """The block's ranking; a row without negatives has nothing to rank and is left out."""
    return ranking(block._replace(kept=block.kept & block.whole[:, None]))


def recall_at_k(
    embeddings: Embeddings,
    labels: Labels,
    *,
    ks: Sequence[int] = (1, 2, 4, 8, 16),
    tau_rank: float = 0.01,
    tau_k: float = 1.0,
) -> Scalar:
    """Bring the positives of each item among its k nearest, for several k at once.

    With s the cosine to a query, positive p has the soft rank r = 1 + Σ_n σ((s_n - s_p) / tau_rank) among the negatives
    and lies within the first k with σ((k - r) / tau_k), σ being the logistic function. The soft recall at k is their
    sum, at most k, divided by min(k, positives); the query costs 1 - the mean over `ks`. Returned is the mean over
    queries with a positive and a negative, in (0, 1). Every item is a query once, never in its own list. Positives do
    not push each other down. Even perfect ranks leave a cost where few positives are to be found early, for there the
    cut is soft: at k = 1 such a positive counts ½. Batches without such queries cost zero and carry a gradient.

    Patel, Tolias & Matas, "Recall@k surrogate loss with large batches and similarity mixup", CVPR 2022, with its
    published implementation for the details and defaults; it uses batches of up to 4096 items. Its mixup is not part of
    the loss. Costs O(batch · positive pairs) time; memory stays bounded.
    """
    return sweep(RecallAtKRule(tuple(ks), tau_rank, tau_k), embeddings, labels)


class RecallAtK(RowLoss):
    """Recall@k surrogate with its options remembered; see `recall_at_k`."""

    def __init__(self, *, ks: Sequence[int] = (1, 2, 4, 8, 16), tau_rank: float = 0.01, tau_k: float = 1.0) -> None:
        super().__init__()
        self.rule = RecallAtKRule(tuple(ks), tau_rank, tau_k)

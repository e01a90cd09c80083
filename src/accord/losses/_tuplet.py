"""(N+1)-tuplet loss: one positive recognised among all negatives of the batch, by inner product."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from accord.checks import check_range
from accord.geometry import full
from accord.losses._engine import sweep
from accord.losses._row_softmax import pair_costs, pair_pull
from accord.losses._rule import Pull, Tally
from accord.losses._shared import mean
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class TupletRule:
    """What one row of inner products costs; see `tuplet`."""

    penalty: float = 0.005
    name = "tuplet"
    measure: Measure = "score"
    unit = False

    def __post_init__(self) -> None:
        check_range(self.name, "penalty", self.penalty, low=0)

    def costs(self, block: Block) -> Tally:
        """Each positive against all negatives."""
        kept = block.kept & block.whole[:, None]
        costs = pair_costs(block.positives, block.negatives, kept, block.negative_count > 0)
        return Tally(costs, kept.sum(dim=1))

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax over the negatives, weighted by what each positive misses."""
        kept = block.kept & block.whole[:, None]
        costs, by_positives, by_negatives = pair_pull(block.positives, block.negatives.clone(), kept)
        return Pull(Tally(costs, kept.sum(dim=1)), by_positives, by_negatives)


def tuplet(embeddings: Embeddings, labels: Labels, *, penalty: float = 0.005) -> Scalar:
    """Tell an anchor's positive from every negative of the batch at once, by inner product.

    Each ordered positive pair (a, p) costs log(1 + Σ_n exp(aᵀn - aᵀp)) over all items n of other classes. Returned is
    the mean over those pairs plus 2 · penalty · mean‖x‖² over the batch, ≥ 0. Embeddings are *not* normalised. Without
    pairs, or with one class only, the penalty is all there is; an empty batch costs zero. O(batch²) time, O(batch)
    memory.

    Sohn, NIPS 2016, the (N+1)-tuplet loss, with all negatives of the batch and a mean for its sum. The paper keeps
    embeddings small by a penalty on their length; with two items per class ours weighs as much as `n_pair`'s of the
    same `penalty` (see there where the default comes from). `n_pair` is the cheaper form, one negative per other class.
    """
    return _tuplet(TupletRule(penalty), embeddings, labels)


class Tuplet(nn.Module):
    """(N+1)-tuplet loss with its options remembered; see `tuplet`."""

    def __init__(self, *, penalty: float = 0.005) -> None:
        super().__init__()
        self.rule = TupletRule(penalty)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _tuplet(self.rule, embeddings, labels)


def _tuplet(rule: Any, embeddings: Tensor, labels: Tensor) -> Scalar:
    loss = sweep(rule, embeddings, labels)
    penalty: float = rule.penalty
    return loss if not penalty else loss + 2 * penalty * mean(full(embeddings).square().sum(dim=1))

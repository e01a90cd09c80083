"""N-pair loss: each anchor recognises its own positive among the positives of all other classes in the batch."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_flag, check_range
from accord.losses._paired import Side, both_sides, two_of_each
from accord.losses._row_softmax import pair_costs, pair_pull
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class NPairRule:
    """What one anchor costs against all positives; see `n_pair`. `choices` says which columns take part, if not all."""

    penalty: float = 0.005
    symmetric: bool = False
    name = "n_pair"
    measure: Measure = "score"
    unit = False

    def __post_init__(self) -> None:
        check_range(self.name, "penalty", self.penalty, low=0)
        check_flag(self.name, "symmetric", self.symmetric)

    def costs(self, block: Block, *choices: Tensor) -> Tally:
        """Its own positive against the others."""
        pushes = block.negatives
        for choice in choices[:1]:
            pushes = pushes.masked_fill(~choice, -torch.inf)
        present = pushes.detach().isfinite().any(dim=1)
        return Tally(pair_costs(block.positives, pushes, block.kept, present), block.kept.any(dim=1))

    def pull(self, block: Block, *choices: Tensor) -> Pull:
        """By hand: a softmax over the others, weighted by what the positive misses."""
        pushes = block.negatives.masked_fill(~choices[0], -torch.inf) if choices else block.negatives.clone()
        costs, by_positives, by_negatives = pair_pull(block.positives, pushes, block.kept)
        return Pull(Tally(costs, block.kept.any(dim=1)), by_positives, by_negatives)

    def of_scores(self, scores: Tensor) -> Scalar:
        """The mean over all anchors from one table of scores: a cross-entropy whose right answers are the diagonal."""
        return F.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def n_pair(anchors: Side, positives: Side, *, penalty: float = 0.005, symmetric: bool = False) -> Scalar:
    """Tell each anchor's positive from the positives of all other pairs, by inner product.

    Row i of `anchors` and of `positives` are two items of one class, and every pair is of another class. The result is
    mean_i log(1 + Σ_{j≠i} exp(aᵢᵀpⱼ - aᵢᵀpᵢ)) + penalty · (mean‖a‖² + mean‖p‖²), ≥ 0. `symmetric=True` averages it
    with the same loss the other way round. One pair costs its penalty only, no pair costs zero.

    Sohn, NIPS 2016, N-pair-mc with its L2 regularisation of the embeddings. As published they are *not* normalised;
    keep it so. Sources disagree on the penalty's weight (0.0005 to 0.02 in our terms); the default is 0.25 × 0.02.
    Costs O(pairs²) time, O(pairs) memory.
    """
    return both_sides(NPairRule(penalty, symmetric), anchors, positives)


class NPair(nn.Module):
    """N-pair loss on a labelled batch: the first row of a class is the anchor, its second the positive; see `n_pair`.

    Further rows of a class and classes with one row are left out, so a sampler with 2 items per class wastes nothing.
    The value does not depend on the order of the classes, but on which row of a class comes first. A batch in which no
    class has two rows is refused with a BatchError; an empty one costs zero.
    """

    def __init__(self, *, penalty: float = 0.005, symmetric: bool = False) -> None:
        super().__init__()
        self.rule = NPairRule(penalty, symmetric)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return two_of_each(self.rule, embeddings, labels)

"""N-pair loss one against one: each anchor tells its positive from each other pair's positive, one at a time."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_flag, check_range
from accord.losses._paired import Side, both_sides, two_of_each
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class NPairOVORule:
    """What one anchor costs against each positive; see `n_pair_ovo`. `choices` says which columns take part."""

    penalty: float = 0.005
    symmetric: bool = False
    name = "n_pair_ovo"
    measure: Measure = "score"
    unit = False

    def __post_init__(self) -> None:
        check_range(self.name, "penalty", self.penalty, low=0)
        check_flag(self.name, "symmetric", self.symmetric)

    def costs(self, block: Block, *choices: Tensor) -> Tally:
        """A logistic loss for each other positive."""
        gaps = self._gaps(block, choices)
        # the input is masked: -inf would pass, but not as a number whose gradient is asked for twice
        some = gaps.detach().isfinite()
        costs = torch.where(some, F.softplus(torch.where(some, gaps, 0)), 0).sum(dim=1)
        return Tally(costs, block.kept.any(dim=1))

    def pull(self, block: Block, *choices: Tensor) -> Pull:
        """By hand: the logistic function of each gap."""
        gaps = self._gaps(block, choices)
        costs = F.softplus(gaps).sum(dim=1)
        missing = gaps.sigmoid_()
        by_positives = -missing.sum(dim=1, keepdim=True).expand_as(block.positives)
        return Pull(Tally(costs, block.kept.any(dim=1)), by_positives, missing)

    def _gaps(self, block: Block, choices: tuple[Tensor, ...]) -> Tensor:
        """Each other positive less the own one; -inf for columns and rows that take no part."""
        own = torch.where(block.kept, block.positives, 0).sum(dim=1, keepdim=True)
        own = own.masked_fill(~block.kept.any(dim=1, keepdim=True), torch.inf)
        gaps = block.negatives - own
        return gaps.masked_fill_(~choices[0], -torch.inf) if choices else gaps


def n_pair_ovo(anchors: Side, positives: Side, *, penalty: float = 0.005, symmetric: bool = False) -> Scalar:
    """Tell each anchor's positive from each other pair's positive separately, by inner product.

    Row i of `anchors` and of `positives` are two items of one class, and every pair is of another class. The result is
    mean_i Σ_{j≠i} log(1 + exp(aᵢᵀpⱼ - aᵢᵀpᵢ)) + penalty · (mean‖a‖² + mean‖p‖²), ≥ 0; it grows with the number of
    pairs, (pairs - 1) · log 2 at chance. `symmetric=True` averages it with the same loss the other way round. One pair
    costs its penalty only, no pair costs zero.

    Sohn, NIPS 2016, N-pair-ovo: the paper's "one versus one" for comparison, where `n_pair` (mc) did better. With two
    pairs both are the same. On the penalty and on lengths see `n_pair`. Costs O(pairs²) time, O(pairs) memory.
    """
    return both_sides(NPairOVORule(penalty, symmetric), anchors, positives)


class NPairOVO(nn.Module):
    """N-pair loss one against one on a labelled batch; see `n_pair_ovo`.

    Which rows of a batch make pairs, and which batches are refused, is as in `NPair`.
    """

    def __init__(self, *, penalty: float = 0.005, symmetric: bool = False) -> None:
        super().__init__()
        self.rule = NPairOVORule(penalty, symmetric)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return two_of_each(self.rule, embeddings, labels)

"""NT-Xent: each positive recognised by a softmax of cosines over itself and the negatives of the batch."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._row_softmax import Odds, log_odds, pair_costs, pair_pull
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Denominator = Literal["negatives", "all"]


@dataclass(frozen=True)
class NTXentRule:
    """What one row of cosines costs; see `nt_xent`."""

    temperature: float = 0.07
    denominator: Denominator = "negatives"
    name = "nt_xent"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "temperature", self.temperature, low=0, open_low=True)
        if self.denominator not in get_args(Denominator):
            raise UnknownNameError("denominator of nt_xent", self.denominator, get_args(Denominator))

    def costs(self, block: Block) -> Tally:
        """Each positive against the negatives, or against all others."""
        pulls, pushes, kept, counts = self._exponents(block)
        if self.denominator == "negatives":
            return Tally(pair_costs(pulls, pushes, kept, block.negative_count > 0), counts)
        gaps, own = log_odds(pulls, pushes, kept, block.negative_count > 0)
        return Tally(counts * (F.softplus(gaps) + own) - torch.where(kept, pulls, 0).sum(dim=1), counts)

    def pull(self, block: Block) -> Pull:
        """By hand: the softmax, less one at the positive."""
        pulls, pushes, kept, counts = self._exponents(block)
        heat = 1 / self.temperature
        if self.denominator == "negatives":
            costs, by_pulls, by_pushes = pair_pull(pulls, pushes, kept)
            return Pull(Tally(costs, counts), by_pulls * heat, by_pushes.mul_(heat))
        odds = Odds(pulls, pushes, kept, counts > 0)
        costs = counts * (F.softplus(odds.gaps) + odds.own) - torch.where(kept, pulls, 0).sum(dim=1)
        by_pulls = odds.positives * (counts * (1 - odds.share))[:, None] - 1
        by_pushes = odds.negatives.mul_((counts * odds.share * heat)[:, None])
        return Pull(Tally(costs, counts), by_pulls * heat, by_pushes)

    def _exponents(self, block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cosines by temperature (fresh), which positives count, and how many they are."""
        kept = block.kept if self.denominator == "all" else block.kept & block.whole[:, None]
        heat = 1 / self.temperature
        return block.positives * heat, block.negatives * heat, kept, kept.sum(dim=1).to(block.positives.dtype)


def nt_xent(
    embeddings: Embeddings, labels: Labels, *, temperature: float = 0.07, denominator: Denominator = "negatives"
) -> Scalar:
    """Pick an anchor's positive out of the negatives by a softmax over cosines: the contrastive loss of SimCLR.

    With s the cosine, each ordered positive pair costs -log(exp(s_p/τ) / (exp(s_p/τ) + Σ_n exp(s_n/τ))), n running over
    the items of other classes; the mean over all such pairs is returned, ≥ 0. `denominator="all"` sums over every item
    but the anchor, so that its other positives count as rivals too. With two items per class, which is the published
    setting (two views of one picture), both are the same. Pairs without a negative cost zero and are not counted, or,
    with "all", have their other positives for rivals. A batch without pairs costs zero and still carries a gradient.

    Chen et al., "SimCLR", ICML 2020, eq. 1; Sohn, NIPS 2016, without the temperature. For labels with more than one
    positive per anchor both forms generalise it. The default temperature 0.07 is widely used, not that paper's: it
    searches between 0.05 and 1, and the best value depends on the batch. Costs O(batch²) time, O(batch) memory.
    """
    return sweep(NTXentRule(temperature, denominator), embeddings, labels)


class NTXent(RowLoss):
    """NT-Xent with its options remembered; see `nt_xent`."""

    def __init__(self, *, temperature: float = 0.07, denominator: Denominator = "negatives") -> None:
        super().__init__()
        self.rule = NTXentRule(temperature, denominator)

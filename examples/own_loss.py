"""A loss of your own: a rule for one row, checked against every promise, mined, and joined with another in one sweep.

python examples/own_loss.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.ensembles import Ensemble, FixedWeights
from accord.losses import Mined, MultiSimilarity, RowLoss, Tally, check_loss
from accord.mining import Block, HardPairs


@dataclass(frozen=True)
class LogRatioRule:
    """log(1 + mean of the negatives' exp(heat · s) / mean of the positives'): ordinary torch, one row at a time."""

    heat: float = 8.0
    name = "log_ratio"
    measure = "score"  # cosines, for `unit` normalises first; or "squared", "euclidean"
    unit = True

    def costs(self, block: Block) -> Tally:
        """Columns that are no negatives hold -inf; positives that are none are not `kept`."""
        positives = torch.where(block.kept, self.heat * block.positives, -torch.inf)
        whole = block.whole  # rows with both a positive and a negative
        pulls = torch.where(whole[:, None], positives, 0).logsumexp(dim=1) - block.positive_count.clamp_min(1).log()
        pushes = torch.where(whole[:, None], self.heat * block.negatives, 0).logsumexp(dim=1)
        costs = torch.nn.functional.softplus(pushes - block.negative_count.clamp_min(1).log() - pulls)
        return Tally(torch.where(whole, costs, 0), whole.to(costs.dtype))


class LogRatio(RowLoss):
    """The loss of a batch: a sweep of the rule. No batch × batch numbers are kept, whatever the batch."""

    def __init__(self, heat: float = 8.0) -> None:
        super().__init__()
        self.rule = LogRatioRule(heat)


def main() -> Tensor:
    """Check it, then train with it beside a loss that comes with accord."""
    check_loss(LogRatio())
    embeddings, labels = torch.randn(4096, 64, requires_grad=True), torch.arange(4096) // 4
    together = Ensemble({"ratio": LogRatio(), "similarity": MultiSimilarity()}, weighting=FixedWeights())
    together(embeddings, labels).backward()  # both losses share the products
    mined = Mined(LogRatio(), HardPairs())(embeddings, labels)
    print(f"{mined:.3f} over hard pairs; each member: {together.terms}")
    return mined


if __name__ == "__main__":
    main()

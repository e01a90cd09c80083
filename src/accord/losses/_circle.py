"""Circle loss: each pair is weighted by how far it is from its optimum, all around one anchor together."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_flag, check_range
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.losses._sums import softmax_
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

NO_WEIGHT = 1e-30  # stands for a weight of zero, because 0 · -inf would be NaN


@dataclass(frozen=True)
class CircleRule:
    """What one row of cosines costs; see `circle`."""

    margin: float = 0.4
    gamma: float = 80.0
    detach: bool = True
    name = "circle"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=1)
        check_range(self.name, "gamma", self.gamma, low=0, open_low=True)
        check_flag(self.name, "detach", self.detach)

    def costs(self, block: Block) -> Tally:
        """The soft sum over all pairs of a positive and a negative of the row."""
        whole, apart = block.whole, block.negatives > block.far
        p, n = torch.where(block.kept, block.positives, 0), torch.where(apart, block.negatives, 0)
        pull, push = self.gamma * F.relu(1 + self.margin - p), self.gamma * F.relu(n + self.margin)
        if self.detach:
            pull, push = pull.detach(), push.detach()
        pulls = torch.where(block.kept, pull * (1 - self.margin - p), -torch.inf)
        pushes = torch.where(apart, push * (n - self.margin), -torch.inf)
        # rows that are not whole get finite sums of nothing, for a row of -inf has no gradient
        p_sum, n_sum = (torch.where(whole[:, None], x, 0).logsumexp(dim=1) for x in (pulls, pushes))
        return Tally(torch.where(whole, F.softplus(p_sum + n_sum, threshold=40), 0), whole.to(p.dtype))

    def pull(self, block: Block) -> Pull:
        """By hand: weight times softmax among its kind times the sigmoid of the whole."""
        whole, p, n = block.whole, block.positives, block.negatives
        pull = torch.rsub(p, self.gamma * (1 + self.margin), alpha=self.gamma).clamp_min_(0)
        push = torch.rsub(n, self.gamma * self.margin, alpha=-self.gamma).clamp_min_(NO_WEIGHT)
        pulls = torch.where(block.kept, pull * torch.rsub(p, 1 - self.margin), -torch.inf)
        p_sum, by_positives = softmax_(pulls)
        n_sum, by_negatives = softmax_(torch.sub(n, self.margin).mul_(push))
        total = p_sum + n_sum
        share = total.sigmoid()[:, None]
        if not self.detach:
            pull, push = self._both(p, n, pull, push)
        by_positives.mul_(-share).mul_(pull)
        by_negatives.mul_(push).mul_(share)
        costs = torch.where(whole, F.softplus(total, threshold=40), 0)
        return Pull(Tally(costs, whole.to(p.dtype)), by_positives, by_negatives)

    def _both(self, p: Tensor, n: Tensor, pull: Tensor, push: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes of the exponents when the weights are differentiated too."""
        steep = torch.where(push > NO_WEIGHT, 2 * self.gamma * n, 0)
        return torch.where(pull > 0, 2 * self.gamma * (1 - p), 0), steep


def circle(
    embeddings: Embeddings, labels: Labels, *, margin: float = 0.4, gamma: float = 80.0, detach: bool = True
) -> Scalar:
    """Pull and push every pair the harder, the farther it is from where it should be.

    With s the cosine and m the margin, an anchor costs log(1 + Σ_pos exp(gamma [1 + m - s]₊ (1 - m - s)) ·
    Σ_neg exp(gamma [s + m]₊ (s - m))): positives are to exceed 1 - m, negatives to stay below m. The result is the mean
    over the anchors that have both a positive and a negative in the batch, ≥ 0; other items are no anchors, and a batch
    without an anchor costs zero. As published, the brackets are weights through which no gradient flows, so the
    gradient is *not* that of the value; `detach=False` lets it flow.

    Sun et al., CVPR 2020, with the reduction to one margin, pair form, every item an anchor in turn. Margin 0.4 and
    gamma 80 are widely used defaults for retrieval, 0.25 and 256 for faces.
    """
    return sweep(CircleRule(margin, gamma, detach), embeddings, labels)


class Circle(RowLoss):
    """Circle loss with its options remembered; see `circle`."""

    def __init__(self, *, margin: float = 0.4, gamma: float = 80.0, detach: bool = True) -> None:
        super().__init__()
        self.rule = CircleRule(margin, gamma, detach)

"""Ranked list loss: each class inside a ball, everything else outside a wider one, the nearest intruders first."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_range
from accord.errors import UsageError
from accord.losses._engine import sweep
from accord.losses._row_loss import RowLoss
from accord.losses._rule import Pull, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class RankedListRule:
    """What one row of distances costs; see `ranked_list`."""

    margin: float = 0.4
    alpha: float = 1.2
    negative_temperature: float = 10.0
    positive_temperature: float = 0.0
    balance: float = 0.5
    name = "ranked_list"
    measure: Measure = "euclidean"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0)
        check_range(self.name, "alpha", self.alpha, low=0, high=2, open_low=True)
        if self.margin > self.alpha:
            raise UsageError(
                f"ranked_list: margin must be at most alpha, not {self.margin} and {self.alpha}; positives are pulled "
                "within alpha - margin."
            )
        check_range(self.name, "negative_temperature", self.negative_temperature, low=0)
        check_range(self.name, "positive_temperature", self.positive_temperature, low=0)
        check_range(self.name, "balance", self.balance, low=0, high=1)

    def costs(self, block: Block) -> Tally:
        """Weighted means of what violates either radius."""
        pulls, pushes = self._excesses(block)
        pull = _weighted(pulls.relu(), self.positive_temperature)
        push = _weighted(pushes.relu(), self.negative_temperature)
        costs = (1 - self.balance) * pull + self.balance * push
        return Tally(costs, torch.ones_like(costs))

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax over the violations, tilted to those above their mean."""
        pulls, pushes = self._excesses(block)
        pull, by_positives = _tilted_(pulls, self.positive_temperature)
        push, by_negatives = _tilted_(pushes, self.negative_temperature)
        costs = (1 - self.balance) * pull + self.balance * push
        tally = Tally(costs, torch.ones_like(costs))
        return Pull(tally, by_positives.mul_(1 - self.balance), by_negatives.mul_(-self.balance))

    def _excesses(self, block: Block) -> tuple[Tensor, Tensor]:
        """How far positives are outside the inner ball and negatives inside the outer one; negative for all others."""
        pulls = torch.where(block.kept, block.positives - (self.alpha - self.margin), -1)
        return pulls, self.alpha - block.negatives


def _weighted(excess: Float[Tensor, "row column"], temperature: float) -> Float[Tensor, " row"]:
    """The mean of the positive numbers of each row, weighted by exp(temperature · number); zero if there is none."""
    violates = excess > 0
    logits = torch.where(violates | ~violates.any(dim=1, keepdim=True), temperature * excess, -torch.inf)
    return (logits.softmax(dim=1) * excess).sum(dim=1)


def _tilted_(
    excess: Float[Tensor, "row column"], temperature: float
) -> tuple[Float[Tensor, " row"], Float[Tensor, "row column"]]:
    """The same by hand, with its derivative: weight · (1 + temperature · (number - mean)). Writes over `excess`."""
    if not temperature:
        violates = excess.relu_().sign()
        count = violates.sum(dim=1).clamp_min_(1)
        return excess.sum(dim=1) / count, violates.div_(count[:, None])
    # and not -inf for what violates nothing: exponentials that vanish take many times as long as others
    heated = excess.mul_(temperature).relu_()
    weights = (heated - heated.amax(dim=1, keepdim=True)).exp_().mul_(heated.sign())
    total = weights.sum(dim=1).clamp_min_(torch.finfo(weights.dtype).tiny)
    mean = torch.linalg.vecdot(weights, heated) / total
    return mean / temperature, weights.mul_(heated.add_(1 - mean[:, None])).div_(total[:, None])


def ranked_list(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: float = 0.4,
    alpha: float = 1.2,
    negative_temperature: float = 10.0,
    positive_temperature: float = 0.0,
    balance: float = 0.5,
) -> Scalar:
    """Keep others of an item's class within a ball around it, and all other items outside a ball that is wider.

    With d the Euclidean distance of unit-length embeddings, an item's positives with d > alpha - margin cost the mean
    of d - (alpha - margin), and its negatives with d < alpha the mean of alpha - d, each weighted by exp(temperature ·
    that excess): with the default temperatures (which multiply) positives weigh alike, and the nearest negatives most.
    An item costs (1 - balance) times the first plus balance times the second; a part in which nothing violates is zero.
    The mean over all items is returned, ≥ 0, also over items without positives, whose negatives still cost. Classes
    keep the extent they have inside the inner ball. Gradients flow through the weights too. A batch in which nothing
    violates costs zero and carries a gradient, and so does an empty one.

    Wang et al., "Ranked list loss for deep metric learning", CVPR 2019; balance is their lambda. The defaults are
    widely used; the best margin, alpha and temperature differ by data set. Costs O(batch²) time, O(batch) memory.
    """
    rule = RankedListRule(margin, alpha, negative_temperature, positive_temperature, balance)
    return sweep(rule, embeddings, labels)


class RankedList(RowLoss):
    """Ranked list loss with its options remembered; see `ranked_list`."""

    def __init__(
        self,
        *,
        margin: float = 0.4,
        alpha: float = 1.2,
        negative_temperature: float = 10.0,
        positive_temperature: float = 0.0,
        balance: float = 0.5,
    ) -> None:
        super().__init__()
        self.rule = RankedListRule(margin, alpha, negative_temperature, positive_temperature, balance)

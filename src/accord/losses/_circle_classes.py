"""Circle loss over classes: cosines to the own class vector raised, those to all others lowered, each at its pace."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._sums import softmax_
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class CircleClassesRule:
    """What one item costs against all class vectors; see `circle_classes`."""

    margin: float = 0.25
    gamma: float = 256.0
    name = "circle_classes"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=-1, high=1, open_low=True, open_high=True)
        check_range(self.name, "gamma", self.gamma, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """A softplus of how much the others' exponents outweigh the own one."""
        there = block.negatives.isfinite()
        others = torch.where(there, block.negatives, 0)
        pace = F.relu(others.detach() + self.margin)
        pushes = torch.where(there, self.gamma * pace * (others - self.margin), -torch.inf)
        own = own_score(block)
        pull = self.gamma * F.relu(1 + self.margin - own.detach()) * (own - (1 - self.margin))
        costs = F.softplus(pushes.logsumexp(dim=1) - pull)
        return Tally(costs, torch.ones_like(costs))

    def pull(self, block: Block) -> Pull:
        """By hand: the softmax of the exponents times their pace, which counts as a constant."""
        slow = block.negatives.clamp_min(-self.margin)
        # (s + m)(s - m), from s = -m downwards zero
        pushes = (
            slow.square().sub_(self.margin**2).mul_(self.gamma).masked_fill_(block.negatives == block.far, -torch.inf)
        )
        rivals, by_negatives = softmax_(pushes)
        own = own_score(block)
        pace = F.relu(1 + self.margin - own)
        excess = rivals - self.gamma * pace * (own - (1 - self.margin))
        share = self.gamma * torch.sigmoid(excess)
        by_negatives.mul_(slow.add_(self.margin)).mul_(share[:, None])
        by_own = (-share * pace)[:, None].expand_as(block.positives)
        return Pull(Tally(F.softplus(excess), torch.ones_like(own)), by_own, by_negatives)


def circle_classes(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    margin: float = 0.25,
    gamma: float = 256.0,
) -> Scalar:
    """Raise each item's cosine to its class vector and lower those to all others, the faster the farther they are off.

    With s_p the cosine to the own vector, s_j those to the others and m the margin, an item costs
    log(1 + Σ_j exp(gamma · a_j (s_j - m)) · exp(-gamma · a_p (s_p - 1 + m))), paces a_j = max(0, s_j + m) and
    a_p = max(0, 1 + m - s_p). The mean over the batch is returned, ≥ 0; an empty batch costs zero. The paces count as
    constants in the gradient, as in the paper's derivation: it is not the derivative of the value. Labels are class
    numbers from 0.

    Sun et al., CVPR 2020, the form for class-level labels; margin 0.25 and gamma 256 as for its face recognition. For
    the form with pairs of items see `circle`.
    """
    return sweep_table(CircleClassesRule(margin, gamma), embeddings, labels, weight)


class CircleClasses(nn.Module):
    """Circle loss with a learned vector per class, `weight`, of about unit length; see `circle_classes`."""

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.25,
        gamma: float = 256.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule = CircleClassesRule(margin, gamma)
        check_count(self.rule.name, "dim", dim)
        self.weight = class_table(self.rule.name, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.weight)

"""Quadruplet loss: a triplet's hinge, and a second one against the closest pair of classes foreign to the anchor."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_flag, check_range
from accord.geometry import full
from accord.losses._survey import survey
from accord.mining import Block, Measure, Own
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class QuadrupletRule:
    """What a row tells of itself, its closest negatives and its positives, and what all cost; see `quadruplet`."""

    margin: float = 0.2
    second_margin: float = 0.2
    measure: Measure = "squared"
    unit: bool = True
    name = "quadruplet"
    pairs = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0)
        check_range(self.name, "second_margin", self.second_margin, low=0)
        check_flag(self.name, "normalised", self.unit)

    def read(self, block: Block, classes: Float[Tensor, " column"]) -> Tensor:
        """Own class, closest negative, its class, closest negative of any third class; then the distances in slots."""
        closest, place = block.negatives.min(dim=1)
        second = classes[place]
        third = block.negatives.masked_fill(classes == second[:, None], torch.inf).amin(dim=1)
        numbers = torch.stack([classes[block.rows], closest, second, third], dim=1)
        return torch.cat([numbers, torch.where(block.kept, block.positives, 0)], dim=1)

    def finish(self, statistics: Tensor, own: Own) -> Tensor:
        """The mean over positive pairs of both hinges."""
        closest, distances = statistics[:, 1, None], statistics[:, 4:]
        alive = own.kept & closest.isfinite()
        rival = _rivals(statistics[:, :4])[:, None]
        costs = _hinge(distances, closest, self.margin) + _hinge(distances, rival, self.second_margin)
        return torch.where(alive, costs, 0).sum() / alive.sum().clamp_min(1)


def _hinge(distances: Tensor, rivals: Tensor, margin: float) -> Tensor:
    some = rivals.isfinite()
    return torch.where(some, F.relu(distances - torch.where(some, rivals, 0) + margin), 0)


def _rivals(numbers: Float[Tensor, "row four"]) -> Float[Tensor, " row"]:
    """For each row the distance of the closest negative pair in which its class takes no part, or infinity.

    The closest pair of all serves every class but its own two; for these it is looked for once more.
    """
    own, closest, second, third = numbers.unbind(dim=1)
    least, place = closest.min(dim=0, keepdim=True)
    rivals = least.expand(len(own))
    for left_out in (own.gather(0, place), second.gather(0, place)):
        others = torch.where(second == left_out, third, closest)
        without = torch.where(own == left_out, torch.inf, others).min(dim=0, keepdim=True).values
        rivals = torch.where(own == left_out, without, rivals)
    return rivals


def quadruplet(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: float = 0.2,
    second_margin: float = 0.2,
    squared: bool = True,
    normalised: bool = True,
) -> Scalar:
    """Ask of each pair of one class that it be closer than two rivals: the anchor's closest negative, a foreign pair.

    With d the squared Euclidean distance, every ordered positive pair (a, p) costs
    max(0, d(a,p) - d(a,n) + margin) + max(0, d(a,p) - d(k,l) + second_margin). n is the negative closest to a;
    (k, l) the closest pair of two different classes, neither of them a's. The result is the mean over the pairs, ≥ 0.
    With fewer than three classes in the batch the second hinge is left out; a batch without positives or without
    negatives costs zero and still carries a gradient. `squared=False` takes the root.

    Chen et al., "Beyond triplet loss: a deep quadruplet network for person re-identification", CVPR 2017, which sums
    over all quadruplets and finds the hard ones by a margin that adapts; here each positive pair meets the hardest of
    its batch, exactly. The paper's distance is a learned score and its margins fit that; we take Euclidean distances
    of unit vectors (`normalised=False` leaves lengths alone) and the margins of Roth et al.'s reference code.
    Costs O(batch²) time, O(batch) memory with small classes on processors; otherwise positive distances are
    kept, batch × batch.
    """
    return _survey(_rule(margin, second_margin, squared, normalised), embeddings, labels)


class Quadruplet(nn.Module):
    """Quadruplet loss with its options remembered; see `quadruplet`."""

    def __init__(
        self, *, margin: float = 0.2, second_margin: float = 0.2, squared: bool = True, normalised: bool = True
    ) -> None:
        super().__init__()
        self.rule = _rule(margin, second_margin, squared, normalised)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _survey(self.rule, embeddings, labels)


def _rule(margin: float, second_margin: float, squared: bool, normalised: bool) -> QuadrupletRule:
    check_flag(QuadrupletRule.name, "squared", squared)
    return QuadrupletRule(margin, second_margin, "squared" if squared else "euclidean", normalised)


def _survey(rule: QuadrupletRule, embeddings: Embeddings, labels: Labels) -> Scalar:
    check_batch(rule.name, embeddings, labels)
    return survey(rule, embeddings, labels, learned=(_numbered(labels).to(full(embeddings).dtype),))


def _numbered(labels: Labels) -> Tensor:
    """Classes numbered from 0, so that they are exact as floating-point numbers."""
    ascending, order = labels.sort()
    starts = F.pad(ascending.diff() != 0, (1, 0)) if len(labels) else ascending
    return torch.empty_like(order).scatter_(0, order, starts.cumsum(dim=0))

"""Proxy-triplet: an item must be nearer to the proxy of its class than to any other proxy, by a margin."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_range
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class ProxyTripletRule:
    """What one item costs against all proxies; see `proxy_triplet`."""

    margin: float = 0.2
    name = "proxy_triplet"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=4)

    def costs(self, block: Block) -> Tally:
        """A hinge for each other proxy."""
        # d = 2 - 2·cos: the constant cancels between the two distances
        needed = self.margin - 2 * own_score(block)
        return Tally(F.relu(2 * block.negatives + needed[:, None]).sum(dim=1), block.negative_count)

    def pull(self, block: Block) -> Pull:
        """By hand: each hinge that is open pulls and pushes by 2."""
        needed = self.margin - 2 * own_score(block)
        hinges = torch.add(needed[:, None], block.negatives, alpha=2).relu_()
        costs = hinges.sum(dim=1)
        hinges.sign_().mul_(2)
        by_own = -hinges.sum(dim=1, keepdim=True)
        return Pull(Tally(costs, block.negative_count), by_own.expand_as(block.positives), hinges)


def proxy_triplet(
    embeddings: Embeddings, labels: Labels, proxies: Float[Tensor, "class dim"], *, margin: float = 0.2
) -> Scalar:
    """Make each item nearer to the proxy of its class than to every other proxy, by `margin`.

    With d the squared Euclidean distance of unit-length items and proxies (in [0, 4]), an item x of class y costs
    max(0, d(x, p_y) + margin - d(x, p_z)) for each other proxy z; the mean over all items and z is returned, ≥ 0. An
    empty batch costs zero. Labels are class numbers from 0. Margin in [0, 4].

    Movshovitz-Attias et al., ICCV 2017: the triplet form of their proxy losses, with static assignment, one proxy per
    class. They found the NCA form (`proxy_nca`) far better; this one is for comparison. The default margin is that of
    FaceNet's triplets, and all other proxies are taken where a sampled one would do.
    """
    return sweep_table(ProxyTripletRule(margin), embeddings, labels, proxies)


class ProxyTriplet(nn.Module):
    """Proxy-triplet with one learned proxy per class, drawn from N(0, 1/8²); see `proxy_triplet`."""

    def __init__(
        self, dim: int, classes: int, *, margin: float = 0.2, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.rule = ProxyTripletRule(margin)
        self.proxies = class_table("proxy_triplet", dim=dim, classes=classes, spread=1 / 8, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.proxies)

"""Proxy-triplet: an item must be nearer to the proxy of its class than to any other proxy, by a margin."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_range
from accord.losses._proxy_each import EachTripletRule, to_nearest
from accord.losses._proxy_loss import ProxyLoss, sweep_proxies
from accord.losses._proxy_store import Assignment, Init
from accord.losses._relations import Supervision
from accord.losses._rule import Pull, Tally
from accord.losses._target_softmax import own_score
from accord.mining import Block, Measure
from accord.types import Embeddings, Scalar


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
        by_own = to_nearest(block, -hinges.sum(dim=1))
        return Pull(Tally(costs, block.negative_count), by_own, hinges)

    @property
    def each(self) -> EachTripletRule:
        """The same loss for each positive by itself."""
        return EachTripletRule(self.name, self.margin)


def proxy_triplet(
    embeddings: Embeddings,
    labels: Supervision,
    proxies: Float[Tensor, "proxy dim"],
    *,
    margin: float = 0.2,
    assignment: Assignment = "static",
    per_class: int = 1,
) -> Scalar:
    """Make each item nearer to its proxy than to every other proxy, by `margin`.

    With d the squared Euclidean distance of unit-length items and proxies (in [0, 4]), an item x costs
    max(0, d(x, p(y)) + margin - d(x, p(z))) for each z; the mean over all items and z is returned, ≥ 0. An empty batch
    costs zero. Margin in [0, 4]. Static and dynamic assignment, what y and z are, `per_class` and what may stand for
    labels are as in `proxy_nca`; with dynamic assignment the mean is over all (x, y, z).

    Movshovitz-Attias et al., ICCV 2017: the triplet form of their proxy losses. They found the NCA form (`proxy_nca`)
    far better; this one is for comparison. The default margin is that of FaceNet's triplets, and all negatives are
    taken where a sampled one would do.
    """
    return sweep_proxies(ProxyTripletRule(margin), embeddings, labels, proxies, assignment, per_class)


class ProxyTriplet(ProxyLoss):
    """Proxy-triplet with learned proxies, by default one per class, drawn from N(0, 1/8²); see `proxy_triplet`.

    What `proxies_per_class` and `init` mean is said in `ProxyStore`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.2,
        assignment: Assignment = "static",
        proxies_per_class: int | float = 1,
        init: Init = "normal",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            ProxyTripletRule(margin),
            dim=dim,
            classes=classes,
            spread=1 / 8,
            proxies_per_class=proxies_per_class,
            assignment=assignment,
            init=init,
            generator=generator,
        )

"""Proxy-NCA: each item close to the learned proxy of its class and far from the proxies of all others."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.losses._proxy_each import EachNCARule, to_nearest
from accord.losses._proxy_loss import ProxyLoss, sweep_proxies
from accord.losses._proxy_store import Assignment, Init
from accord.losses._relations import Supervision
from accord.losses._rule import Pull, Tally
from accord.losses._target_softmax import exponentials, own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Scalar

Positive = Literal["excluded", "included"]


@dataclass(frozen=True)
class ProxyNCARule:
    """What one item costs against all proxies; see `proxy_nca`."""

    scale: float = 3.0
    positive: Positive = "excluded"
    name = "proxy_nca"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "scale", self.scale, low=0, open_low=True)
        if self.positive not in get_args(Positive):
            raise UnknownNameError("positive of proxy_nca", self.positive, get_args(Positive))

    def costs(self, block: Block) -> Tally:
        """The log-sum over the other proxies, or over all, less the own proxy's exponent."""
        # -d = 2·scale²·cos - 2·scale², and the constant cancels between the two terms
        heat = 2 * self.scale**2
        own = heat * own_score(block)
        if self.positive == "included":
            return target_costs(own, block.negatives, heat)
        return Tally((heat * block.negatives).logsumexp(dim=1) - own, torch.ones_like(own))

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax, which with the own proxy excluded is that of the others alone."""
        heat = 2 * self.scale**2
        own = heat * own_score(block)
        if self.positive == "included":
            pull = target_pull(block, own, heat, block.negatives, heat)
            return pull._replace(positives=to_nearest(block, pull.positives[:, 0]))
        rivals, shares, total = exponentials(block.negatives, heat)
        by_positives = to_nearest(block, torch.full_like(own, -heat))
        return Pull(Tally(rivals - own, torch.ones_like(own)), by_positives, shares.mul_(heat / total))

    @property
    def each(self) -> EachNCARule:
        """The same loss for each positive by itself."""
        return EachNCARule(self.name, 2 * self.scale**2, self.positive == "included")


def proxy_nca(
    embeddings: Embeddings,
    labels: Supervision,
    proxies: Float[Tensor, "proxy dim"],
    *,
    scale: float = 3.0,
    positive: Positive = "excluded",
    assignment: Assignment = "static",
    per_class: int = 1,
) -> Scalar:
    """Pull items to their proxy and push them from all others: NCA with proxies for neighbours.

    With embeddings and proxies brought to length `scale` and d the squared Euclidean distance, an item x costs
    d(x, p(y)) + log Σ_z exp(-d(x, p(z))); the mean over the batch is returned. As published the item's own
    proxy is *excluded* from the sum, so the loss can be negative and never stops pulling; `positive="included"` adds
    it, which makes it a softmax cross-entropy, ≥ 0. An empty batch costs zero.

    *Static* assignment: p(y) is the proxy of x's class and z runs over the proxies of all other classes. Labels are
    class numbers from 0. Of `per_class` proxies, rows c · per_class … of class c, the nearest is p(y) and the others of
    the class take no part. Fewer proxies than classes: hand over `share_proxies(…)[labels]` for labels.

    *Dynamic* assignment: p(v) is the proxy nearest to v. y is each other item of x's class and z runs over the items of
    other classes: p(Z) is a multiset with one proxy for each negative, as the paper's bound needs (`nca_bound`), and
    p(y) may be in it. The mean is over all (x, y) with a negative. Instead of labels it takes `Pairs` (what they link
    is a class) or `Triplets` (each anchor and positive against the negatives which triplets give these two).

    Movshovitz-Attias et al., ICCV 2017. The paper has at most one proxy per class; several are ours, as in sub-centre
    ArcFace. It leaves `scale` open; only its square (embedding length × proxy length) acts, 1/scale² being a
    temperature. At scale 1 the included form is far too soft to be trained: with C classes it cannot fall below
    log(1 + (C - 1) exp(-2C / (C - 1))), 2.63 for C = 98.
    """
    return sweep_proxies(ProxyNCARule(scale, positive), embeddings, labels, proxies, assignment, per_class)


class ProxyNCA(ProxyLoss):
    """Proxy-NCA with learned proxies, by default one per class, drawn from N(0, 1/8²); see `proxy_nca`.

    The parameter is called `proxies`; it wants a learning rate far above the network's. What `proxies_per_class` and
    `init` mean is said in `ProxyStore`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        scale: float = 3.0,
        positive: Positive = "excluded",
        assignment: Assignment = "static",
        proxies_per_class: int | float = 1,
        init: Init = "normal",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            ProxyNCARule(scale, positive),
            dim=dim,
            classes=classes,
            spread=1 / 8,
            proxies_per_class=proxies_per_class,
            assignment=assignment,
            init=init,
            generator=generator,
        )

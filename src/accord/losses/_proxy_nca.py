"""Proxy-NCA: each item close to the learned proxy of its class and far from the proxies of all others."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_range
from accord.errors import UnknownNameError, UsageError
from accord.losses._proxy_each import EachNCARule, to_nearest
from accord.losses._proxy_loss import ProxyLoss, sweep_proxies
from accord.losses._proxy_store import Assignment, Init
from accord.losses._relations import Supervision
from accord.losses._rule import Pull, Tally
from accord.losses._target_softmax import exponentials, own_score, target_costs, target_parts
from accord.mining import Block, Measure
from accord.types import Embeddings, Scalar

Positive = Literal["excluded", "included"]


@dataclass(frozen=True)
class ProxyNCARule:
    """What one item costs against all proxies; see `proxy_nca`."""

    scale: float = 3.0
    positive: Positive = "excluded"
    smoothing: float = 0.0
    name = "proxy_nca"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "scale", self.scale, low=0, open_low=True)
        if self.positive not in get_args(Positive):
            raise UnknownNameError("positive of proxy_nca", self.positive, get_args(Positive))
        check_range(self.name, "smoothing", self.smoothing, low=0, high=1, open_high=True)
        if self.smoothing and self.positive == "excluded":
            raise UsageError(
                "proxy_nca: smoothing needs the own proxy among those a share is given to; add positive='included'."
            )

    def costs(self, block: Block) -> Tally:
        """The log-sum over the other proxies, or over all, less the own proxy's exponent."""
        # -d = 2·scale²·cos - 2·scale², and the constant cancels between the two terms
        heat = 2 * self.scale**2
        own = heat * own_score(block)
        if self.positive == "included":
            tally = target_costs(own, block.negatives, heat)
            return tally._replace(costs=tally.costs + self._lead(block, own, heat)) if self.smoothing else tally
        return Tally((heat * block.negatives).logsumexp(dim=1) - own, torch.ones_like(own))

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax, which with the own proxy excluded is that of the others alone."""
        heat = 2 * self.scale**2
        own = heat * own_score(block)
        if self.positive == "included":
            (costs, counts), by_own, by_others = target_parts(own, block.negatives, heat)
            by_own = by_own * heat
            if self.smoothing:
                costs = costs + self._lead(block, own, heat)
                by_others.sub_(heat * self._each(block)[:, None]).masked_fill_(block.negatives == block.far, 0)
                by_own = by_own + heat * self.smoothing
            return Pull(Tally(costs, counts), to_nearest(block, by_own), by_others)
        rivals, shares, total = exponentials(block.negatives, heat)
        by_positives = to_nearest(block, torch.full_like(own, -heat))
        return Pull(Tally(rivals - own, torch.ones_like(own)), by_positives, shares.mul_(heat / total))

    def _each(self, block: Block) -> Tensor:
        """What the smoothed target gives to each other proxy of a row."""
        return self.smoothing / block.negative_count.clamp_min(1)

    def _lead(self, block: Block, own: Tensor, heat: float) -> Tensor:
        """What smoothing adds: the share of the own exponent that goes to the others, and theirs."""
        total = torch.where(block.negatives.isfinite(), block.negatives, 0).sum(dim=1)
        return self.smoothing * own - heat * self._each(block) * total

    @property
    def each(self) -> EachNCARule:
        """The same loss for each positive by itself, and without smoothing."""
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
    smoothing: float = 0.0,
) -> Scalar:
    """Pull items to their proxy and push them from all others: NCA with proxies for neighbours.

    With embeddings and proxies brought to length `scale` and d the squared Euclidean distance, an item x costs
    d(x, p(y)) + log Σ_z exp(-d(x, p(z))); the mean over the batch is returned. As published the item's own
    proxy is *excluded* from the sum, so the loss can be negative and never stops pulling; `positive="included"` adds
    it, which makes it a softmax cross-entropy, ≥ 0. Its target may be smoothed: the own proxy then gets 1 - `smoothing`
    and each other proxy an equal part of the rest, with static assignment only. An empty batch costs zero.

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

    Zabihzadeh et al., arXiv 2107.01130: embeddings of length 1 and proxies of length 3, which is `scale=3**0.5`,
    `positive="included"`, `smoothing=0.1`.
    """
    rule = _rule(scale, positive, smoothing, assignment)
    return sweep_proxies(rule, embeddings, labels, proxies, assignment, per_class)


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
        smoothing: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            _rule(scale, positive, smoothing, assignment),
            dim=dim,
            classes=classes,
            spread=1 / 8,
            proxies_per_class=proxies_per_class,
            assignment=assignment,
            init=init,
            generator=generator,
        )


def _rule(scale: float, positive: Positive, smoothing: float, assignment: Assignment) -> ProxyNCARule:
    rule = ProxyNCARule(scale, positive, smoothing)
    if smoothing and assignment == "dynamic":
        raise UsageError(
            "proxy_nca: smoothing spreads a target over proxies, but with assignment='dynamic' items are what an item "
            "is told from. Leave one of them out."
        )
    return rule

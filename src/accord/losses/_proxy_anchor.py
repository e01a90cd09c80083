"""Proxy-Anchor: each class's proxy is an anchor that pulls its hard items and pushes the hard items of others."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_count, check_range
from accord.geometry import full
from accord.losses._proxy_store import Init, ProxyStore
from accord.losses._rule import Pull, Tally
from accord.losses._sums import kept_or, log_one_plus_sum, softmax_one_plus_
from accord.losses._tables import check_table, sweep_classes
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class ProxyAnchorRule:
    """What one proxy costs against all items, its share of the two means given; see `proxy_anchor`."""

    margin: float = 0.1
    alpha: float = 32.0
    name = "proxy_anchor"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=2)
        check_range(self.name, "alpha", self.alpha, low=0, open_low=True)

    def costs(self, block: Block, shares: Tensor) -> Tally:
        """Soft sums over its items and over all others."""
        pull = log_one_plus_sum(kept_or(self.alpha * (self.margin - block.positives), block.kept, -torch.inf))
        push = log_one_plus_sum(self.alpha * (block.negatives + self.margin))
        return Tally(shares[0] * pull + shares[1] * push, None)

    def pull(self, block: Block, shares: Tensor) -> Pull:
        """By hand: the softmax of the exponents, with a one beside them."""
        by_pull, by_push = (shares * self.alpha).unbind()
        pulls = kept_or(self.alpha * (self.margin - block.positives), block.kept, -torch.inf)
        pull, by_positives = softmax_one_plus_(pulls)
        push, by_negatives = softmax_one_plus_(torch.add(block.negatives, self.margin).mul_(self.alpha))
        costs = shares[0] * pull + shares[1] * push
        return Pull(Tally(costs, None), by_positives.mul_(-by_pull), by_negatives.mul_(by_push))


def proxy_anchor(
    embeddings: Embeddings,
    labels: Labels,
    proxies: Float[Tensor, "class dim"],
    *,
    margin: float = 0.1,
    alpha: float = 32.0,
) -> Scalar:
    """Let the proxy of each class pull the items of its class, the hard ones most, and push the items of all others.

    With s the cosine of a proxy and an item, a class costs log(1 + Σ exp(-alpha (s - margin))) over its own items and
    log(1 + Σ exp(alpha (s + margin))) over all others. The mean of the first over the classes *present in the batch*
    plus the mean of the second over *all* classes is returned, ≥ 0. An empty batch costs zero. Labels are class numbers
    from 0. Margin in [0, 2].

    Kim et al., CVPR 2020, eq. 4, with the paper's margin 0.1 and alpha 32. Proxies want a learning rate far above the
    network's (the authors' repository: 100 times).
    """
    return _proxy_anchor(ProxyAnchorRule(margin, alpha), embeddings, labels, proxies)


def _proxy_anchor(rule: ProxyAnchorRule, embeddings: Tensor, labels: Tensor, proxies: Tensor) -> Tensor:
    # here already, because labels are counted before the sweep looks at them
    check_table(rule.name, embeddings, labels, proxies)
    return sweep_classes(rule, embeddings, labels, proxies, learned=(_shares(labels, proxies),))


def _shares(labels: Tensor, proxies: Tensor) -> Tensor:
    """What a class's pull and push are multiplied by: one by the classes present, one by all classes."""
    classes = max(1, len(proxies))
    present = full(proxies.detach()).new_zeros(classes)
    # a label out of range, which only main memory is asked for, is clamped
    present.index_fill_(0, labels.to(torch.int64).clamp(0, classes - 1), 1)
    return torch.stack([present.sum().clamp_min(1), torch.full_like(present[0], classes)]).reciprocal()


class ProxyAnchor(ProxyStore):
    """Proxy-Anchor with learned proxies, by default one per class; see `proxy_anchor`.

    The parameter is called `proxies`, drawn from N(0, 2 / classes): Kaiming's normal by fan-out, as the authors do.
    With `proxies_per_class` below 1 classes share them, see `ProxyStore`, and what is said of a class holds for those
    of a proxy. More than one is refused: every proxy pulls all items of its class, so several would be the same.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.1,
        alpha: float = 32.0,
        proxies_per_class: int | float = 1,
        init: Init = "normal",
        generator: torch.Generator | None = None,
    ) -> None:
        check_count("proxy_anchor", "classes", classes, low=2)
        check_range("proxy_anchor", "proxies_per_class", proxies_per_class, low=0, open_low=True, high=1)
        super().__init__(
            "proxy_anchor",
            dim=dim,
            classes=classes,
            spread=(2 / classes) ** 0.5,
            proxies_per_class=proxies_per_class,
            init=init,
            generator=generator,
        )
        self.rule = ProxyAnchorRule(margin, alpha)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _proxy_anchor(self.rule, embeddings, self.own_labels(embeddings, labels), self.proxies)

"""Proxy-NCA: each item close to the learned proxy of its class and far from the proxies of all others."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_range
from accord.errors import UnknownNameError
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import exponentials, own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

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
            return target_pull(block, own, heat, block.negatives, heat)
        rivals, shares, total = exponentials(block.negatives, heat)
        by_positives = torch.full_like(block.positives, -heat)
        return Pull(Tally(rivals - own, torch.ones_like(own)), by_positives, shares.mul_(heat / total))


def proxy_nca(
    embeddings: Embeddings,
    labels: Labels,
    proxies: Float[Tensor, "class dim"],
    *,
    scale: float = 3.0,
    positive: Positive = "excluded",
) -> Scalar:
    """Pull items to the proxy of their class and push them from all others: NCA with proxies for neighbours.

    With embeddings and proxies brought to length `scale` and d the squared Euclidean distance, an item x of class y
    costs d(x, p_y) + log Σ_{z≠y} exp(-d(x, p_z)); the mean over the batch is returned. As published the item's own
    proxy is *excluded* from the sum, so the loss can be negative and never stops pulling; `positive="included"` adds
    it, which makes it a softmax cross-entropy, ≥ 0. An empty batch costs zero. Labels are class numbers from 0.

    Movshovitz-Attias et al., ICCV 2017, with static assignment, one proxy per class. The paper leaves `scale`
    open; only its square (embedding length × proxy length) acts, 1/scale² being a temperature. At scale 1 the included
    form is far too soft to be trained.
    """
    return sweep_table(ProxyNCARule(scale, positive), embeddings, labels, proxies)


class ProxyNCA(nn.Module):
    """Proxy-NCA with one learned proxy per class, drawn from N(0, 1/8²); see `proxy_nca`.

    The parameter is called `proxies`; it wants a learning rate far above the network's.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        scale: float = 3.0,
        positive: Positive = "excluded",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule = ProxyNCARule(scale, positive)
        self.proxies = class_table("proxy_nca", dim=dim, classes=classes, spread=1 / 8, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.proxies)

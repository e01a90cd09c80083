"""Proxy-NCA++: the probability that an item is assigned to the proxy of its class, sharpened by a temperature."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_range
from accord.losses._proxy_each import EachNCARule, to_nearest
from accord.losses._proxy_loss import ProxyLoss, sweep_proxies
from accord.losses._proxy_store import Assignment, Init
from accord.losses._relations import Supervision
from accord.losses._rule import Pull, Tally
from accord.losses._target_softmax import own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Scalar


@dataclass(frozen=True)
class ProxyNCAPlusPlusRule:
    """What one item costs against all proxies; see `proxy_nca_plus_plus`."""

    temperature: float = 1 / 9
    name = "proxy_nca_plus_plus"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "temperature", self.temperature, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """The cross-entropy of negated squared distances by temperature."""
        # -d = 2·cos - 2, and the constant cancels
        heat = 2 / self.temperature
        return target_costs(heat * own_score(block), block.negatives, heat)

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax."""
        heat = 2 / self.temperature
        pull = target_pull(block, heat * own_score(block), heat, block.negatives, heat)
        return pull._replace(positives=to_nearest(block, pull.positives[:, 0]))

    @property
    def each(self) -> EachNCARule:
        """The same loss for each positive by itself."""
        return EachNCARule(self.name, 2 / self.temperature, included=True)


def proxy_nca_plus_plus(
    embeddings: Embeddings,
    labels: Supervision,
    proxies: Float[Tensor, "proxy dim"],
    *,
    temperature: float = 1 / 9,
    assignment: Assignment = "static",
    per_class: int = 1,
) -> Scalar:
    """Make it likely that an item is assigned to its proxy rather than to any other.

    With d the squared Euclidean distance of unit-length items and proxies (in [0, 4]), an item x costs
    -log(exp(-d(x, p(y)) / temperature) / Σ_z exp(-d(x, p(z)) / temperature)), where z runs over *all* proxies, the own
    one included; the mean over the batch is returned, ≥ 0. An empty batch costs zero. Static and dynamic assignment,
    what y and z are, `per_class` and what may stand for labels are as in `proxy_nca`.

    Teh, DeVries & Taylor, ECCV 2020, temperature 1/9 as in the authors' repository. It equals
    `proxy_nca(positive="included")` with 1/scale² for temperature. The paper's other ingredients belong elsewhere:
    global max pooling and layer normalisation to the network, balanced classes to the sampler, a learning rate of the
    proxies far above the network's to the optimiser. Dynamic assignment is not in this paper.
    """
    rule = ProxyNCAPlusPlusRule(temperature)
    return sweep_proxies(rule, embeddings, labels, proxies, assignment, per_class)


class ProxyNCAPlusPlus(ProxyLoss):
    """Proxy-NCA++ with learned proxies, by default one per class, drawn from N(0, 1/8²); see `proxy_nca_plus_plus`.

    What `proxies_per_class` and `init` mean is said in `ProxyStore`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        temperature: float = 1 / 9,
        assignment: Assignment = "static",
        proxies_per_class: int | float = 1,
        init: Init = "normal",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(
            ProxyNCAPlusPlusRule(temperature),
            dim=dim,
            classes=classes,
            spread=1 / 8,
            proxies_per_class=proxies_per_class,
            assignment=assignment,
            init=init,
            generator=generator,
        )

"""Proxy-NCA++: the probability that an item is assigned to the proxy of its class, sharpened by a temperature."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_range
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


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
        return target_pull(block, heat * own_score(block), heat, block.negatives, heat)


def proxy_nca_plus_plus(
    embeddings: Embeddings, labels: Labels, proxies: Float[Tensor, "class dim"], *, temperature: float = 1 / 9
) -> Scalar:
    """Make it likely that an item is assigned to the proxy of its class rather than to any other.

    With d the squared Euclidean distance of unit-length items and proxies (in [0, 4]), an item x of class y costs
    -log(exp(-d(x, p_y) / temperature) / Σ_z exp(-d(x, p_z) / temperature)), where z runs over *all* proxies, the own
    one included; the mean over the batch is returned, ≥ 0. An empty batch costs zero. Labels are class numbers from 0.

    Teh, DeVries & Taylor, ECCV 2020, temperature 1/9 as in the authors' repository. It equals
    `proxy_nca(positive="included")` with 1/scale² for temperature. The paper's other ingredients belong elsewhere:
    global max pooling and layer normalisation to the network, balanced classes to the sampler, a learning rate of the
    proxies far above the network's to the optimiser.
    """
    return sweep_table(ProxyNCAPlusPlusRule(temperature), embeddings, labels, proxies)


class ProxyNCAPlusPlus(nn.Module):
    """Proxy-NCA++ with one learned proxy per class, drawn from N(0, 1/8²); see `proxy_nca_plus_plus`."""

    def __init__(
        self, dim: int, classes: int, *, temperature: float = 1 / 9, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.rule = ProxyNCAPlusPlusRule(temperature)
        self.proxies = class_table("proxy_nca_plus_plus", dim=dim, classes=classes, spread=1 / 8, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.proxies)

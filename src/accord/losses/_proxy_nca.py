"""Proxy-NCA: each item close to the learned proxy of its class and far from the proxies of all others."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_classes, check_range
from accord.errors import UnknownNameError, UsageError
from accord.geometry import cosine
from accord.losses._shared import class_table, mean
from accord.types import Embeddings, Labels, Scalar

Positive = Literal["excluded", "included"]


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
    check_batch("proxy_nca", embeddings, labels)
    _check_options(scale, positive)
    if len(proxies) < 2:
        raise UsageError(f"proxy_nca: needs the proxies of at least 2 classes, not {len(proxies)}.")
    check_classes("proxy_nca", labels, len(proxies))
    # -d = 2·scale²·cos - 2·scale², and the constant cancels between the two terms
    logits = 2 * scale**2 * cosine(embeddings, proxies)
    own = labels[:, None] == torch.arange(len(proxies), device=labels.device)
    pull = torch.where(own, logits, 0).sum(dim=1)
    rivals = logits.masked_fill(own, -torch.inf) if positive == "excluded" else logits
    return mean(rivals.logsumexp(dim=1) - pull)


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
        _check_options(scale, positive)
        self.scale, self.positive = scale, positive
        self.proxies = class_table("proxy_nca", dim=dim, classes=classes, spread=1 / 8, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return proxy_nca(embeddings, labels, self.proxies, scale=self.scale, positive=self.positive)


def _check_options(scale: float, positive: Positive) -> None:
    check_range("proxy_nca", "scale", scale, low=0, open_low=True)
    if positive not in get_args(Positive):
        raise UnknownNameError("positive of proxy_nca", positive, get_args(Positive))

"""What to watch while proxies learn: how tight their bound is on a batch, and how many of them stand for nothing."""

from math import exp
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from accord.checks import check_count
from accord.errors import UsageError
from accord.geometry import full
from accord.losses._proxy_bounds import bound_slack, nca_bound, proxy_epsilon, triplet_bound
from accord.losses._proxy_each import EachNCARule, EachRule
from accord.losses._proxy_loss import ProxyLoss
from accord.losses._proxy_nearest import contest, nearest_proxies
from accord.losses._relations import Contests, Supervision, linked_labels
from accord.types import Embeddings, Pairs, Triplets


class BoundReading(NamedTuple):
    """The bound of a proxy loss on one batch; each a scalar, `true_loss` ≤ `bound`.

    `epsilon` is the largest squared distance of an item from its proxy, at unit length. `proxy_loss` is the loss of
    items against the proxies of the others in the batch, `true_loss` that against the others themselves, at unit
    length. `slack` is the part of the bound that ε adds, 4√ε.
    """

    epsilon: Float[Tensor, ""]
    proxy_loss: Float[Tensor, ""]
    true_loss: Float[Tensor, ""]
    bound: Float[Tensor, ""]
    slack: Float[Tensor, ""]


class ProxyBound:
    """Reads off how tight the bound of a proxy loss is on a batch: ProxyNCA, ProxyNCA++ or ProxyTriplet.

    Call it with what the loss is called with. The losses compared are over all (x, y, Z) of the batch, or those that
    triplets name, with p(Z) as a multiset, whatever the loss in training takes for rivals; see `nca_bound`. Costs a few
    products of batch × batch; no gradient passes. A loss of scale below 1 (temperature above 1) has no bound and is
    refused.
    """

    def __init__(self, loss: ProxyLoss) -> None:
        if loss.rule.each.alpha > 1:
            raise UsageError(
                f"ProxyBound: {loss.who} has no bound at α = {loss.rule.each.alpha:.3g}, which must be at most 1.\n"
                "Raise its scale to 1 or more, or lower its temperature to 1 or less."
            )
        self.loss = loss

    @torch.no_grad()
    def __call__(self, embeddings: Embeddings, labels: Supervision) -> BoundReading:
        """The reading of one batch."""
        each = self.loss.rule.each
        stand_ins = self.loss.proxies.detach()[self.loss.assigned(embeddings, labels)]
        x = full(embeddings.detach()).to(torch.promote_types(full(embeddings).dtype, stand_ins.dtype))
        stand_ins = stand_ins.to(x)
        proxy_loss = contest(each, x, stand_ins, labels)
        true_loss = contest(each.unscaled(), x, x, labels)
        used = _used(labels, len(x))
        epsilon = proxy_epsilon(x[used], stand_ins[used])
        bound = _bound(each, proxy_loss, epsilon, labels, len(x))
        return BoundReading(epsilon, proxy_loss, true_loss, bound, bound_slack(epsilon))


def _bound(each: EachRule, proxy_loss: Tensor, epsilon: Tensor, labels: Supervision, items: int) -> Tensor:
    if not isinstance(each, EachNCARule):
        return triplet_bound(proxy_loss, epsilon, margin=each.margin, alpha=each.alpha)
    pairs, rivals = _sizes(labels, items)
    # a mean of losses has the mean of the logarithms
    known = pairs * (rivals > 0)
    logs = (rivals + each.included).clamp_min(1).log()
    mean = float((known * logs).sum() / known.sum().clamp_min(1))
    return nca_bound(proxy_loss, epsilon, negatives=exp(mean), alpha=each.alpha)


def _sizes(labels: Supervision, items: int) -> tuple[Tensor, Tensor]:
    """How many positives a row has, and how many negatives each of them is told from."""
    if isinstance(labels, Triplets):
        rivals = Contests(labels, items).kept.sum(dim=1).double()
        return torch.ones_like(rivals), rivals
    known = linked_labels(labels, items) if isinstance(labels, Pairs) else labels
    _, number, counts = torch.unique(known, return_inverse=True, return_counts=True)
    own: Tensor = counts[number].double()
    return own - 1, items - own


def _used(labels: Supervision, items: int) -> Tensor:
    """The items that are a positive or a negative: with labels all of them."""
    if isinstance(labels, Triplets):
        return torch.cat([labels.positives, labels.negatives]).to(torch.int64)
    return torch.arange(items)


class ProxyUse(nn.Module):
    """Counts proxies that stand for nothing: `see` what is nearest, ask for `terms`, and `restart` with each epoch.

    A module, so that a checkpoint keeps the two flags per proxy. On the device of what it is moved to.
    """

    near: Tensor
    taken: Tensor

    def __init__(self, proxies: int) -> None:
        super().__init__()
        check_count("ProxyUse", "proxies", proxies, low=2)
        for name in ("near", "taken"):
            self.register_buffer(name, torch.zeros(proxies, dtype=torch.bool))

    def see(self, nearest: Int[Tensor, " item"], assigned: Int[Tensor, " item"]) -> None:
        """Note the numbers of the proxies nearest to some items, of all, and of those assigned to them."""
        self.near.index_fill_(0, nearest, True)
        self.taken.index_fill_(0, assigned, True)

    def restart(self) -> None:
        """Forget what was seen."""
        self.near.zero_()
        self.taken.zero_()

    @property
    def terms(self) -> dict[str, Tensor]:
        """`dead_proxies` were nearest to no item since the start, `unassigned_proxies` were assigned to none."""
        return {"dead_proxies": (~self.near).sum(), "unassigned_proxies": (~self.taken).sum()}


class ProxyWatch:
    """Watches a proxy loss in training: attached to it, sees every batch; `terms` is what to log.

    Counts dead proxies since the last `restart` and takes a reading of the bound every `every` batches, where there is
    a bound. Costs one product of items × proxies a batch, for what is nearest to whom.

    >>> from accord.losses import ProxyNCA
    >>> loss = ProxyNCA(4, 3)
    >>> watch = ProxyWatch(loss)
    >>> value = loss(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    >>> int(watch.terms["unassigned_proxies"])
    1
    """

    def __init__(self, loss: ProxyLoss, *, every: int = 50) -> None:
        check_count("ProxyWatch", "every", every)
        self.loss, self.every, self.batches = loss, every, 0
        self.use = ProxyUse(len(loss.proxies)).to(loss.proxies.device)
        self.bound = ProxyBound(loss) if loss.rule.each.alpha <= 1 else None
        self.reading: BoundReading | None = None
        self._hook = loss.register_forward_hook(self._see)

    @torch.no_grad()
    def _see(self, _: nn.Module, batch: tuple[Tensor, Supervision], value: Tensor) -> None:
        """Take in one batch; nothing is counted of a loss in evaluation mode."""
        embeddings, labels = batch
        if not self.loss.training or not len(embeddings):
            return
        assigned = self.loss.assigned(embeddings, labels)
        dynamic = self.loss.assignment == "dynamic"
        self.use.see(assigned if dynamic else nearest_proxies(embeddings, self.loss.proxies), assigned)
        if self.bound is not None and self.batches % self.every == 0:
            self.reading = self.bound(embeddings, labels)
        self.batches += 1

    @property
    def terms(self) -> dict[str, Tensor]:
        """Dead and unassigned proxies, and the latest reading of the bound."""
        return {**self.use.terms, **({} if self.reading is None else self.reading._asdict())}

    def restart(self) -> None:
        """Begin a new epoch."""
        self.use.restart()

    def detach(self) -> None:
        """Stop watching."""
        self._hook.remove()

"""The one store of proxies that all proxy losses use: how many there are, whose they are, and where they start."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from accord.checks import check_batch, check_classes, check_count, check_finite, check_range, describe
from accord.errors import BatchError, UnknownNameError, UsageError
from accord.geometry import full, normalise
from accord.losses._proxy_nearest import nearest_proxies
from accord.losses._relations import Supervision, check_relations
from accord.losses._shared import class_table
from accord.types import Embeddings, Labels, Pairs, Triplets

Assignment = Literal["static", "dynamic"]
Init = Literal["normal", "sphere"]


def check_assignment(who: str, assignment: str) -> None:
    """Refuse an assignment that is none."""
    if assignment not in get_args(Assignment):
        raise UnknownNameError(f"assignment of {who}", assignment, get_args(Assignment))


def need_labels(who: str, labels: Supervision) -> Labels:
    """Refuse pairs and triplets where a class must be known."""
    if isinstance(labels, Pairs | Triplets):
        raise UsageError(
            f"{who}: static assignment needs a class number for each item, not {type(labels).__name__}.\n"
            "Give assignment='dynamic', which takes pairs and triplets by row number."
        )
    return labels


def proxy_count(who: str, classes: int, proxies_per_class: int | float) -> int:
    """How many proxies there are: a ratio of at most 1 rounded, or a whole number of them for each class."""
    check_count(who, "classes", classes, low=2)
    check_range(who, "proxies_per_class", proxies_per_class, low=0, open_low=True)
    if proxies_per_class > 1 and proxies_per_class != int(proxies_per_class):
        raise UsageError(
            f"{who}: proxies_per_class must be at most 1 or a whole number, not {proxies_per_class!r}, "
            "so that no class has more proxies than another."
        )
    count = round(proxies_per_class * classes)
    if count < 2:
        raise UsageError(
            f"{who}: needs at least 2 proxies, but proxies_per_class={proxies_per_class!r} of {classes} classes makes "
            f"{count}. Raise it to {2 / classes:.3g}."
        )
    return count


def share_proxies(classes: int, proxies: int, *, generator: torch.Generator) -> Int[Tensor, " class"]:
    """The proxy of each class where there are fewer proxies than classes: labels are dealt to them at random.

    Every proxy is shared by ⌊classes / proxies⌋ or one more classes. With the numbers for labels, `shared[labels]`, any
    loss against learned classes makes do with fewer vectors; items of classes that share one are never told apart.

    Movshovitz-Attias et al., ICCV 2017, where labels are assigned to proxies at random, once; that the shares are as
    equal as can be is ours.

    >>> share_proxies(6, 2, generator=torch.Generator().manual_seed(0)).bincount().tolist()
    [3, 3]
    """
    check_count("share_proxies", "classes", classes, low=2)
    check_count("share_proxies", "proxies", proxies, low=2, high=classes)
    order = torch.randperm(classes, generator=generator, device=generator.device)
    shared = torch.empty_like(order)
    shared[order] = torch.arange(classes, device=order.device) % proxies
    return shared


class ProxyStore(nn.Module):
    """What all proxy losses have in common: the parameter `proxies`, (proxy, dim), and whose proxy is whose.

    - `proxies_per_class` 1: class c owns proxy c. A whole number k > 1: it owns the rows c · k … c · k + k - 1.
      Below 1: round(ratio · classes) proxies, at least 2, shared by the classes; see `share_proxies`. Which proxy
      a class has is then the buffer `shared`, (class,), drawn from `generator` and saved with the proxies.
    - `init` "normal": N(0, spread²) in each number. "sphere": uniform on the sphere of radius 1.
    - `assignment` "dynamic": no class owns a proxy; `proxies_per_class` only says how many there are.
    """

    proxies: nn.Parameter
    shared: Tensor | None

    def __init__(
        self,
        who: str,
        *,
        dim: int,
        classes: int,
        spread: float,
        proxies_per_class: int | float,
        assignment: Assignment = "static",
        init: Init = "normal",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_assignment(who, assignment)
        if init not in get_args(Init):
            raise UnknownNameError(f"init of {who}", init, get_args(Init))
        count = proxy_count(who, classes, proxies_per_class)
        source = generator or torch.Generator().manual_seed(0)
        self.who, self.classes, self.assignment = who, classes, assignment
        self.per_class = max(1, count // classes)
        self.proxies = class_table(who, dim=dim, classes=count, spread=spread, generator=source)
        if init == "sphere":
            with torch.no_grad():
                self.proxies.copy_(F.normalize(self.proxies, dim=1))
        shares = count < classes and assignment == "static"
        self.register_buffer("shared", share_proxies(classes, count, generator=source) if shares else None)

    def own_labels(self, embeddings: Embeddings, labels: Supervision) -> Labels:
        """What stands for the label of each item against the table: its class, or the proxy which that one shares."""
        labels = need_labels(self.who, labels)
        check_batch(self.who, embeddings, labels)
        check_classes(self.who, labels, self.classes)
        return labels if self.shared is None else self.shared[labels.to(torch.int64)]

    @torch.no_grad()
    def assigned(self, embeddings: Embeddings, labels: Supervision) -> Int[Tensor, " item"]:
        """The number of the proxy p(x) of each item: its class's (the nearest of them), or with dynamic the nearest."""
        if self.assignment == "dynamic":
            self.check_items(embeddings, labels)
            return nearest_proxies(embeddings, self.proxies)
        own = self.own_labels(embeddings, labels).to(torch.int64)
        if self.per_class == 1:
            return own
        table = normalise(full(self.proxies)).view(-1, self.per_class, self.proxies.shape[1])
        scores = torch.linalg.vecdot(table[own], full(embeddings).to(table.dtype)[:, None])
        nearest: Tensor = scores.argmax(dim=1)
        return own * self.per_class + nearest

    def check_items(self, embeddings: Embeddings, labels: Supervision) -> None:
        """Refuse what no dynamic assignment can use; labels beyond the classes it was made for are wrong here, too."""
        if isinstance(labels, Pairs | Triplets):
            check_relations(self.who, embeddings, labels)
            return
        check_batch(self.who, embeddings, labels)
        check_classes(self.who, labels, self.classes)

    @torch.no_grad()
    def reset_(self, centres: Float[Tensor, "proxy dim"]) -> None:
        """Turn every proxy towards its centre; lengths stay. A centre of zeros leaves its proxy where it is.

        For k-means: hand over the means of as many clusters as there are proxies.
        """
        if centres.shape != self.proxies.shape:
            raise BatchError(
                f"{self.who}: needs one centre per proxy.\n"
                f"  centres: {describe(centres)}\n  proxies: {describe(self.proxies)}"
            )
        check_finite(self.who, "centres", centres)
        turned = F.normalize(full(centres).to(self.proxies), dim=1)
        lengths = self.proxies.norm(dim=1, keepdim=True)
        self.proxies.copy_(torch.where(turned.any(dim=1, keepdim=True), turned * lengths, self.proxies))

    @torch.no_grad()
    def start_at_(self, embeddings: Embeddings, labels: Supervision, *, rounds: int = 1) -> None:
        """Turn every proxy towards the mean of the unit-length items that are assigned to it, `rounds` times.

        With one proxy per class these are class means, with shared ones means over several classes. With several per
        class, or dynamic assignment, it is spherical k-means from where the proxies are. One that has no item stays.
        """
        check_count(self.who, "rounds", rounds)
        unit = normalise(full(embeddings)).to(self.proxies)
        for _ in range(rounds):
            sums = torch.zeros_like(self.proxies)
            self.reset_(sums.index_add_(0, self.assigned(embeddings, labels), unit))

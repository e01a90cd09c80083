"""A proxy loss by either assignment: the doorway of the functions, and the module they share."""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_count
from accord.errors import UsageError
from accord.losses._centres import check_centres
from accord.losses._proxy_each import EachRule
from accord.losses._proxy_nearest import sweep_nearest
from accord.losses._proxy_store import Assignment, Init, ProxyStore, check_assignment, need_labels
from accord.losses._relations import Supervision
from accord.losses._rule import Rule
from accord.losses._tables import sweep_table
from accord.types import Embeddings, Scalar


class ProxyRule(Rule, Protocol):
    """A rule whose row is told from the proxies of a table, and which knows its form for each positive by itself."""

    @property
    def each(self) -> EachRule: ...


def sweep_proxies(
    rule: ProxyRule,
    embeddings: Embeddings,
    labels: Supervision,
    proxies: Float[Tensor, "proxy dim"],
    assignment: Assignment,
    per_class: int,
) -> Scalar:
    """The loss by static or dynamic assignment, everything checked."""
    check_assignment(rule.name, assignment)
    check_count(rule.name, "per_class", per_class)
    if assignment == "dynamic":
        if per_class != 1:
            raise UsageError(
                f"{rule.name}: per_class is of no use with assignment='dynamic', where no class owns a proxy."
            )
        return sweep_nearest(rule.each, embeddings, labels, proxies)
    if per_class > 1:
        check_centres(rule.name, proxies, per_class)
    return sweep_table(rule, embeddings, need_labels(rule.name, labels), proxies, per_class=per_class)


class ProxyLoss(ProxyStore):
    """A store of proxies with the rule by which items are held against them."""

    def __init__(
        self,
        rule: ProxyRule,
        *,
        dim: int,
        classes: int,
        spread: float,
        proxies_per_class: int | float,
        assignment: Assignment,
        init: Init,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__(
            rule.name,
            dim=dim,
            classes=classes,
            spread=spread,
            proxies_per_class=proxies_per_class,
            assignment=assignment,
            init=init,
            generator=generator,
        )
        self.rule = rule

    def forward(self, embeddings: Embeddings, labels: Supervision) -> Scalar:
        """The loss of one batch; with dynamic assignment `labels` may be `Pairs` or `Triplets` by row number."""
        if self.assignment == "dynamic":
            self.check_items(embeddings, labels)
            return sweep_nearest(self.rule.each, embeddings, labels, self.proxies)
        return sweep_table(
            self.rule, embeddings, self.own_labels(embeddings, labels), self.proxies, per_class=self.per_class
        )

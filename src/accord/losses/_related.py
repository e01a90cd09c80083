"""A loss that learns from pairs or triplets by row number, where there are no classes."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from accord.errors import UsageError
from accord.losses._cross_batch_memory import CrossBatchMemory
from accord.losses._embedding_norm import EmbeddingNorm
from accord.losses._koleo import Koleo
from accord.losses._proxy_loss import ProxyLoss
from accord.losses._relations import Supervision, check_relations, linked_labels
from accord.losses._variance_covariance import VarianceCovariance
from accord.losses._wrapping import AroundRule, call_with, foreign_inside, why_not_wrapped
from accord.mining import NamedGroups
from accord.types import Embeddings, Pairs, Scalar, Triplets

Kind = Literal["pairs", "triplets"]
LABELS_DO_NOT_MATTER = (EmbeddingNorm, Koleo, VarianceCovariance)


class Related(nn.Module):
    """Let a loss learn from `Pairs` or `Triplets`: rows of a batch that belong together, and for triplets, that do not.

    *Pairs*: rows that are linked, directly or by way of others, are one class of the batch, see `linked_labels`; all
    other rows are told from them. This takes every loss but those that learn something for each class.

    *Triplets*: each anchor's row has the positives and the negatives that triplets name for it, and no others; rows
    that are no anchor cost nothing. Where an anchor is in several triplets, each of its positives meets each of its
    negatives, as who belongs with a positive does not belong with the anchor's negatives. This takes every loss that
    compares each row with its pairs one by one, also inside `Mined`. A `mining` chooses among the negatives named.

    Proxies of dynamic assignment, which know pairs and triplets themselves, get them as they are; labels are handed on,
    too. Raises UsageError for a loss that learns for each class or remembers earlier batches, whose rows are in no
    relation to this one's; `check_related` says so beforehand. Looks at the numbers, so on an accelerator it waits.

    >>> import torch
    >>> from accord.losses import Contrastive
    >>> loss = Related(Contrastive())(torch.eye(4), Triplets(*torch.tensor([[0, 1], [2, 3], [1, 2]])))
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        check_related(loss, "pairs")
        self.loss = loss

    def forward(self, embeddings: Embeddings, labels: Supervision) -> Scalar:
        """The loss of one batch."""
        loss, name = self.loss, f"Related({type(self.loss).__name__})"
        if not isinstance(labels, Pairs | Triplets) or _knows_relations(loss):
            return self._by_labels(embeddings, labels)
        check_relations(name, embeddings, labels)
        links = labels if isinstance(labels, Pairs) else Pairs(labels.anchors, labels.positives)
        linked = linked_labels(links, len(embeddings))
        if isinstance(labels, Pairs) or isinstance(loss, LABELS_DO_NOT_MATTER):
            return self._by_labels(embeddings, linked)
        check_related(loss, "triplets")
        named = NamedGroups(labels, len(embeddings))
        value = call_with(lambda rule: _NamedRule(rule, named), loss, embeddings, linked)
        if len(embeddings) and not named.taken:
            raise UsageError(f"{name}: this loss does not ask the row engine who belongs with whom.")
        return value

    def _by_labels(self, embeddings: Embeddings, labels: Supervision) -> Scalar:
        value: Scalar = self.loss(embeddings, labels)
        return value


def check_related(loss: nn.Module, kind: Kind) -> None:
    """Refuse a loss that can't learn from pairs, or from triplets, without classes: UsageError that says why."""
    reason = _why_not(loss, kind)
    if reason is not None:
        raise UsageError(f"{_name(loss)} can't learn from {kind} without classes, for {reason}.")


def _why_not(loss: nn.Module, kind: Kind) -> str | None:
    if _knows_relations(loss):
        return None
    if isinstance(loss, ProxyLoss):
        return "its proxies belong to classes (assignment='dynamic' frees them)"
    if any(parameter.ndim for parameter in loss.parameters()):
        return "it learns something for each class"
    if any(isinstance(part, CrossBatchMemory) for part in loss.modules()):
        return "nobody says how rows of earlier batches are related to this one (leave the memory out)"
    if kind == "pairs" or isinstance(loss, LABELS_DO_NOT_MATTER):
        return None
    if foreign_inside(loss):
        return "it is foreign, and knows only labels"
    return why_not_wrapped(loss)


def _knows_relations(loss: nn.Module) -> bool:
    return isinstance(loss, ProxyLoss) and loss.assignment == "dynamic"


def _name(loss: nn.Module) -> str:
    inner = getattr(loss, "loss", None)
    return f"{type(loss).__name__}({_name(inner)})" if isinstance(inner, nn.Module) else type(loss).__name__


@dataclass(frozen=True)
class _NamedRule(AroundRule):
    """A rule whose sweep is told who belongs with whom."""

    named: NamedGroups

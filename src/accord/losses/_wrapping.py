"""What wrappers of losses share: a loss called with another rule in the place of its own, and which losses allow it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from accord.errors import UsageError
from accord.losses._rule import HandRule, Pull, Rule, SurveyRule, Tally
from accord.losses._work import autograd_pull
from accord.mining import Block, Measure, Miner
from accord.types import Embeddings, Labels, Scalar

Change = Callable[[Rule], Rule]


@runtime_checkable
class Wrapper(Protocol):
    """A loss around a loss, which can be called with a change of rule that lies outside its own."""

    def called_with(self, change: Change, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch with the changed rule."""
        ...


@dataclass(frozen=True)
class AroundRule:
    """A rule around a rule, which changes nothing. It never says `mutual`: what it is for looks at whole rows."""

    rule: Rule
    swept: list[bool] = field(default_factory=list, kw_only=True, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Who complains."""
        return self.rule.name

    @property
    def measure(self) -> Measure:
        """What a block's values are."""
        return self.rule.measure

    @property
    def unit(self) -> bool:
        """Whether vectors are normalised first."""
        return self.rule.unit

    @property
    def tables(self) -> int:
        """How many row × slot × column tables the rule makes."""
        return getattr(self.rule, "tables", 0)

    @property
    def slotted(self) -> bool:
        """Whether the rule's cost grows with the slots."""
        return bool(getattr(self.rule, "slotted", False))

    @property
    def beside(self) -> Any:
        """What a memory below adds."""
        return getattr(self.rule, "beside", None)

    def __getattr__(self, name: str) -> Any:
        # some losses look up an option of their rule, which may lie under several that stand around it
        if name.startswith("_") or name == "rule":
            raise AttributeError(name)
        own: Any = self.rule
        while isinstance(own, AroundRule):
            own = own.rule
        if any(option.name == name for option in fields(own)):
            return getattr(own, name)
        raise AttributeError(name)

    def costs(self, block: Block, *learned: Tensor) -> Tally:
        """What the rule says."""
        self.swept[:] = [True]
        return self.rule.costs(block, *learned)

    def pull(self, block: Block, *learned: Tensor) -> Pull:
        """By hand where the rule can, else by autograd."""
        self.swept[:] = [True]
        rule = self.rule
        return rule.pull(block, *learned) if isinstance(rule, HandRule) else autograd_pull(rule, block, learned)


@dataclass(frozen=True)
class MinedRule(AroundRule):
    """A rule that sees what a miner leaves of each block."""

    miner: Miner

    def costs(self, block: Block, *learned: Tensor) -> Tally:
        """What the rule says of the pairs that are left."""
        return super().costs(self.miner(block), *learned)

    def pull(self, block: Block, *learned: Tensor) -> Pull:
        """The derivatives; pairs that are left out pull nothing."""
        mined = self.miner(block)
        found = super().pull(mined, *learned)
        positives = found.positives.masked_fill(~mined.kept, 0)
        return found._replace(
            positives=positives, negatives=found.negatives.masked_fill(mined.negatives == mined.far, 0)
        )


def call_with(change: Change, loss: Any, embeddings: Embeddings, labels: Labels) -> Scalar:
    """The loss of one batch with its rule changed for this call alone: other threads may call the same loss."""
    if isinstance(loss, Wrapper):
        return loss.called_with(change, embeddings, labels)
    rule = change(loss.rule)
    call = _exchanged if torch.compiler.is_dynamo_compiling() else _beside
    value = call(loss, rule, embeddings, labels)
    if len(embeddings) and not getattr(rule, "swept", True):
        raise UsageError(f"{type(loss).__name__} can't be wrapped, for it does not hand its `rule` to the row engine.")
    return value


def _beside(loss: Any, rule: Rule, embeddings: Embeddings, labels: Labels) -> Scalar:
    """The loss with another rule, by a second module that shares tensors and parts with it."""
    loss = getattr(loss, "_orig_mod", loss)  # a compiled one would go on with the rule it was compiled with
    twin = object.__new__(type(loss))
    before = {**loss.__dict__, "rule": rule, "_compiled_call_impl": None}
    twin.__dict__.update(before)
    try:
        value: Scalar = twin(embeddings, labels)
    finally:
        # buffers are shared; what the loss has noted beside them is handed back
        news = {name: note for name, note in twin.__dict__.items() if note is not before.get(name, _NONE)}
        news.pop("rule", None)
        loss.__dict__.update(news)
    return value


_NONE = object()


def _exchanged(loss: Any, rule: Rule, embeddings: Embeddings, labels: Labels) -> Scalar:
    """The same in a graph, which can't hold a second module; while it is traced the loss itself stays as it is."""
    own = loss.rule
    loss.rule = rule
    try:
        value: Scalar = loss(embeddings, labels)
    finally:
        loss.rule = own
    return value


def is_ours(loss: object) -> bool:
    """Whether a loss is one of accord's: it has a rule, or is built like those that have."""
    return isinstance(loss, nn.Module) and (hasattr(loss, "rule") or type(loss).__module__.startswith("accord."))


def check_wrappable(who: str, loss: nn.Module) -> None:
    """Refuse those of our losses that do not compare each row of a batch with its pairs, one by one."""
    reason = why_not_wrapped(loss)
    if reason is not None:
        raise UsageError(
            f"{who}: {type(loss).__name__} can't be wrapped, for {reason}.\n"
            "Wrap a loss of pairs, such as Contrastive or MultiSimilarity, and join the two in an Ensemble."
        )


def why_not_wrapped(loss: nn.Module) -> str | None:
    """Why a loss of ours does not compare each row of a batch with its pairs, one by one; None if it does."""
    if isinstance(loss, Wrapper):
        return None
    rule = getattr(loss, "rule", None)
    if any(tensor.ndim > 1 for tensor in (*loss.parameters(), *loss.buffers())):
        return "it compares items with learned vectors of classes, not with each other"
    if isinstance(rule, SurveyRule):
        return "it weighs the pairs of all rows against each other and needs them all"
    if getattr(rule, "calibration", 0):
        return "with `calibration` it is a sum of several losses (leave that out)"
    if not isinstance(rule, Rule) or not getattr(rule, "minable", True) or rule.name.startswith("n_pair"):
        return "it chooses its pairs itself"
    return None


def foreign_inside(loss: object) -> bool:
    """Whether a loss, or the one it is wrapped around, is foreign: it has no rule that could be changed."""
    return hasattr(loss, "against") if not isinstance(loss, Wrapper) else foreign_inside(getattr(loss, "loss", None))

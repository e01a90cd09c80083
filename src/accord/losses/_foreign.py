"""Losses and miners of other libraries, and plain functions, as losses of ours."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from accord.checks import check_batch, describe
from accord.errors import AccordError, BatchError, UsageError
from accord.geometry import full
from accord.losses._plan import no_autocast
from accord.mining import mined_pairs
from accord.types import Embeddings, Labels, Scalar

Numbers = tuple[Tensor, ...]  # (anchors, positives, anchors, negatives) or (anchors, positives, negatives)


class Foreign(nn.Module):
    """Train against a loss of another library, or any callable `(embeddings, labels)` that gives a scalar.

    `loss` is a module, a bound method of one, a partial or a function. Parameters of modules found that way are
    registered, so optimisers and checkpoints see them; what a function keeps elsewhere must be given as `parameters`.

    `miner` is one of ours, which is shown cosines, or a foreign one, called `(embeddings, labels)` for a tuple of row
    numbers; a random one of ours wants `Mined` around the loss instead, which counts its draws. The loss gets the tuple
    as third argument, as the losses of pytorch-metric-learning take it. Computation is in float32 at least, whatever
    autocast says, and labels are int64. Foreign code may wait for the device.

    What it raises is told as ours, with the name of the foreign part; a loss that is not a scalar, or that nothing can
    learn from, is refused. A plain 0 (nothing to learn from this batch) becomes a zero that carries a gradient.

    >>> import torch
    >>> def spread(embeddings, labels):
    ...     return -torch.cdist(embeddings, embeddings).mean()
    >>> loss = Foreign(spread)(torch.eye(3, requires_grad=True), torch.arange(3))
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        miner: Callable[..., Any] | None = None,
        *,
        parameters: Iterable[nn.Parameter] = (),
    ) -> None:
        super().__init__()
        if not callable(loss):
            raise UsageError(f"Foreign: a loss must be callable, and {type(loss).__name__} is not.")
        if miner is not None and not callable(miner):
            raise UsageError(f"Foreign: a miner must be callable, and {type(miner).__name__} is not.")
        self.loss, self.miner = loss, miner
        self.name, self.miner_name = _name(loss), "" if miner is None else _name(miner)
        self.owners = nn.ModuleList(_owners(loss) + _owners(miner))
        self.given = nn.ParameterList(parameters)
        self.mines_blocks = miner is not None and not accepts(miner, 2)
        if miner is not None and not accepts(loss, 3):
            raise UsageError(
                f"Foreign: {self.name} takes no third argument, so the row numbers of {self.miner_name} have no use.\n"
                "Leave the miner out, or choose a loss that takes row numbers."
            )

    def forward(self, embeddings: Embeddings, labels: Labels, *, draw: int | Tensor = 0) -> Scalar:
        """The loss of one batch; `draw` numbers it for miners that draw."""
        check_batch(self.name, embeddings, labels)
        labels = labels.to(torch.int64)  # some take short ones for masks, or can't compare them
        with no_autocast(embeddings.device.type):
            x = full(embeddings)
            if self.miner is None:
                return self._scalar(self._call(self.name, self.loss, x, labels), embeddings)
            numbers = self._numbers(x, labels, draw)
            return self._scalar(self._call(self.name, self.loss, x, labels, numbers), embeddings)

    def against(
        self, embeddings: Embeddings, labels: Labels, keys: Tensor, key_labels: Tensor, *, draw: int | Tensor = 0
    ) -> Scalar:
        """The loss of a batch against `keys`, the first of which are the batch itself.

        A loss with the keyword `ref_emb` gets them there, with the numbers of all pairs but those of a row with itself.
        Any other is handed all keys as if they were the batch, so that old ones are compared with each other, too.
        """
        check_batch(self.name, embeddings, labels)
        if not _takes(self.loss, "ref_emb"):
            value: Scalar = self(keys, key_labels, draw=draw)
            return value
        labels, key_labels = labels.to(torch.int64), key_labels.to(torch.int64)
        with no_autocast(embeddings.device.type):
            x, others = full(embeddings), {"ref_emb": keys, "ref_labels": key_labels}
            numbers = self._numbers(x, labels, draw, **others)
            return self._scalar(self._call(self.name, self.loss, x, labels, numbers, **others), embeddings)

    def _numbers(self, x: Tensor, labels: Tensor, draw: int | Tensor, **others: Tensor) -> Numbers:
        if self.miner is None or self.mines_blocks:
            keys, key_labels = others.get("ref_emb"), others.get("ref_labels")
            miner = self.miner or _everything
            return tuple(mined_pairs(x, labels, miner, keys=keys, key_labels=key_labels, draw=draw))
        found = self._call(self.miner_name, self.miner, x.detach(), labels, **others)
        if not isinstance(found, tuple) or not all(isinstance(part, Tensor) for part in found):
            raise UsageError(f"Foreign: {self.miner_name} must give a tuple of row numbers, not {describe(found)}.")
        return _without_itself(found) if others else found

    def _call(self, name: str, part: Callable[..., Any], x: Tensor, labels: Tensor, *more: Any, **others: Any) -> Any:
        try:
            return part(x, labels, *more, **others)
        except (AccordError, torch.OutOfMemoryError):
            raise
        except TypeError as error:
            raise UsageError(f"{name} (foreign) can't be called like a loss or miner: {error}") from error
        except Exception as error:
            if others and "ref_emb" in str(error):
                raise UsageError(
                    f"{name} (foreign) can't compare a batch with a memory: {error}.\n"
                    "Put CrossBatchMemory around a loss or miner of pairs, and join the two in an Ensemble."
                ) from error
            raise BatchError(
                f"{name} (foreign) failed: {type(error).__name__}: {error}\n"
                f"  embeddings: {describe(x)}\n  labels:     {describe(labels)}"
            ) from error

    def _scalar(self, value: Any, embeddings: Tensor) -> Scalar:
        if isinstance(value, int | float) and value == 0:
            value = full(embeddings).sum() * 0
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
            raise UsageError(
                f"{self.name} (foreign) must return one floating-point number as a tensor, not {describe(value)}.\n"
                "Let it return the mean over its rows."
            )
        scalar: Scalar = full(value).reshape(())
        if scalar.requires_grad or not (torch.is_grad_enabled() and embeddings.requires_grad):
            return scalar
        if bool(scalar != 0):
            raise UsageError(f"{self.name} (foreign) gives a loss without a gradient: nothing can learn from it.")
        return scalar + full(embeddings).sum() * 0

    def extra_repr(self) -> str:
        """Whose loss this is."""
        return self.name + (f", miner={self.miner_name}" if self.miner_name else "")


def _everything(block: Any) -> Any:
    return block


def _name(part: Any) -> str:
    part = part.func if isinstance(part, partial) else part
    return str(getattr(part, "__qualname__", type(part).__name__))


def _owners(part: Any) -> list[nn.Module]:
    """Modules whose parameters a callable uses, other than a module itself, which is registered by its attribute."""
    if isinstance(part, partial):
        inside = [part.func, *part.args, *part.keywords.values()]
        return [module for each in inside for module in ([each] if isinstance(each, nn.Module) else _owners(each))]
    owner = getattr(part, "__self__", None)
    return [owner] if isinstance(owner, nn.Module) else []


def accepts(part: Any, count: int) -> bool:
    """Whether a callable takes that many positional arguments; what tells nothing about itself is believed to."""
    try:
        inspect.signature(part.forward if isinstance(part, nn.Module) else part).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _takes(part: Any, name: str) -> bool:
    try:
        return name in inspect.signature(part.forward if isinstance(part, nn.Module) else part).parameters
    except (TypeError, ValueError):
        return False


def _without_itself(numbers: Numbers) -> Numbers:
    """Pairs or triplets of a batch against keys that begin with it, less those of a row with itself."""
    other = numbers[0] != numbers[1]
    if len(numbers) == 3:
        return tuple(part[other] for part in numbers)
    return (numbers[0][other], numbers[1][other], *numbers[2:])

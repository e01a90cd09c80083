"""Cross-batch memory: a loss that compares a batch with the embeddings of earlier batches, too."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord.checks import check_batch, check_count, describe
from accord.errors import BatchError, UsageError
from accord.geometry import full
from accord.losses._foreign import Foreign
from accord.losses._wrapping import AroundRule, Change, call_with, check_wrappable, foreign_inside, is_ours
from accord.mining import NOBODY
from accord.types import Embeddings, Labels, Scalar


class CrossBatchMemory(nn.Module):
    """Compare each item of a batch with the batch *and* with the `size` items before it, whose embeddings are kept.

    Embeddings drift slowly once training has settled, so yesterday's are good negatives, and far more than a batch
    holds. An item is never its own positive. Kept embeddings carry no gradient; the batch itself does on both sides, so
    with an empty memory this is the loss itself. Places not filled yet are neither positives nor negatives.

    `loss` is one of ours that compares the pairs of a batch, also inside `Mined`, or a foreign one: with the keyword
    `ref_emb` it gets batch and memory there, otherwise all together as one batch (old items then are compared with each
    other, too, and foreign code waits for the device). `dim` is the width of the embeddings; `start` says how many
    calls pass before the memory begins to fill, for early embeddings drift fast. Memory is written in training mode
    only. Everything that decides the next call is in `state_dict`; with several processes each remembers its own items.

    Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020, algorithm 1; size 8192. There the loss of the
    batch and that of the memory are two terms of one sum; here one mean is over both. Costs O(batch · size) time; kept
    embeddings take size × dim numbers.
    """

    memory: Tensor
    memory_labels: Tensor
    pointer: Tensor
    count: Tensor
    calls: Tensor

    def __init__(self, loss: nn.Module | Callable[..., Tensor], *, size: int = 8192, dim: int, start: int = 0) -> None:
        super().__init__()
        check_count("CrossBatchMemory", "size", size)
        check_count("CrossBatchMemory", "dim", dim)
        check_count("CrossBatchMemory", "start", start, low=0)
        if isinstance(loss, CrossBatchMemory) or isinstance(getattr(loss, "loss", None), CrossBatchMemory):
            raise UsageError("CrossBatchMemory: the loss has a memory already; give that one a larger size.")
        if isinstance(loss, nn.Module) and is_ours(loss):
            if not isinstance(loss, Foreign):
                check_wrappable("CrossBatchMemory", loss)
            self.loss = loss
        else:
            self.loss = Foreign(loss)
        self.size, self.start = size, start
        self.register_buffer("memory", torch.zeros(size, dim))
        self.register_buffer("memory_labels", torch.full((size,), NOBODY))
        for name in ("pointer", "count", "calls"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch, which is remembered afterwards."""
        return self.called_with(lambda rule: rule, embeddings, labels)

    def called_with(self, change: Change, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch with a change of rule, which sees the memory as well."""
        self._check(embeddings, labels)
        kept = self._kept(embeddings)
        batch = full(embeddings)
        keys = torch.cat([batch, self.memory[:kept].to(batch.dtype)])
        key_labels = torch.cat([labels.to(torch.int64), self.memory_labels[:kept]])
        if foreign_inside(self.loss):
            value: Scalar = self.loss.against(embeddings, labels, keys, key_labels)  # type: ignore[operator]
        else:
            memory = _Memory(embeddings, labels, keys, key_labels)
            value = call_with(lambda rule: _RememberingRule(change(rule), memory), self.loss, embeddings, labels)
            if not memory.taken:
                raise UsageError(f"CrossBatchMemory: {type(self.loss).__name__} does not compare the items of a batch.")
        if self.training:
            self._remember(batch.detach(), labels)
        return value

    @torch.no_grad()
    def clear(self) -> None:
        """Forget everything, also that calls have passed; for when the model has changed at a stroke."""
        self.memory.zero_()
        self.memory_labels.fill_(NOBODY)
        for number in (self.pointer, self.count, self.calls):
            number.zero_()

    def _kept(self, embeddings: Tensor) -> int:
        """How many places to hand over: the filled ones here; elsewhere all, as asking would wait."""
        here = embeddings.device.type == "cpu" and not torch.compiler.is_compiling()
        if here or foreign_inside(self.loss):
            counts: list[int] = self.count.reshape(1).tolist()
            return counts[0]
        return self.size

    @torch.no_grad()
    def _remember(self, batch: Tensor, labels: Tensor) -> None:
        places = (self.pointer + torch.arange(len(batch), device=batch.device)) % self.size
        # before the start nothing counts as written: the next batch comes to the same places
        begun = self.calls >= self.start
        self.memory.index_copy_(0, places, batch.to(self.memory.dtype))
        self.memory_labels.index_copy_(0, places, torch.where(begun, labels.to(torch.int64), NOBODY))
        written = len(batch) * begun
        self.pointer.add_(written).remainder_(self.size)
        self.count.add_(written).clamp_max_(self.size)
        self.calls.add_(1)

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        check_batch("CrossBatchMemory", embeddings, labels)
        if len(embeddings) > self.size:
            raise UsageError(
                f"CrossBatchMemory: a batch of {len(embeddings)} does not fit into a memory of {self.size}; "
                "raise `size` to several batches."
            )
        if embeddings.shape[1] != self.memory.shape[1] or embeddings.device != self.memory.device:
            raise BatchError(
                "CrossBatchMemory: embeddings must have the memory's width and be on its device.\n"
                f"  embeddings: {describe(embeddings)}\n  memory:     {describe(self.memory)}"
            )
        if labels.device.type == "cpu" and not torch.compiler.is_compiling() and len(labels):
            lowest: list[int] = labels.to(torch.int64).aminmax().min.reshape(1).tolist()
            if lowest[0] == NOBODY:
                raise BatchError(
                    f"CrossBatchMemory: the label {NOBODY} marks places that are empty; give that class another number."
                )


class _Memory:
    """Batch and kept embeddings, on their way to a sweep."""

    def __init__(self, embeddings: Tensor, labels: Tensor, keys: Tensor, key_labels: Tensor) -> None:
        self.batch, self.found, self.taken = (embeddings, labels), (keys, key_labels), False

    def __call__(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if embeddings is not self.batch[0] or labels is not self.batch[1]:
            raise UsageError("CrossBatchMemory: this loss changes embeddings or labels before it compares them.")
        self.taken = True
        return self.found


@dataclass(frozen=True)
class _RememberingRule(AroundRule):
    """A rule whose sweep is told of a memory."""

    memory: _Memory

    @property
    def beside(self) -> _Memory:
        """The columns it brings."""
        return self.memory

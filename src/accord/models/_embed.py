"""Embedding whole data sets, and keeping batch norm frozen while the rest is trained."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from accord.errors import DataError
from accord.models._embedder import Embedder
from accord.types import Batch, Labelled


def embed(
    embedder: Embedder,
    batches: Iterable[Batch],
    *,
    device: torch.device | str,
    progress: Callable[[int], None] | None = None,
) -> Labelled:
    """Embed every batch, in evaluation mode, without gradients or autocast; the result lies in main memory.

    The embedder must be on `device`; the batches are moved there. Its modes are put back afterwards, module by module.
    `progress` is told how many items are done. No batches at all raise DataError.
    """
    device, done = torch.device(device), 0
    rows: list[Labelled] = []
    with evaluating(embedder), torch.no_grad(), torch.autocast(device.type, enabled=False):
        for batch in batches:
            embeddings = embedder(batch.inputs.to(device))
            rows.append(Labelled(embeddings.cpu(), batch.labels.cpu(), batch.ids.cpu()))
            done += len(batch.ids)
            if progress is not None:
                progress(done)
    if not rows:
        raise DataError("embed: there are no batches to embed; is the data set, or this split of it, empty?")
    return Labelled(*(torch.cat(column) for column in zip(*rows, strict=True)))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module is as it was, frozen ones included."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def freeze_batch_norm(module: nn.Module) -> int:
    """Keep every batch norm inside in evaluation mode from now on, also after `.train()`; gives how many there are.

    Their running statistics no longer move; gamma and beta still learn.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.eval()
        norm.train = partial(_stay, norm)  # type: ignore[method-assign, assignment]
    return len(norms)


def _stay(norm: nn.Module, mode: bool = True) -> nn.Module:
    del mode
    norm.training = False
    return norm

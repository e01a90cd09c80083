"""A whole batch as one block, and its pairs as row numbers, for miners used by themselves and for foreign losses."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import check_batch
from accord.geometry import cosine
from accord.mining._block import Block
from accord.mining._miner import Miner, bound
from accord.types import Embeddings, Labels


class PairNumbers(NamedTuple):
    """Rows of a batch (or of what it is compared with), pair by pair, in the order foreign losses want them in."""

    anchors: Int[Tensor, " positive"]
    positives: Int[Tensor, " positive"]
    rivals: Int[Tensor, " negative"]
    negatives: Int[Tensor, " negative"]


def batch_block(
    embeddings: Embeddings, labels: Labels, keys: Tensor | None = None, key_labels: Tensor | None = None
) -> Block:
    """All rows of a batch against all of it by cosine, as one block with a slot per column; detached.

    With `keys`, all rows against those, of which the first are the batch itself. Batch × keys memory.
    """
    check_batch("batch_block", embeddings, labels)
    scores = cosine(embeddings.detach(), embeddings.detach() if keys is None else keys.detach())
    labels, others = labels.to(torch.int64), labels if key_labels is None else key_labels
    same = labels[:, None] == others
    places = torch.arange(len(others), device=labels.device)
    itself = places[: len(labels), None] == places
    return Block(
        measure="score",
        unit=True,
        rows=slice(None),
        positives=scores,
        kept=same & ~itself,
        negatives=scores.masked_fill(same, -torch.inf),
        negative_count=(~same).sum(dim=1).to(scores.dtype),
    )


def mined_pairs(
    embeddings: Embeddings,
    labels: Labels,
    miner: Miner,
    *,
    keys: Tensor | None = None,
    key_labels: Tensor | None = None,
    draw: int | Tensor = 0,
) -> PairNumbers:
    """The pairs a miner keeps, as row numbers: (anchors, positives, anchors again, negatives).

    Values are cosines. Waits for the device, as the number of pairs must be known. Batch × batch memory.

    >>> import torch
    >>> from accord.mining import HardPairs
    >>> [part.tolist() for part in mined_pairs(torch.eye(4)[:3], torch.tensor([0, 0, 1]), HardPairs())]
    [[0, 1], [1, 0], [0, 1], [2, 2]]
    """
    block = batch_block(embeddings, labels, keys, key_labels)
    if block.positives.numel():
        block = bound(miner, draw, embeddings.shape[1])(block)
    anchors, positives = block.kept.nonzero(as_tuple=True)
    rivals, negatives = block.negatives.isfinite().nonzero(as_tuple=True)
    return PairNumbers(anchors, positives, rivals, negatives)

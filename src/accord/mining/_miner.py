"""What a miner is: a predicate on blocks; several in a row, and the ones that need to know the batch."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from accord.errors import UsageError
from accord.mining._block import Block


@runtime_checkable
class Miner(Protocol):
    """Chooses which of a block's pairs a loss learns from: takes a block, gives the block with some pairs left out.

    It looks at values, never changes them, never waits for the device, and no gradient passes through its choice. One
    that draws at random or needs the embeddings' width has `bound(draw, dim)`, which gives the miner of one batch.
    """

    def __call__(self, block: Block) -> Block:
        """The block with only what is worth learning from, by `block.only`."""
        ...


def bound(miner: Miner, draw: int | Tensor, dim: int) -> Miner:
    """The miner as it is for one batch: `draw` numbers the batch, `dim` is the width of its embeddings."""
    bind = getattr(miner, "bound", None)
    found: Any = miner if bind is None else bind(draw, dim)
    return found  # type: ignore[no-any-return]


class Chain:
    """Several miners, one after another: each sees only what those before it have left.

    >>> from accord.mining import AllPairs, MultiSimilarityPairs
    >>> Chain(AllPairs(), MultiSimilarityPairs(epsilon=0.2))
    Chain(AllPairs(), MultiSimilarityPairs(epsilon=0.2))
    """

    def __init__(self, *miners: Miner) -> None:
        wrong = [type(miner).__name__ for miner in miners if not callable(miner)]
        if not miners or wrong:
            raise UsageError(f"Chain: takes one miner or more, not {', '.join(wrong) or 'none'}.")
        self.miners = miners

    def __call__(self, block: Block) -> Block:
        """What all of them leave."""
        for miner in self.miners:
            block = miner(block)
        return block

    def bound(self, draw: int | Tensor, dim: int) -> "Chain":
        """For one batch; no two of them share their random numbers."""
        return Chain(*(bound(miner, draw + (place << 32), dim) for place, miner in enumerate(self.miners)))

    def __repr__(self) -> str:
        return f"Chain({', '.join(map(repr, self.miners))})"


def squares(block: Block) -> tuple[Float[Tensor, "row slot"], Float[Tensor, "row column"]]:
    """Positives and negatives as squared Euclidean distances, whatever the rule measures; scores need unit vectors."""
    if block.measure == "squared":
        return block.positives, block.negatives
    if block.measure == "euclidean":
        return block.positives.square(), block.negatives.square()
    positives, negatives = block.cosines()
    return 2 - 2 * positives, 2 - 2 * negatives


def first_largest(x: Float[Tensor, "row place"]) -> Tensor:
    """A mask of each row's largest number, the first among equals."""
    places = torch.arange(x.shape[1], device=x.device)
    return places == x.argmax(dim=1, keepdim=True)

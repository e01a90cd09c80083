"""A loss that learns from what a miner leaves."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from accord.errors import UsageError
from accord.losses._foreign import Foreign, accepts
from accord.losses._wrapping import Change, MinedRule, call_with, check_wrappable, foreign_inside, is_ours
from accord.mining import Miner, bound
from accord.types import Embeddings, Labels, Scalar


class Mined(nn.Module):
    """Let a loss learn only from the pairs that a miner keeps.

    `loss` is one of ours that compares the pairs of a batch: its rule then sees mined blocks, and nothing of size
    batch × batch is kept. Or it is a foreign loss that takes row numbers `(anchors, positives, anchors, negatives)` as
    third argument; then pairs are mined by cosine in one block and the device is waited for. Losses against learned
    classes, of all rows together, or with pairs of their own choice are refused.

    Means are over what is left: a pair that was mined away is as good as absent. A batch of which nothing is left costs
    zero. The miner sees what the loss measures: cosines, distances, or inner products if the loss does not normalise.

    Random miners draw anew in every call in training mode. The number of the next draw is the buffer `draw`, so a run
    goes on bit-equal; it begins at a number taken from `generator` (a fresh one with seed 0 if None).

    >>> import torch
    >>> from accord.losses import Contrastive
    >>> from accord.mining import HardPairs
    >>> loss = Mined(Contrastive(), HardPairs())(torch.eye(6), torch.arange(6) // 2)
    """

    draw: Tensor

    def __init__(
        self,
        loss: nn.Module | Callable[..., Tensor],
        miner: Miner | Callable[..., Any],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_miner(miner)
        if isinstance(loss, nn.Module) and is_ours(loss) and not isinstance(loss, Foreign):
            check_wrappable("Mined", loss)
            if foreign_inside(loss):
                raise UsageError(
                    "Mined: a foreign loss must be mined before it is wrapped; put Mined inside, or a Chain."
                )
            if not accepts(miner, 1):
                raise UsageError(
                    f"Mined: {type(miner).__name__} does not take a block, as miners of {type(loss).__name__} must.\n"
                    "Take one of accord.mining; miners of other libraries go with foreign losses."
                )
            self.loss: nn.Module = loss
        else:
            self.loss = Foreign(loss.loss if isinstance(loss, Foreign) else loss, miner)
        self.miner = miner
        self.register_buffer("draw", first_draw(generator))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return self.called_with(lambda rule: rule, embeddings, labels)

    def called_with(self, change: Change, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch with a change of the mined rule."""
        draw = self._next_draw()
        if isinstance(self.loss, Foreign):
            value: Scalar = self.loss(embeddings, labels, draw=draw)
            return value
        miner = bound(self.miner, draw, embeddings.shape[1])
        return call_with(lambda rule: change(MinedRule(rule, miner)), self.loss, embeddings, labels)

    def against(self, embeddings: Embeddings, labels: Labels, keys: Tensor, key_labels: Tensor) -> Scalar:
        """A foreign loss of a batch against keys that begin with it; see `Foreign.against`."""
        assert isinstance(self.loss, Foreign)
        return self.loss.against(embeddings, labels, keys, key_labels, draw=self._next_draw())

    def _next_draw(self) -> Tensor:
        draw = self.draw.clone()
        if self.training:
            self.draw += 1
        return draw


def _check_miner(miner: object) -> None:
    """Refuse what is no miner, and say how to come by one."""
    if isinstance(miner, str):
        raise UsageError(
            f"Mined: a miner must be callable, and {miner!r} is a name.\n"
            f"Build it first, with accord.recipes.catalog.miners.build_miner({miner!r})."
        )
    if isinstance(miner, type):
        raise UsageError(f"Mined: {miner.__name__} is a class; give a miner of that kind, such as {miner.__name__}().")
    if not callable(miner):
        raise UsageError(
            f"Mined: a miner must be callable, and {miner!r} is not; give one such as HardPairs(), "
            "or the loss alone if nothing is to be mined."
        )


def first_draw(generator: torch.Generator | None) -> Tensor:
    """Where the numbers of a random miner begin."""
    source = generator or torch.Generator().manual_seed(0)
    return torch.randint(2**31, (), generator=source, device=source.device)

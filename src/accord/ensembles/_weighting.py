"""What a rule for weighting an ensemble's losses must offer."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from accord.types import Scalar

Members = Float[Tensor, " member"]


@runtime_checkable
class Weighting(Protocol):
    """Turns the losses of an ensemble's members into one scalar. A rule with learned or running state is a Module."""

    def bind(self, names: Sequence[str]) -> None:
        """Learn the members' names, in their order, once; refuse options that do not fit them."""
        ...

    def __call__(self, losses: Members) -> Scalar:
        """The scalar to minimise. Running state may move, but only in training mode."""
        ...

    def multipliers(self) -> Members:
        """What each raw loss was last multiplied by; detached."""
        ...

    def shares(self) -> Members:
        """The members' importance, ≥ 0 with sum 1: their weights in the embedding at test time; detached."""
        ...


@runtime_checkable
class Foresight(Weighting, Protocol):
    """A rule that may know its multipliers before the losses; then members of one embedding need a single sweep."""

    def ahead(self) -> Members | None:
        """What the coming losses will be multiplied by, if that is known before they are; detached, for this call."""
        ...

    def observe(self, losses: Members) -> None:
        """Take note of losses that were multiplied by what `ahead` said. Running state moves, in training mode only."""
        ...

"""What a rule for weighting an ensemble's losses must offer."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

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


@runtime_checkable
class Scaled(Weighting, Protocol):
    """A rule that brings the losses to a common scale first."""

    def scales(self) -> Members:
        """The running size of each raw loss, which it is divided by; 0 for one that has not been met; detached."""
        ...


@runtime_checkable
class Guided(Weighting, Protocol):
    """A rule whose weights learn from how long each member's gradient is at the feature that all heads share."""

    loss_weights: nn.Parameter

    def pull(self, norms: Members) -> Members:
        """The gradient for `loss_weights`, from the length of each member's weighted gradient in this step."""
        ...


@runtime_checkable
class LeavesOut(Protocol):
    """A part of an ensemble that must know which members are left out. Most need not: to them such a loss is 0."""

    def leave_out(self, names: Sequence[str]) -> None:
        """Who is left out from now on, all of them; called again when that changes."""
        ...

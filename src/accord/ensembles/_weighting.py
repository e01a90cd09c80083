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

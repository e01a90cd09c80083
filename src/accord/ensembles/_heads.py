"""What terms between heads share: the check of the heads, and what they are compared by."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_finite, describe
from accord.errors import BatchError
from accord.geometry import normalise
from accord.types import Scalar

Rows = Float[Tensor, "item _"]


@runtime_checkable
class Diversity(Protocol):
    """A term that compares the heads of an ensemble; minimised beside its members' losses."""

    def __call__(self, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        """What is added to the total of one batch: (item, dim) of each head by name, and the items' labels."""
        ...


def checked(who: str, heads: Mapping[str, Tensor], *, alike: bool = False, normalised: bool = True) -> list[Rows]:
    """The heads in their order and in at least single precision, of unit length if `normalised`.

    Raises BatchError for fewer than two heads, heads of different items and, where they must be `alike`, of different
    widths; NumericError for what is not finite.
    """
    if len(heads) < 2:
        raise BatchError(f"{who}: needs at least 2 heads to compare, not {len(heads)}.")
    if any(head.ndim != 2 or not head.is_floating_point() or not head.shape[1] for head in heads.values()):
        raise BatchError(_unfit(who, "heads must be floating-point (item, dim) tensors.", heads))
    if len({(len(head), head.device) for head in heads.values()}) > 1:
        raise BatchError(_unfit(who, "heads must be of the same items, on one device.", heads))
    if alike and len({head.shape[1] for head in heads.values()}) > 1:
        wish = "heads must be equally wide, for their vectors are subtracted; take cka or distance_decorrelation."
        raise BatchError(_unfit(who, wish, heads))
    first = next(iter(heads.values()))
    if any(head is first for head in list(heads.values())[1:]):
        wish = "there must be a head of its own for each member; one embedding for all has nothing to compare."
        raise BatchError(_unfit(who, wish, heads))
    for name, head in heads.items():
        check_finite(who, f"head '{name}'", head)
    widest = torch.float64 if any(head.dtype == torch.float64 for head in heads.values()) else torch.float32
    # from the heads as they came: what counts as zero, and so the largest gradient, goes by their own dtype
    return [normalise(head, dtype=widest) if normalised else head.to(widest) for head in heads.values()]


def _unfit(who: str, wish: str, heads: Mapping[str, Tensor]) -> str:
    lines = "\n".join(f"  {name}: {describe(head)}" for name, head in heads.items())
    return f"{who}: {wish}\n{lines}"

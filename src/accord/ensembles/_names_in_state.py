"""The members' names in an ensemble's state, as a tensor, so that whatever keeps tensors keeps them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def as_state(names: Sequence[str]) -> Tensor:
    """Names as the bytes of their lines in UTF-8."""
    return torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)


def differ(state: Tensor | None, names: Sequence[str]) -> str:
    """What to say if the names in a state are not these, in this order; nothing if they are, or it holds none."""
    theirs = list(names) if state is None else bytes(state.tolist()).decode().split("\n")
    if theirs == list(names):
        return ""
    return (
        f"the state is of an ensemble of {', '.join(theirs)}; this one's members are {', '.join(names)}. "
        "Make it with the same, in order."
    )

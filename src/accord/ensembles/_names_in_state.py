"""The members' names in an ensemble's state, as a tensor, so that whatever keeps tensors keeps them."""

from collections.abc import Iterable

import torch
from torch import Tensor


def as_state(names: Iterable[str]) -> Tensor:
    """Names as the bytes of their lines in UTF-8."""
    return torch.tensor(list("\n".join(names).encode()), dtype=torch.uint8)


def differ(state: Tensor, names: Iterable[str]) -> str:
    """What to say if the names in a state are not these, in this order; nothing if they are."""
    theirs, ours = bytes(state.tolist()).decode().replace("\n", ", "), ", ".join(names)
    if theirs == ours:
        return ""
    return f"the state is of an ensemble of {theirs}; this one's members are {ours}. Make it with the same, in order."

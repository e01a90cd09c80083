"""What a sweep does not change from block to block: its rules, who belongs with whom, and how large blocks are."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from accord.geometry import full, row_blocks
from accord.losses._rule import Rule
from accord.losses._settings import settings
from accord.mining import Groups, Measure, NamedGroups, TableGroups
from accord.types import Scalar

FEW_ROWS = 64  # a block has at least so many rows …
FEW_ITEMS = 128  # … against a table, whose gradient is read and written once a block …
MOST_BLOCKS = 32  # … unless that makes it so many times larger than it should be


class Member(NamedTuple):
    """A rule with the tensors it learns: `learned` are handed over whole, of `per_row` the rows of the block."""

    rule: Rule
    learned: tuple[Tensor, ...] = ()
    per_row: tuple[Tensor, ...] = ()


class Plan:
    """What does not change from block to block."""

    def __init__(
        self,
        members: tuple[Member, ...],
        groups: Groups | TableGroups | NamedGroups,
        row_tiny: float,
        key_tiny: float,
        live: int | None = None,
    ) -> None:
        self.members, self.groups, self.live = members, groups, live
        self.row_tiny, self.key_tiny = row_tiny, key_tiny
        self.unit = members[0].rule.unit
        self.measures: tuple[Measure, ...] = tuple(dict.fromkeys(member.rule.measure for member in members))
        self.far_apart = any(measure != "score" for measure in self.measures)
        self.block_bytes = settings().block_bytes

    @property
    def tensors(self) -> list[Tensor]:
        """All learned tensors, in the members' order."""
        return [tensor for member in self.members for tensor in (*member.learned, *member.per_row)]

    def centred(self, rows: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both sides moved by the columns' mean, which changes no distance but keeps digits."""
        if self.unit or not self.far_apart:
            return rows, keys
        centre = (rows if keys is None else keys).detach().mean(dim=0)
        return rows - centre, None if keys is None else keys - centre

    def blocks(self, itemsize: int) -> list[slice]:
        """The blocks of rows."""
        tables = max(getattr(member.rule, "tables", 0) for member in self.members)
        columns = self.groups.columns * max(1, tables * self.groups.slots)
        # products of very few rows are slow, so long rows get a larger block, within reason
        few = FEW_ITEMS if isinstance(self.groups, TableGroups) else FEW_ROWS
        fair = min(few * columns * itemsize, MOST_BLOCKS * self.block_bytes)
        budget = max(self.block_bytes, fair)
        return list(row_blocks(self.groups.rows, columns, budget_bytes=budget, itemsize=itemsize))

    def share(self, tensors: Sequence[Tensor], place: int, rows: slice) -> tuple[int, tuple[Tensor, ...]]:
        """The learned tensors of a member for some rows, and where the next member's begin."""
        member = self.members[place]
        first = sum(len(other.learned) + len(other.per_row) for other in self.members[:place])
        middle = first + len(member.learned)
        last = middle + len(member.per_row)
        return first, (*tensors[first:middle], *(tensor[rows] for tensor in tensors[middle:last]))


def nothing_from(tensors: Sequence[Tensor]) -> Scalar:
    """A zero that carries a (zero) gradient to each of these."""
    return torch.stack([0 * full(tensor).sum() for tensor in tensors]).sum()


def no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Inside, products keep their precision."""
    known = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    return torch.autocast(device_type, enabled=False) if known else nullcontext()

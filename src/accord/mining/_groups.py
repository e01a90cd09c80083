"""Who belongs with whom: for any block of rows, which columns are of the row's own class."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from accord.types import Labels

DENSE_SHARE = 8  # own-class columns are listed by number while the largest class fills less than 1/8 of a row
DENSE_UP_TO = 128 * 128  # so few pairs are compared at once
WORTH_A_TRIANGLE = 4  # times as many pairs are needed before meeting each once saves anything
NOBODY = torch.iinfo(torch.int64).min  # the label of a memory's empty place


class Own(NamedTuple):
    """The own-class columns of a block of rows.

    Listed by number: `columns[r]` are all of them (a class smaller than others repeats one), `chosen[r]` those that are
    positives where `kept[r]`. Or, where `columns` is None, as masks over all columns: `kept`, and `same` for those that
    are no negatives. `lone` marks rows that have no own column at all, whose listed ones are others'. `earlier` marks
    columns to be left out in the square that starts a triangle.
    """

    columns: Int[Tensor, "row member"] | None
    chosen: Int[Tensor, "row slot"] | None
    same: Bool[Tensor, "row column"] | None
    kept: Bool[Tensor, "row slot"]
    negative_count: Int[Tensor, " row"]
    lone: Bool[Tensor, "row one"] | None = None
    earlier: Bool[Tensor, "row row"] | None = None


class Groups:
    """Rows and columns that share a label. Without `key_labels` columns are the rows: an item is no positive of itself.

    With them, `itself=True` says that row i is also column i (a batch against itself and a memory), and no positive of
    itself either; where masks are compared, columns labelled `NOBODY` then are no negatives. `triangle=True` pairs a
    row with later columns only, so that each pair is met once; columns of a block then start at its first row. Labels
    in main memory are sorted once and own columns listed by number. Up to `dense_up_to` pairs, while a graph is
    compiled, and on other devices, where asking for the largest class would wait, masks are compared block by block.
    """

    def __init__(
        self,
        labels: Labels,
        key_labels: Int[Tensor, " key"] | None = None,
        *,
        itself: bool | None = None,
        triangle: bool = False,
        dense_up_to: int = DENSE_UP_TO,
    ) -> None:
        labels = labels.to(torch.int64).contiguous()
        keys = labels if key_labels is None else key_labels.to(torch.int64).contiguous()
        self.labels, self.key_labels = labels, keys
        self.itself = key_labels is None if itself is None else itself
        self.triangle = triangle and self.itself and key_labels is None
        self.rows, self.columns = len(labels), len(keys)
        self.triangle = self.triangle and self.rows * self.columns > WORTH_A_TRIANGLE * dense_up_to
        self.absent = (keys == NOBODY) if self.itself and key_labels is not None else None
        self._start: Tensor | None = None
        self._totals: tuple[Tensor, Tensor] | None = None
        here = labels.device.type == "cpu" and not torch.compiler.is_compiling()
        if here and self.rows * self.columns > dense_up_to:
            self._list(labels, keys)

    def _list(self, labels: Tensor, keys: Tensor) -> None:
        ascending, order = keys.sort(stable=True)
        start = torch.searchsorted(ascending, labels)
        size = torch.searchsorted(ascending, labels, right=True) - start
        # tolist, and not item: these numbers are in main memory, and nothing waits
        widest, narrowest = torch.stack([size.max(), size.min()]).tolist()
        self.size = size
        if widest * DENSE_SHARE > self.columns and widest > DENSE_SHARE:
            return
        self._start, self._order, self._widest, self._some_lone = start, order, max(1, widest), narrowest == 0
        if self.itself:
            place = torch.empty_like(order)
            place[order] = torch.arange(self.columns)
            self._place = place[: self.rows] - start

    @property
    def listed(self) -> bool:
        """Whether own columns are listed by number."""
        return self._start is not None

    @property
    def slots(self) -> int:
        """How wide `kept` is; at least one, so that every reduction over it is defined."""
        return max(1, self._widest - self.itself) if self.listed else self.columns

    @property
    def totals(self) -> tuple[Tensor, Tensor]:
        """How many positive and how many negative pairs there are over all rows; both need no value."""
        if self._totals is None:
            same = self.size.sum() if self.listed else (self.labels[:, None] == self.key_labels).sum()
            columns = self.columns if self.absent is None else self.columns - self.absent.sum()
            both = same - self.rows * self.itself, self.rows * columns - same
            self._totals = (both[0] // 2, both[1] // 2) if self.triangle else both
        return self._totals

    def span(self, rows: slice) -> slice:
        """Which columns a block of rows is held against."""
        return slice(rows.start or 0, None) if self.triangle else slice(None)

    def own(self, rows: slice) -> Own:
        """The own-class columns of these rows."""
        own = self._masks(rows) if self._start is None else self._listed(rows)
        return self._later(own, rows) if self.triangle else own

    def _listed(self, rows: slice) -> Own:
        assert self._start is not None
        start, size = self._start[rows, None], self.size[rows, None]
        member = torch.arange(self._widest)
        last = (size - 1).clamp_min_(0)
        # a class without columns has none to start from: some column stands in, and `lone` says so
        columns = self._order[torch.minimum(member, last).add_(start).clamp_max_(self.columns - 1)]
        lone = (size == 0) if self._some_lone else None
        count = self.columns - size[:, 0]
        if not self.itself:
            return Own(columns, columns, None, member < size, count, lone)
        slot = member[: self.slots]
        place = slot + (slot >= self._place[rows, None])
        chosen = columns.gather(1, place.clamp_max_(self._widest - 1))
        return Own(columns, chosen, None, slot < size - 1, count, lone)

    def _masks(self, rows: slice) -> Own:
        same = self.labels[rows, None] == self.key_labels
        kept = same
        if self.itself:
            places = torch.arange(self.columns, device=self.labels.device)
            kept = same & (places[: self.rows][rows, None] != places)
        if self.absent is not None:
            same = same | self.absent
        return Own(None, None, same, kept, self.columns - same.sum(dim=1))

    def _later(self, own: Own, rows: slice) -> Own:
        """Only what lies behind a row; columns counted from the block's first row."""
        first = rows.start or 0
        places = torch.arange(self.rows, device=self.labels.device)
        row, square = places[rows, None], places[rows]
        earlier = square < row
        later = self.rows - 1 - row[:, 0]
        if own.columns is None or own.chosen is None:
            assert own.same is not None
            kept = own.kept[:, first:] & (places[first:] > row)
            own = own._replace(same=own.same[:, first:], kept=kept)
        else:
            kept = own.kept & (own.chosen > row)
            columns, chosen = (torch.where(part < first, row, part) - first for part in (own.columns, own.chosen))
            own = own._replace(columns=columns, chosen=chosen, kept=kept)
        count = later - kept.sum(dim=1)
        return own._replace(negative_count=count, earlier=earlier)


class TableGroups:
    """Items as rows against a table of classes: class c owns the columns c · per_class … (c + 1) · per_class - 1.

    Nothing is sorted or compared: own columns follow from labels alone, on every device.
    """

    triangle = False

    def __init__(self, labels: Labels, classes: int, *, per_class: int = 1) -> None:
        self.labels, self.per_class = labels.to(torch.int64).contiguous(), per_class
        self.rows, self.columns, self.slots = len(labels), classes * per_class, per_class

    @property
    def totals(self) -> tuple[Tensor, Tensor]:
        """How many positive and how many negative pairs there are over all rows."""
        own = torch.full((), self.rows * self.per_class, device=self.labels.device)
        return own, self.rows * self.columns - own

    def span(self, rows: slice) -> slice:
        """Which columns a block of rows is held against: all."""
        return slice(None)

    def own(self, rows: slice) -> Own:
        """The own-class columns of these rows."""
        columns = self.labels[rows, None]
        if self.per_class > 1:
            columns = columns * self.per_class + torch.arange(self.per_class, device=columns.device)
        kept = torch.ones_like(columns, dtype=torch.bool)
        count = torch.full_like(columns[:, 0], self.columns - self.per_class)
        return Own(columns, columns, None, kept, count)

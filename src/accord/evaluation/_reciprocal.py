"""k-reciprocal re-ranking: who is near to me that I am near to, and shares my neighbours.

Everything is kept as short lists per item. Only the distances of a block of queries are ever a full row.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.checks import check_count, check_range
from accord.errors import UsageError
from accord.evaluation._directions import directions_by_id, nearest
from accord.evaluation._rerank import BUDGET_BYTES, check_sides
from accord.geometry import inner, places, row_blocks
from accord.types import Labelled, Neighbours


class Lists(NamedTuple):
    """A sparse matrix by rows: entries `starts[i]` to `starts[i + 1]` are those of row i, in ascending columns."""

    starts: Int[Tensor, " bound"]
    columns: Int[Tensor, " entry"]
    values: Float[Tensor, " entry"]


def k_reciprocal(
    queries: Labelled,
    gallery: Labelled,
    depth: int,
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    budget_bytes: int = BUDGET_BYTES,
) -> Neighbours:
    """The `depth` nearest gallery items of each query by k-reciprocal distance; a score is the negated distance.

    Zhong et al., CVPR 2017. R(p, k1) holds p and those of its k1 nearest that have p among theirs (eq. 3); R* adds the
    R(q, k1 / 2) of each member q of which two thirds lie in R(p, k1) (eq. 4). An item becomes the row V of e^−d over
    its R* (eq. 7), averaged over itself and its k2 − 1 nearest (eq. 11). The final distance (eq. 12) is
    (1 − λ) (1 − Σ min / Σ max of the two rows, eq. 10) + λ d with λ = `weight` and d = 2 − 2 cos, the squared
    Euclidean distance of unit rows, not scaled any further. Neighbours are looked for among gallery and queries
    together. A query never finds the item with its own id. Labels are not looked at.

    Figures of re-ranked lists are not comparable with those of plain ones: a query has seen all others. Cost: one sweep
    over all pairs, then per query the lists that share an item with its own; memory within `budget_bytes` beside lists
    of k1 numbers and rows V of some hundred per item. Raises BatchError where there are too few items for k1 or
    `depth`, UsageError for k2 above k1, NumericError for rows that are zero or not finite.

        lists = k_reciprocal(gallery, gallery, 100)
        evaluate_lists(lists, gallery, gallery).metrics["recall@1"]
    """
    for name, count in (("depth", depth), ("k1", k1), ("k2", k2)):
        check_count("k_reciprocal", name, count)
    check_range("k_reciprocal", "weight", weight, low=0, high=1)
    check_count("k_reciprocal", "budget_bytes", budget_bytes, high=2**63)
    if k2 > k1:
        raise UsageError(f"k_reciprocal: k2 must be at most k1, but they are {k2} and {k1}.")
    unit, asking = _everyone(queries, gallery, max(k1, depth))
    everyone = torch.arange(len(unit), device=unit.device)
    near = nearest(unit, unit, everyone, k1, budget_bytes=budget_bytes).ids
    rows = _averaged(_encoded(unit, near, budget_bytes), near[:, : k2 - 1], budget_bytes)
    return _ranked(unit, rows, asking, gallery, depth, weight, budget_bytes)


def _everyone(
    queries: Labelled, gallery: Labelled, most: int
) -> tuple[Float[Tensor, "item dim"], Int[Tensor, " query"]]:
    """Unit rows of the gallery, then of the queries that are not in it; and where each query is."""
    keys = directions_by_id("k_reciprocal", gallery)
    rows = keys if queries is gallery else directions_by_id("k_reciprocal", queries)
    check_sides("k_reciprocal", queries, gallery, most)
    place = places(queries.ids, gallery.ids)
    new = place < 0
    place[new] = len(keys) + torch.arange(int(new.sum()), device=place.device)
    return torch.cat([keys, rows[new].to(keys.dtype)]), place


def _reciprocal(near: Tensor, budget_bytes: int) -> Bool[Tensor, "item k"]:
    """Whether an item is among the neighbours of each of its neighbours."""
    found = torch.empty_like(near, dtype=torch.bool)
    everyone = torch.arange(len(near), device=near.device)
    for block in row_blocks(len(near), 2 * near.shape[1] ** 2, budget_bytes=budget_bytes, itemsize=8):
        found[block] = (near[near[block]] == everyone[block, None, None]).any(dim=2)
    return found


def _encoded(unit: Tensor, near: Tensor, budget_bytes: int) -> Lists:
    """V: e^−d to the members of R*, by rows."""
    k1, half = near.shape[1], max(1, round(near.shape[1] / 2))
    everyone = torch.arange(len(near), device=near.device)[:, None]
    # an item belongs to its own set; -1 stands for nobody
    core = torch.cat([everyone, torch.where(_reciprocal(near, budget_bytes), near, -1)], dim=1)
    small = torch.cat([everyone, torch.where(_reciprocal(near[:, :half], budget_bytes), near[:, :half], -1)], dim=1)
    parts = []
    for block in row_blocks(len(near), 2 * k1 * (half + 1) * (k1 + 1), budget_bytes=budget_bytes, itemsize=1):
        members = core[block]
        theirs = torch.where(members[:, 1:, None] >= 0, small[members[:, 1:]], -1)
        shared = (theirs[..., None] == members[:, None, None, :]).any(dim=3) & (theirs >= 0)
        enough = 3 * shared.sum(dim=2) >= 2 * (theirs >= 0).sum(dim=2)
        added = torch.where(enough[..., None], theirs, -1).flatten(1)
        row, column = _pairs_of(torch.cat([members, added], dim=1))
        distance = 2 - 2 * _products(unit, row + block.start, column, budget_bytes)
        parts.append((row + block.start, column, (-distance.clamp_min(0)).exp()))
    return _lists(len(near), *(torch.cat(column) for column in zip(*parts, strict=True)))


def _pairs_of(sets: Int[Tensor, "row member"]) -> tuple[Int[Tensor, " entry"], Int[Tensor, " entry"]]:
    """Row and member of each entry, every one once, without -1."""
    ordered = sets.sort(dim=1).values
    fresh = ordered >= 0
    fresh[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    row, place = fresh.nonzero(as_tuple=True)
    return row, ordered[row, place]


def _products(unit: Tensor, row: Tensor, column: Tensor, budget_bytes: int) -> Float[Tensor, " entry"]:
    found = unit.new_empty(len(row))
    for block in row_blocks(len(row), 3 * unit.shape[1], budget_bytes=budget_bytes, itemsize=unit.element_size()):
        found[block] = (unit[row[block]] * unit[column[block]]).sum(dim=1)
    return found


def _lists(rows: int, row: Tensor, column: Tensor, value: Tensor) -> Lists:
    """Entries that stand in order of their rows, as lists."""
    counts = torch.bincount(row, minlength=rows)
    return Lists(torch.cat([counts.new_zeros(1), counts.cumsum(dim=0)]), column, value)


def _entries(lists: Lists, rows: Int[Tensor, " row"]) -> tuple[Int[Tensor, " entry"], Int[Tensor, " entry"]]:
    """Places of all entries of these rows, one row after the other, and for each the position of its row in `rows`."""
    sizes = lists.starts[rows + 1] - lists.starts[rows]
    owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), sizes)
    first = sizes.cumsum(dim=0) - sizes
    return torch.arange(len(owner), device=rows.device) - first[owner] + lists.starts[rows][owner], owner


def _averaged(lists: Lists, near: Int[Tensor, "item some"], budget_bytes: int) -> Lists:
    """The mean of each row and those of its neighbours."""
    items = len(near)
    members = torch.cat([torch.arange(items, device=near.device)[:, None], near], dim=1)
    longest = int((lists.starts[1:] - lists.starts[:-1]).max())
    parts = []
    for block in row_blocks(items, 8 * members.shape[1] * longest, budget_bytes=budget_bytes, itemsize=8):
        place, owner = _entries(lists, members[block].flatten())
        row = owner // members.shape[1]
        cell, entry = torch.unique(row * items + lists.columns[place], return_inverse=True)
        value = lists.values.new_zeros(len(cell)).index_add_(0, entry, lists.values[place])
        parts.append((cell // items + block.start, cell % items, value / members.shape[1]))
    return _lists(items, *(torch.cat(column) for column in zip(*parts, strict=True)))


def _ranked(
    unit: Tensor, rows: Lists, asking: Tensor, gallery: Labelled, depth: int, weight: float, budget_bytes: int
) -> Neighbours:
    """The nearest of the gallery by the final distance, block by block of queries."""
    items, size = len(unit), len(gallery.ids)
    row = torch.repeat_interleave(torch.arange(items, device=unit.device), rows.starts.diff())
    by_column = rows.columns.argsort(stable=True)
    holders = _lists(items, rows.columns[by_column], row[by_column], rows.values[by_column])
    mass = rows.values.new_zeros(items).index_add_(0, row, rows.values)
    found = []
    for block in row_blocks(len(asking), 6 * items, budget_bytes=budget_bytes, itemsize=unit.element_size()):
        asked = asking[block]
        overlap = _overlaps(rows, holders, asked, items, budget_bytes)[:, :size]
        jaccard = 1 - overlap / (mass[asked, None] + mass[:size] - overlap)
        plain = (2 - 2 * inner(unit[asked], unit[:size])).clamp_min(0)
        distance = (1 - weight) * jaccard + weight * plain
        inside = (asked < size).nonzero()[:, 0]
        distance[inside, asked[inside]] = torch.inf
        found.append(distance.topk(depth, largest=False))
    values, columns = (torch.cat(column) for column in zip(*found, strict=True))
    return Neighbours(-values, gallery.ids[columns])


def _overlaps(rows: Lists, holders: Lists, asked: Tensor, items: int, budget_bytes: int) -> Float[Tensor, "query item"]:
    """Σ min(V_p, V_g) over columns, for each asked p and every g: only lists that hold a column of p are read."""
    overlap = rows.values.new_zeros(len(asked), items)
    place, query = _entries(rows, asked)
    lengths = holders.starts.diff()[rows.columns[place]].cumsum(dim=0)
    # so many entries at a time that what is read fits the budget
    limit = max(1, budget_bytes // 64)
    cuts = torch.unique(lengths // limit, return_counts=True)[1].tolist() if len(lengths) else []
    for part in torch.split(torch.arange(len(place), device=place.device), cuts):
        other, owner = _entries(holders, rows.columns[place[part]])
        least = torch.minimum(rows.values[place[part]][owner], holders.values[other])
        overlap.view(-1).index_add_(0, query[part][owner] * items + holders.columns[other], least)
    return overlap

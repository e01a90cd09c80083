"""Which point is with which centre, kept current while centres are added, moved and exchanged."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.geometry import inner, row_blocks

# Fixed, not anyone's memory budget: the groups must not depend on it.
BLOCK_BYTES = 16 * 2**20


class Assignment(NamedTuple):
    """The group of each point, and how close it is to centres: x·c − ‖c‖²/2, which is largest for the closest.

    `own` is the value at the point's own centre; no other centre that stayed where it was has more than `rival`.
    All three are changed in place.
    """

    groups: Int[Tensor, " item"]
    own: Float[Tensor, " item"]
    rival: Float[Tensor, " item"]


def assigned_to_one(points: Float[Tensor, "item dim"], centre: Float[Tensor, "1 dim"]) -> Assignment:
    """All points in one group."""
    groups = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    own = inner(points, centre)[:, 0] - centre.square().sum() / 2
    return Assignment(groups, own, torch.full_like(own, -torch.inf))


def challenge(
    points: Float[Tensor, "item dim"],
    rows: Int[Tensor, " row"],
    centres: Float[Tensor, "centre dim"],
    numbers: Int[Tensor, " some"],
    assignment: Assignment,
) -> None:
    """Give the points of these rows to whichever of some centres, named by number, is closer than their own one.

    The work goes by blocks of points, so that a block of values stays in the cache.
    """
    some = centres[numbers]
    half = some.square().sum(dim=1) / 2
    place = torch.full((len(centres),), -1, device=points.device)
    place[numbers] = torch.arange(len(numbers), device=points.device)
    for block in row_blocks(len(rows), len(some), budget_bytes=BLOCK_BYTES, itemsize=points.element_size()):
        _challenge_block(points, rows[block], some, half, place, numbers, assignment)


def _challenge_block(
    points: Tensor, part: Tensor, some: Tensor, half: Tensor, place: Tensor, numbers: Tensor, assignment: Assignment
) -> None:
    values = inner(points[part], some).sub_(half)
    groups, own, rival = (column[part] for column in assignment)
    # its own centre is no rival of a point
    column = place[groups]
    there = (column >= 0).nonzero()[:, 0]
    values[there, column[there]] = -torch.inf
    # the largest value alone is several times faster than with its place, and few points need the place
    most = values.amax(dim=1)
    won = (most > own).nonzero()[:, 0]
    assignment.rival[part] = torch.maximum(rival, most)
    if not len(won):
        return
    rest = values[won]
    winner = rest.argmax(dim=1)
    rest[torch.arange(len(won)), winner] = -torch.inf
    assignment.groups[part[won]] = numbers[winner]
    assignment.own[part[won]] = most[won]
    assignment.rival[part[won]] = torch.maximum(torch.maximum(rival[won], own[won]), rest.amax(dim=1))


def own_values(
    points: Float[Tensor, "item dim"], rows: Int[Tensor, " row"], centres: Float[Tensor, "centre dim"], groups: Tensor
) -> Float[Tensor, " row"]:
    """x·c − ‖c‖²/2 of these points and the centres of their groups."""
    half = centres.square().sum(dim=1) / 2
    values = points.new_empty(len(rows))
    for block in row_blocks(len(rows), points.shape[1], budget_bytes=BLOCK_BYTES, itemsize=points.element_size()):
        numbers = groups[rows[block]]
        values[block] = (points[rows[block]] * centres[numbers]).sum(dim=1) - half[numbers]
    return values


def means(
    points: Float[Tensor, "item dim"], groups: Int[Tensor, " item"], clusters: int
) -> tuple[Float[Tensor, "cluster dim"], Float[Tensor, " cluster"]]:
    """The mean of each group, zero for one without points, and how many points it has."""
    counts = torch.bincount(groups, minlength=clusters).to(points.dtype)
    sums = points.new_zeros(clusters, points.shape[1]).index_add_(0, groups, points)
    return sums / counts.clamp_min(1)[:, None], counts

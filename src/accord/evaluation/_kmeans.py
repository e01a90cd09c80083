"""k-means: points into clusters, by our own Lloyd iterations that look again only where a centre has moved."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count
from accord.errors import BatchError
from accord.evaluation._assignment import Assignment, challenge, means, own_values
from accord.evaluation._exchange import exchange
from accord.evaluation._seeding import seed_centres
from accord.geometry import full


def kmeans(
    points: Float[Tensor, "item dim"],
    clusters: int,
    *,
    generator: torch.Generator,
    iterations: int = 100,
    exchanges: int = 10,
) -> Int[Tensor, " item"]:
    """Put each point into one of `clusters` groups around their means; return the number of its group.

    Starts from k-means++ and repeats Lloyd's step until no point changes its group, at most `iterations` times. Before
    each of the first `exchanges` steps, groups that cost little to join are joined and others split, which with many
    small clusters lowers the sum of squares by about a tenth; 0 leaves it out. A group that loses all its
    points keeps its centre. A step compares a point only with centres that moved, and with all where its own one went
    farther away than another may be: the result is that of comparing all.

    Draws come from `generator`, a CPU one, so that they are the same on every device. Two groups equally far from a
    point up to rounding may be told apart by another number of threads.
    """
    check_count("kmeans", "clusters", clusters)
    check_count("kmeans", "iterations", iterations)
    check_count("kmeans", "exchanges", exchanges, low=0)
    if clusters > len(points):
        raise BatchError(f"kmeans: {clusters} clusters need at least as many points, but there are {len(points)}.")
    points = full(points)
    seeds, assignment = seed_centres(points, clusters, generator=generator)
    centres = points[seeds]
    for step in range(iterations):
        if step < exchanges:
            exchange(points, assignment.groups, len(centres))
        average, counts = means(points, assignment.groups, len(centres))
        average = torch.where(counts[:, None] > 0, average, centres)
        moved, centres = (average != centres).any(dim=1), average
        if not bool(moved.any()):
            break
        _reassign(points, centres, moved, assignment)
    return assignment.groups


def _reassign(points: Tensor, centres: Tensor, moved: Tensor, assignment: Assignment) -> None:
    """Give every point to its closest centre after some centres have moved."""
    groups, own, rival = assignment
    drawn = moved[groups].nonzero()[:, 0]
    own[drawn] = own_values(points, drawn, centres, groups)
    # below this value a centre that stayed may be closer; above it only one that moved can
    lost = own < rival
    rival[lost] = -torch.inf
    everyone = torch.arange(len(centres), device=points.device)
    kept, gone = (~lost).nonzero()[:, 0], lost.nonzero()[:, 0]
    challenge(points, kept, centres, everyone[moved], assignment)
    challenge(points, gone, centres, everyone, assignment)

"""k-means: points into clusters, by our own Lloyd iterations that look again only where a centre has moved."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count
from accord.errors import BatchError
from accord.geometry import inner, row_blocks


def kmeans(
    points: Float[Tensor, "item dim"], clusters: int, *, generator: torch.Generator, iterations: int = 100
) -> Int[Tensor, " item"]:
    """Put each point into one of `clusters` groups around their means; return the number of its group.

    Starts from k-means++ (Arthur & Vassilvitskii, SODA 2007) and repeats Lloyd's step until no point changes its group,
    at most `iterations` times. A group that loses all its points keeps its centre. Draws come from `generator`, a CPU
    one, so that they are the same on every device.
    """
    check_count("kmeans", "clusters", clusters)
    check_count("kmeans", "iterations", iterations)
    if clusters > len(points):
        raise BatchError(f"kmeans: {clusters} clusters need at least as many points, but there are {len(points)}.")
    centres = points[_seeds(points, clusters, generator)]
    everyone = torch.arange(len(points), device=points.device)
    best, groups = _closest(points, everyone, centres)
    for _ in range(iterations):
        moved, centres = _means(points, groups, centres)
        shifted = moved.nonzero()[:, 0]
        if not len(shifted):
            break
        # a point whose own centre stayed can only be won by a centre that moved
        lost = moved[groups]
        kept, gone = everyone[~lost], everyone[lost]
        rival, winner = _closest(points, kept, centres[shifted])
        won = rival > best[kept]
        best[kept] = torch.where(won, rival, best[kept])
        groups[kept] = torch.where(won, shifted[winner], groups[kept])
        best[gone], groups[gone] = _closest(points, gone, centres)
    return groups


def _seeds(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """k-means++: the next seed is drawn in proportion to the squared distances from the nearest seed so far.

    Of a few draws the one that leaves the smallest sum of squared distances is taken (§7 of the paper).
    """
    squares = points.square().sum(dim=1)
    distances = torch.full_like(squares, torch.inf, dtype=torch.float64)
    trials = 2 + int(math.log(clusters))
    draws = torch.rand(clusters, trials, generator=generator, dtype=torch.float64).to(points.device)
    chosen = torch.empty(clusters, dtype=torch.int64, device=points.device)
    for seed in range(clusters):
        rows = _draw(distances, draws[seed])
        apart = squares[:, None] + squares[rows] - 2 * inner(points, points[rows])
        # rounding must not leave a seed, or its twin, at a distance from itself
        apart = torch.where(apart > 1e-6 * (squares[:, None] + squares[rows]), apart, 0)
        nearest = torch.minimum(distances[:, None], apart.double())
        winner = nearest.sum(dim=0).argmin()
        chosen[seed], distances = rows[winner], nearest[:, winner]
    return chosen


def _draw(weights: Tensor, draws: Tensor) -> Tensor:
    """Rows drawn in proportion to their weights; any row where there is no seed yet, or one on every point."""
    ladder = weights.cumsum(dim=0)
    if not bool(0 < ladder[-1] < torch.inf):
        ladder = torch.ones_like(weights).cumsum(dim=0)
    return torch.searchsorted(ladder, draws * ladder[-1], right=True).clamp_max(len(weights) - 1)


def _closest(points: Tensor, rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The closest centre of each of these points, and x·c − ‖c‖²/2, which is largest for it."""
    half = centres.square().sum(dim=1) / 2
    # blocks of a fixed size: the groups must not depend on anyone's memory budget
    found = [
        (inner(points[rows[part]], centres) - half).max(dim=1)
        for part in row_blocks(len(rows), len(centres), budget_bytes=8 * 2**20)
    ]
    if not found:
        return points.new_empty(0), rows
    return torch.cat([block.values for block in found]), torch.cat([block.indices for block in found])


def _means(points: Tensor, groups: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Which centres move, and all centres after the move."""
    counts = torch.bincount(groups, minlength=len(centres))
    sums = torch.zeros_like(centres).index_add_(0, groups, points)
    means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    return (means != centres).any(dim=1), means

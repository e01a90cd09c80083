"""k-means++ seeds for many clusters: the exact distribution, drawn in batches."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.evaluation._assignment import Assignment, assigned_to_one, challenge
from accord.geometry import inner

BATCH = 1024
# Squared distances below this share of the squared norms are rounding: a seed, or its twin, must not be drawn again.
SAME = 1e-6


def seed_centres(
    points: Float[Tensor, "item dim"], clusters: int, *, generator: torch.Generator
) -> tuple[Int[Tensor, " seed"], Assignment]:
    """Draw seeds by k-means++ (Arthur & Vassilvitskii, SODA 2007) and put every point with its nearest seed.

    A seed is drawn in proportion to D², the squared distance from the nearest seed so far. Proposals are drawn in
    batches from the D² before the batch, and one is accepted with probability D² now / D² before: what is accepted
    follows the distribution of drawing one by one, but the points are read once per batch. All seeds together
    cost as much as one assignment of every point. There are fewer seeds than `clusters` where there are fewer
    different points.
    """
    squares = points.square().sum(dim=1)
    everyone = torch.arange(len(points), device=points.device)
    seeds = torch.randint(len(points), (1,), generator=generator).to(points.device)
    assignment = assigned_to_one(points, points[seeds])
    while len(seeds) < clusters:
        weights = _distances(squares, assignment)
        if not bool(weights.sum() > 0):
            break
        # as many as there are: more would mostly fall where a proposal of the same batch already is
        accepted = _draw(points, squares, weights, min(len(seeds), BATCH, clusters - len(seeds)), generator)
        numbers = torch.arange(len(seeds), len(seeds) + len(accepted), device=points.device)
        seeds = torch.cat([seeds, accepted])
        challenge(points, everyone, points[seeds], numbers, assignment)
    return seeds, assignment


def _distances(squares: Tensor, assignment: Assignment) -> Tensor:
    """D² of every point: ‖x‖² − 2 (x·c − ‖c‖²/2)."""
    apart = squares - 2 * assignment.own
    return torch.where(apart > SAME * squares, apart, 0).double()


def _draw(points: Tensor, squares: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Accepted rows out of `count` proposals; the first is always accepted."""
    ladder = weights.cumsum(dim=0)
    draws = torch.rand(2, count, generator=generator, dtype=torch.float64).to(points.device)
    rows = torch.searchsorted(ladder, draws[0] * ladder[-1], right=True).clamp_max(len(weights) - 1)
    apart = squares[rows, None] + squares[rows] - 2 * inner(points[rows], points[rows])
    apart = torch.where(apart > SAME * squares[rows], apart, 0).double().cpu()
    now, thresholds = weights[rows].cpu(), (draws[1] * weights[rows]).cpu()
    accepted = []
    for proposal in range(count):
        if thresholds[proposal] < now[proposal]:
            accepted.append(proposal)
            now = torch.minimum(now, apart[proposal])
    return rows[accepted]

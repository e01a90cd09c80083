"""Better starts for k-means: two groups that cost little to join become one, and one that is worth it becomes two."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from accord.evaluation._assignment import BLOCK_BYTES, means
from accord.geometry import inner, row_blocks

SPLIT_STEPS = 2


def exchange(points: Float[Tensor, "item dim"], groups: Int[Tensor, " item"], clusters: int) -> int:
    """Join groups and split others, as often as that lowers the sum of squares; `groups` is changed in place.

    A join costs n m / (n + m) · ‖c − c'‖² (Ward, JASA 1963) with a group's cheapest mate; a split gains what 2-means
    inside a group saves. The cheapest joins are paired with the best splits, each group taking part at most once.
    Returns how many pairs there were.
    """
    centres, counts = means(points, groups, clusters)
    costs, mates = _joins(centres, counts)
    gains, aside = _splits(points, groups, centres, counts)
    pairs = _pairs(costs, mates, gains)
    if not pairs:
        return 0
    joined, mate, split = torch.tensor(pairs, device=points.device).T
    target = torch.arange(clusters, device=points.device)
    target[joined] = mate
    # the number of a joined group is free for half of a split one
    half = torch.full_like(target, -1)
    half[split] = joined
    moves = (half[groups] >= 0) & aside
    groups.copy_(torch.where(moves, half[groups], target[groups]))
    return len(pairs)


def _joins(centres: Tensor, counts: Tensor) -> tuple[Float[Tensor, " cluster"], Int[Tensor, " cluster"]]:
    """What joining each group with its cheapest mate costs, and that mate."""
    clusters = len(centres)
    squares = centres.square().sum(dim=1)
    costs, mates = torch.empty_like(squares), torch.empty_like(squares, dtype=torch.int64)
    for block in row_blocks(clusters, 2 * clusters, budget_bytes=BLOCK_BYTES, itemsize=centres.element_size()):
        cost = inner(centres[block], centres).mul_(-2).add_(squares).add_(squares[block, None]).clamp_min_(0)
        cost.mul_(counts).div_(counts + counts[block, None].clamp_min(1))
        cost[torch.arange(len(cost)), torch.arange(block.start, block.stop)] = torch.inf
        costs[block], mates[block] = cost.min(dim=1)
    return costs * counts, mates


def _splits(
    points: Tensor, groups: Tensor, centres: Tensor, counts: Tensor
) -> tuple[Float[Tensor, " cluster"], Bool[Tensor, " item"]]:
    """What splitting each group by 2-means saves, and which points are in the second half.

    Starts from the point that is farthest from the centre, and from the mean of the others.
    """
    from_centre = _squares(points, groups, centres)
    farthest = from_centre.new_zeros(len(centres)).scatter_reduce_(0, groups, from_centre, "amax")
    candidates = (from_centre == farthest[groups]).nonzero()[:, 0]
    first = torch.zeros_like(counts, dtype=torch.int64).scatter_reduce_(0, groups[candidates], candidates, "amax")
    one = points[first]
    two = (centres * counts[:, None] - one) / (counts - 1).clamp_min(1)[:, None]
    for _ in range(SPLIT_STEPS):
        aside = _squares(points, groups, one) > _squares(points, groups, two)
        halves, sizes = means(points, 2 * groups + aside, 2 * len(centres))
        one, two = halves[0::2], halves[1::2]
    weights = sizes[0::2] * sizes[1::2] / counts.clamp_min(1)
    return weights * (one - two).square().sum(dim=1), aside


def _squares(points: Tensor, groups: Tensor, centres: Tensor) -> Tensor:
    """The squared distance of each point to the centre of its group."""
    return torch.cat(
        [
            (points[block] - centres[groups[block]]).square().sum(dim=1)
            for block in row_blocks(*points.shape, budget_bytes=BLOCK_BYTES, itemsize=points.element_size())
        ]
    )


def _pairs(costs: Tensor, mates: Tensor, gains: Tensor) -> list[tuple[int, int, int]]:
    """(group to join, its mate, group to split), cheapest joins with best splits, no group twice."""
    cost, mate, gain = costs.tolist(), mates.tolist(), gains.tolist()
    splits = iter(gains.argsort(descending=True, stable=True).tolist())
    split = next(splits)
    used: set[int] = set()
    pairs = []
    for joined in costs.argsort(stable=True).tolist():
        if joined in used or mate[joined] in used:
            continue
        while split in used:
            split = next(splits)
        if gain[split] <= cost[joined]:
            break
        if split not in (joined, mate[joined]):
            pairs.append((joined, mate[joined], split))
            used.update(pairs[-1])
    return pairs

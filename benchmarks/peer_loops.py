"""Batches for peer_parity.py, and slow loops of what pytorch-metric-learning computes where accord does not agree."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

DIM, CLASSES = 8, 6
Loss = Callable[[Tensor, Tensor], Tensor]

# batches --------------------------------------------------------------------------------------------------------


def batch(seed: int, kind: str) -> tuple[Tensor, Tensor]:
    """Every fourth batch has no structure; the others have classes, more and more distinct."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "sorted":  # as many classes as items of each, one class after another
        labels = torch.arange(16) // 4
    else:
        sizes = (4,) * 6 if kind == "even" else (9, 5, 3, 2, 1, 1)
        labels = torch.arange(6).repeat_interleave(torch.tensor(sizes))
        labels = labels[torch.randperm(len(labels), generator=generator)]
    noise, centres = (torch.randn(n, DIM, generator=generator, dtype=torch.float64) for n in (len(labels), CLASSES))
    return noise + 0.6 * (seed % 4) * centres[labels], labels


def earlier() -> list[tuple[Tensor, Tensor]]:
    """What a memory is filled with."""
    return [batch(100, "even"), batch(101, "even")]


# what the peer computes where it does not agree, as slow loops ------------------------------------------------------


def split(row: int, y: Tensor) -> tuple[Tensor, Tensor]:
    """The positives and negatives of an item."""
    positives = y == y[row]
    negatives = ~positives
    positives[row] = False
    return positives, negatives


def far(x: Tensor, others: Tensor) -> Tensor:
    return torch.linalg.vector_norm(normalize(x)[:, None] - normalize(others), dim=2)


def generalised_lifted(x: Tensor, y: Tensor) -> Tensor:
    """The logarithm of a sum of nothing is 0, and all items are anchors."""
    costs = []
    for row in range(len(y)):
        positives, negatives = (far(x[row : row + 1], x[kind])[0] for kind in split(row, y))
        pull = positives.logsumexp(0) if len(positives) else 0
        costs.append(relu(pull + (1 - negatives).logsumexp(0)))
    return torch.stack(costs).mean()


def histogram(x: Tensor, y: Tensor, bins: int = 128) -> Tensor:
    """Pairs of two lone items are not counted."""
    scores, paired = normalize(x) @ normalize(x).T, [bool(split(row, y)[0].any()) for row in range(len(y))]
    counts = [torch.zeros(bins + 1, dtype=x.dtype), torch.zeros(bins + 1, dtype=x.dtype)]
    nodes = torch.linspace(-1, 1, bins + 1, dtype=x.dtype)
    for row in range(len(y)):
        for other in range(row):
            if paired[row] or paired[other]:
                same = int(y[row] == y[other])
                counts[same] = counts[same] + relu(1 - (scores[row, other] - nodes).abs() * bins / 2)
    negatives, positives = (count / count.sum() for count in counts)
    return (negatives * positives.cumsum(0)).sum()


def margin(x: Tensor, y: Tensor) -> Tensor:
    """`nu` weighs the radii of the anchors of all triplets, over the number of pairs that cost something."""
    hinges, radii, radius = [], torch.zeros((), dtype=x.dtype), torch.tensor(1.2, dtype=torch.float32).double()
    for row in range(len(y)):
        positives, negatives = (far(x[row : row + 1], x[kind])[0] for kind in split(row, y))
        hinges.append(relu(positives - radius + 0.2).repeat(len(negatives)))
        hinges.append(relu(radius - negatives + 0.2).repeat(len(positives)))
        radii = radii + radius * len(positives) * len(negatives)
    costs = torch.cat(hinges)
    return (costs.sum() + 0.1 * radii) / (costs > 0).sum()


def ranked_list(x: Tensor, y: Tensor) -> Tensor:
    """1e-5 times the size of the batch is added to each sum of weights."""
    costs, extra = [], 1e-5 * len(y)
    for row in range(len(y)):
        positives, negatives = (far(x[row : row + 1], x[kind])[0] for kind in split(row, y))
        for excess, temperature in ((relu(positives - 0.8), 0), (relu(1.2 - negatives), 10)):
            weights = (temperature * excess).exp() * (excess > 0)
            costs.append((weights * excess).sum() / (weights.sum() + extra))
    return torch.stack(costs).sum() / len(y) / 2


def cross_batch_memory(x: Tensor, y: Tensor) -> Tensor:
    """The batch's own copies in the memory carry no gradient."""
    past = earlier()
    distances = far(x, torch.cat([x.detach(), *(old for old, _ in past)]))
    same = y[:, None] == torch.cat([y, *(labels for _, labels in past)])
    itself = torch.eye(len(y), same.shape[1], dtype=torch.bool)
    return distances[same & ~itself].mean() + relu(1 - distances[~same]).mean()


class P2SGrad(nn.Module):
    """Class vectors are set to length one in each call; the gradient then takes them as free to leave it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(DIM, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        self.weight.data = normalize(self.weight.data, dim=0)
        scores, costs = normalize(x) @ self.weight, []
        for row in range(len(y)):
            costs += [(scores[row, column] - float(y[row] == column)) ** 2 for column in range(CLASSES)]
        return torch.stack(costs).sum() / len(y) / 2


LOOPS: dict[str, Loss] = {
    "generalised lifted": generalised_lifted,
    "histogram": histogram,
    "margin, a radius per class with nu": margin,
    "ranked list": ranked_list,
    "cross-batch memory": cross_batch_memory,
    "P2SGrad": P2SGrad(),
}

"""What slow loops share: rows as lists of floats, and the comparison of a loss with its loop, value and gradient."""

from collections.abc import Callable, Iterator
from math import sqrt

import pytest
import torch
from torch import Tensor

from conformance import without_shape_checks

Row = list[float]
SEEDS = range(4)


def two_hundred() -> Iterator[int]:
    """Seeds of two hundred batches. Shapes were checked on those before, and checking them takes longer than a loss."""
    with without_shape_checks():
        yield from range(200)


def batch(seed: int) -> tuple[Tensor, Tensor]:
    """Eleven unit-size items of four classes, among them a lone one."""
    embeddings = torch.randn(11, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / 2
    return embeddings, torch.tensor([0, 1, 2, 0, 1, 2, 0, 3, 0, 1, 2])


def dot(a: Row, b: Row) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a: Row) -> Row:
    return [x / sqrt(dot(a, a)) for x in a]


def squared(a: Row, b: Row) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def units(embeddings: Tensor) -> list[Row]:
    return [unit(row) for row in embeddings.tolist()]


def agrees(objective: Callable[[Tensor, Tensor], Tensor], slow: Callable[[Tensor, list[int]], float]) -> None:
    """Same value, and the same gradient by central differences of the slow loop."""
    for seed in SEEDS:
        embeddings, labels = batch(seed)
        embeddings.requires_grad_()
        value = objective(embeddings, labels)
        assert value.item() == pytest.approx(slow(embeddings.detach(), labels.tolist()), rel=1e-9, abs=1e-9)
    (gradient,) = torch.autograd.grad(value, embeddings)
    for row, column in ((0, 0), (1, 2), (7, 3), (10, 1)):
        step = torch.zeros_like(embeddings)
        step[row, column] = 1e-6
        up, down = (slow(embeddings.detach() + sign * step, labels.tolist()) for sign in (1, -1))
        assert gradient[row, column].item() == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-7)


Slow = Callable[[Tensor, list[int]], float]


def random_batch(seed: int, items: int = 11, dim: int = 4) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (items,), generator=source)
    return torch.randn(items, dim, generator=source, dtype=torch.float64), labels


def equals(objective: Callable[[Tensor, Tensor], Tensor], slow: Slow) -> None:
    """Same gradient on a few batches, same value on two hundred."""
    agrees(objective, slow)
    for seed in two_hundred():
        embeddings, labels = random_batch(seed)
        found, expected = objective(embeddings, labels).item(), slow(embeddings, labels.tolist())
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12), seed

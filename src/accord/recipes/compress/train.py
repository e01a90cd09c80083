"""Trains a compressed head on stored features: distilled into one linear head, or the authors' network on top."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from accord.ensembles import Affine, pca, similarity_distillation, stress_loss
from accord.geometry import normalise
from accord.models import LinearHead, MLPHead
from accord.recipes.compress.space import linear_head

STEPS = 1000
BATCH = 256
# what held-out training classes of `objects` liked best; it learns from few images, and longer learns them by heart
DISTILLING = 300
TEMPERATURE = 0.1  # of cosines: at 1, the published one, all neighbours count nearly alike
RATE = 1e-4
RIDGE = 1.0  # of the features' mean square: they are more numbers than there may be images
Told = Callable[[int, int], None]


def distil(
    features: Tensor, teacher: Tensor, start: Affine | None, *, dim: int, seed: int, told: Told, steps: int = DISTILLING
) -> LinearHead:
    """One linear head of the feature whose neighbourhoods are the teacher's (`similarity_distillation`).

    It goes on from `start`, or from the ridge regression of the teacher's principal components on the features, with
    Adam at a rate that falls to zero.
    """
    mean = features.double().mean(dim=0)
    size = (features.double() - mean).square().mean().sqrt().clamp_min(1e-12)
    standard = (features.double() - mean) / size
    first = _ridge(standard, pca(teacher, dim=dim)(teacher)) if start is None else _standardised(start, mean, size)
    head, x, wanted = linear_head(first).train(), standard.float(), teacher.float()
    optimizer = torch.optim.Adam(head.parameters(), lr=RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, rows in enumerate(_batches(len(x), min(BATCH, len(x)), steps, seed)):
        optimizer.zero_grad()
        loss = similarity_distillation(head(x[rows]), wanted[rows], temperature=TEMPERATURE, own=False)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        falling.step()
        told(step + 1, steps)
    matrix = head.linear.weight.detach().double() / size
    return linear_head(Affine(matrix, head.linear.bias.detach().double() - matrix @ mean))


def student(teacher: Tensor, *, dim: int, hidden: int, seed: int, told: Told, steps: int = STEPS) -> nn.Module:
    """The authors' network on top of the ensemble: affine, tanh, affine, taught by `stress_loss`.

    Their optimiser (Adam, rate 0.001, eps 0.01, weight decay 0.0001) and batches of 64, after Zabihzadeh et al.
    (arXiv 2107.01130). We differ: it is trained when the ensemble is, not beside it; and its output is brought to unit
    length before it is compared, as it is when it is used.
    """
    generator = torch.Generator().manual_seed(seed)
    top = MLPHead(teacher.shape[1], dim, hidden=hidden, normalise=False, activation="tanh", generator=generator).train()
    optimizer = torch.optim.Adam(top.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-4)
    x = teacher.float()
    for step, rows in enumerate(_batches(len(x), min(64, len(x)), steps, seed)):
        optimizer.zero_grad()
        loss = stress_loss(normalise(top(x[rows])), x[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        told(step + 1, steps)
    return top.eval()


def _standardised(start: Affine, mean: Tensor, size: Tensor) -> Affine:
    """The same map, of features whose mean is 0 and whose mean square is 1."""
    return Affine(start.matrix * size, start.bias + start.matrix @ mean)


def _ridge(x: Tensor, y: Tensor) -> Affine:
    """The affine map from centred x to y with the least squares, and RIDGE on its size."""
    gram = x.T @ x / len(x) + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
    return Affine(torch.linalg.solve(gram, x.T @ (y - y.mean(dim=0)) / len(x)).T, y.mean(dim=0))


def _batches(items: int, size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Rows in a new order each epoch, whole batches only."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        order = torch.randperm(items, generator=generator)
        for start in range(0, items - size + 1, size):
            if done == steps:
                return
            yield order[start : start + size]
            done += 1

"""PCGrad: take out of each member's gradient what goes against another's."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.ensembles._combine import Combined, Gradients, Gram, Weights, combine


def pcgrad(
    gradients: Gradients, *, generator: torch.Generator | None = None, products: Tensor | None = None
) -> Combined:
    """The sum of the gradients, each without its part along any other that it is opposed to.

    For each i, and for every other j in random order: where g_i^PC · g_j < 0, g_i^PC −= (g_i^PC · g_j / ‖g_j‖²) · g_j.
    Without a conflict this is the plain sum; of two opposite gradients nothing is left. Without a generator the order
    is that of the members. `products` are the inner products of the gradients, if they are known.

    Yu et al., NeurIPS 2020, algorithm 1.
    """
    return combine(gradients, lambda table: _weights(table, generator), products)


@dataclass(frozen=True)
class PCGrad:
    """`pcgrad` as a rule for a `GradientBalance`."""

    def __call__(self, gradients: Gradients, generator: torch.Generator, products: Tensor) -> Combined:
        """One gradient from all."""
        return pcgrad(gradients, generator=generator, products=products)


def _weights(table: Gram, generator: torch.Generator | None) -> Weights:
    count = len(table)
    changed = np.eye(count)  # row i: what g_i^PC is made of
    for i in range(count):
        order = range(count) if generator is None else torch.randperm(count, generator=generator).tolist()
        for j in order:
            along = changed[i] @ table[:, j]
            if j != i and along < 0:
                changed[i, j] -= along / table[j, j]
    total: Weights = changed.sum(axis=0)
    return total

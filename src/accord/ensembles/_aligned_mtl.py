"""Aligned-MTL: make the members' gradients orthogonal and equally long before they are summed."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.ensembles._combine import Combined, Gradients, Gram, Weights, combine


def alignment(table: Gram, *, precision: float) -> Gram:
    """The symmetric B that brings all singular values of GB to the smallest one of G, K = GᵀG being the products.

    K = VΛVᵀ, B = √λ_min · V Λ^(−1/2) Vᵀ. Eigenvalues up to m · `precision` times the largest are rounding; they are
    left out, and λ_min is the smallest of the rest.
    """
    values, vectors = np.linalg.eigh(table)
    kept = values > len(table) * precision * values.max()
    vectors, values = vectors[:, kept], values[kept]
    found: Gram = np.sqrt(values.min()) * (vectors / np.sqrt(values)) @ vectors.T
    return found


def aligned_mtl(gradients: Gradients, *, products: Tensor | None = None) -> Combined:
    """The sum of the aligned gradients, d = GB1: the condition number of GB is 1, so none of them dominates.

    Its length follows the smallest singular value of G: where two gradients nearly agree or cancel out, d is short.
    Gradients that are the same up to rounding count as one direction.

    Senushkin, Patakin, Kuznetsov & Konushin, CVPR 2023, the variant with the smallest singular value.
    """
    precision = float(torch.finfo(gradients.dtype).eps)
    return combine(gradients, lambda table: _weights(table, precision), products)


@dataclass(frozen=True)
class AlignedMTL:
    """`aligned_mtl` as a rule for a `GradientBalance`."""

    def __call__(self, gradients: Gradients, generator: torch.Generator, products: Tensor) -> Combined:
        """One gradient from all."""
        return aligned_mtl(gradients, products=products)


def _weights(table: Gram, precision: float) -> Weights:
    total: Weights = alignment(table, precision=precision).sum(axis=1)
    return total

"""Compression in closed form: folded heads, principal components, within-class covariance normalisation."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_batch, check_count, check_range
from accord.ensembles._affine import Affine, check_table, side_by_side, signed
from accord.errors import BatchError, UsageError
from accord.types import Embeddings, Labels

RANK_TOLERANCE = 1e-10  # of the largest singular value, or eigenvalue; a smaller one is rounding


def fold_heads(maps: Sequence[Affine], weights: Sequence[float], *, dim: int | None = None) -> Affine:
    """One linear head in place of several: Σ w_i ‖f_i(x) - f_i(x')‖² as one squared distance.

    Heads f_i(h) = A_i h + b_i of one feature h have the joint distance (h-h')ᵀ M (h-h') with M = Σ w_i A_iᵀA_i =
    U Λ Uᵀ, and the head is Λ^½ Uᵀ, cut after `dim` rows (default: the rank of M, whatever it is). No distance changes
    if `dim` is at least the rank; `retained` is the kept share of Σ λ. Rows beyond the rank are zero.

    Biases drop out of distances. Where all heads are kept and none repeats another (the rank is the numbers they have),
    the bias returned keeps inner products and cosines, too; otherwise it is the nearest to that.

    Weights are ≥ 0, not all zero; UsageError otherwise. After Zabihzadeh et al., arXiv 2107.01130, whose embedding at
    test time is [√w_1 f_1; …; √w_m f_m].
    """
    for weight in weights:
        check_range("fold_heads", "a weight", weight, low=0)
    if not any(weights):
        raise UsageError("fold_heads: at least one weight must be more than 0.")
    joined = side_by_side(maps, [weight**0.5 for weight in weights])
    left, singular, right = torch.linalg.svd(joined.matrix, full_matrices=False)
    rank = int((singular > RANK_TOLERANCE * singular[0]).sum())
    dim = max(1, rank) if dim is None else dim
    check_count("fold_heads", "dim", dim)
    kept = min(dim, rank)
    matrix = torch.zeros(dim, joined.matrix.shape[1], dtype=torch.float64)
    bias = torch.zeros(dim, dtype=torch.float64)
    matrix[:kept] = singular[:kept, None] * right[:kept]
    bias[:kept] = left[:, :kept].T @ joined.bias
    return Affine(matrix, bias, _share(singular.square(), kept))


def pca(embeddings: Embeddings, *, dim: int, centre: bool = True, whiten: float = 0.0) -> Affine:
    """Principal components: the `dim`-dimensional linear map that keeps most of the squared distances.

    y = V_dᵀ(x - μ) with Φ_c = U S Vᵀ over the (item, number) rows. The mean squared distance of the rows shrinks to
    the share `retained` = Σ_{k≤d} s_k² / Σ s_k², and no distance grows (without `whiten`). With `centre=False` the mean
    stays, and the map keeps most of the inner products instead. `whiten` in [0, 1] divides component k by
    (s_k / √n)^whiten: 0 leaves it, 1 gives all components the same spread.

    Wants more rows than `dim` (at least as many with `centre=False`) and `dim` numbers at least; UsageError otherwise.
    """
    check_range("pca", "whiten", whiten, low=0, high=1)
    check_table("pca", embeddings, dim, most=len(embeddings) - int(centre))
    table = embeddings.double()
    mean = table.mean(dim=0) if centre else torch.zeros_like(table[0])
    values, vectors = _directions(table - mean)
    directions = vectors[:, :dim]
    if whiten:
        spread = values[:dim].clamp_min(RANK_TOLERANCE * values[0]).sqrt()
        # a direction in which nothing lies would be blown up to the size of the others
        directions = torch.where(values[:dim] > RANK_TOLERANCE * values[0], directions / spread**whiten, 0)
    return Affine(directions.T.contiguous(), -directions.T @ mean, _share(values, dim))


def shrinkage_lda(embeddings: Embeddings, labels: Labels, *, dim: int, shrinkage: float | None = None) -> Affine:
    """Within-class covariance normalisation, then the `dim` directions in which the classes are furthest apart.

    With S_w the covariance within classes and its shrunk S = (1 - γ) S_w + γ (tr S_w / D) I, the map is
    V_dᵀ S^-½ (x - μ), where V are the principal directions of the rows after S^-½. γ is `shrinkage` in [0, 1], by
    default what Ledoit & Wolf (J. Multivariate Analysis 2004) estimate to be best: all for few rows, nothing for many.
    `retained` is the share of the normalised spread that is kept.

    Classes of one item tell nothing about S_w, but count for the spread. BatchError if no class has two different
    items; UsageError for a `dim` that the rows do not span.
    """
    check_batch("shrinkage_lda", embeddings, labels)
    check_table("shrinkage_lda", embeddings, dim, most=len(embeddings) - 1)
    table = embeddings.double()
    values, vectors = _spread_within("shrinkage_lda", table, labels, shrinkage)
    whitening = vectors / values.sqrt()
    components = pca(table @ whitening, dim=dim)
    return Affine(components.matrix @ whitening.T, components.bias, components.retained)


def wccn(embeddings: Embeddings, labels: Labels, *, shrinkage: float | None = None) -> Affine:
    """Within-class covariance normalisation: directions in which items of one class differ count less.

    y = S^-½ (x - μ) with S as in `shrinkage_lda`; as many numbers as before, in their old directions. The squared
    distance of two rows becomes (x - x')ᵀ S⁻¹ (x - x'): Mahalanobis's, of what varies within classes. After Hatch,
    Kajarekar & Stolcke, Interspeech 2006, whose covariance is not shrunk and whose rows keep their mean.

    BatchError if no class has two different items.
    """
    check_batch("wccn", embeddings, labels)
    table = embeddings.double()
    values, vectors = _spread_within("wccn", table, labels, shrinkage)
    matrix = vectors / values.sqrt() @ vectors.T
    return Affine(matrix, -matrix @ table.mean(dim=0), 1.0)


def _spread_within(who: str, table: Tensor, labels: Labels, shrinkage: float | None) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the shrunk covariance within classes."""
    numbers, counts = torch.unique(labels, return_inverse=True, return_counts=True)[1:]
    means = torch.zeros(len(counts), table.shape[1], dtype=table.dtype).index_add_(0, numbers, table)
    inside = (table - (means / counts[:, None])[numbers])[counts[numbers] > 1]
    if not bool(inside.abs().sum() > 0):
        raise BatchError(f"{who}: no class has two items that differ, so nothing tells what to normalise.")
    covariance = inside.T @ inside / len(inside)
    gamma = ledoit_wolf(inside) if shrinkage is None else shrinkage
    check_range(who, "shrinkage", gamma, low=0, high=1)
    scale = covariance.diagonal().mean()
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    values, vectors = torch.linalg.eigh((1 - gamma) * covariance + gamma * scale * identity)
    # unshrunk, a direction in which no class varies would count without end
    return values.clamp_min(1e-8 * values[-1]), vectors


def ledoit_wolf(centred: Float[Tensor, "item number"]) -> float:
    """How far a covariance should be shrunk towards a multiple of the identity, in [0, 1]; rows have their mean gone.

    Ledoit & Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate Analysis
    2004, Lemma 3.2 to 3.4.
    """
    table = centred.double()
    items, numbers = table.shape
    covariance = table.T @ table / items
    mean = covariance.diagonal().mean()
    apart = covariance.square().sum() / numbers - mean.square()
    noise = (table.square().sum(dim=1).square().sum() / items - covariance.square().sum()) / items / numbers
    if not bool(apart > 0):
        return 1.0
    return float((noise / apart).clamp(0, 1))


def _directions(table: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squares along the principal directions, largest first, and the directions as columns."""
    if len(table) < table.shape[1]:
        _, singular, rows = torch.linalg.svd(table, full_matrices=False)
        return singular.square() / len(table), signed(rows.T)
    values, vectors = torch.linalg.eigh(table.T @ table / len(table))
    return values.flip(0).clamp_min(0), signed(vectors.flip(1))


def _share(values: Tensor, dim: int) -> float:
    total = values.sum()
    return float(values[:dim].sum() / total) if bool(total > 0) else 1.0

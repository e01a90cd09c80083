"""What an embedding space looks like: hubs, uniformity and spectrum, and a summary with what classes add to it."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, check_range
from accord.errors import BatchError
from accord.evaluation._class_distances import alignment_of, class_distances_of
from accord.evaluation._directions import directions
from accord.geometry import inner, row_blocks

BUDGET_BYTES = 32 * 2**20
# A singular value is the root of an eigenvalue: what is smaller than this share of the largest one is rounding.
SMALLEST_SHARE = 2.0**-26


class Hubness(NamedTuple):
    """Skewness of how often an item is among the neighbours of others, and the share of items that never are."""

    skewness: float
    antihubs: float


def space_scores(
    embeddings: Float[Tensor, "item dim"],
    labels: Int[Tensor, " item"],
    *,
    k: int = 10,
    budget_bytes: int = BUDGET_BYTES,
) -> dict[str, float]:
    """Every measure of this file at its published setting, on unit rows.

    `hubness_skewness`, `antihubs`, `uniformity`, `spectral_decay`, `effective_rank`; where a class has two items also
    `alignment`; with two classes as well `intra_distance`, `inter_distance` and, unless all centres are one point,
    `distance_ratio`. One sweep over all pairs of items, by blocks within `budget_bytes`. None depends on the length of
    a row, on a rotation, or on the order of items (ties aside). Raises BatchError where there are not more than k
    items, NumericError for rows that are zero or not finite.

        space_scores(embeddings, labels)["uniformity"]
    """
    check_count("space_scores", "k", k)
    unit = _enough("space_scores", embeddings, labels, k)
    hubs, spread = _sweep(unit, k, 2.0, budget_bytes)
    values = _singular_values(unit)
    scores = {
        "hubness_skewness": hubs.skewness,
        "antihubs": hubs.antihubs,
        "uniformity": spread,
        "spectral_decay": _divergence_from_uniform(values),
        "effective_rank": _rank_of(values),
    }
    aligned = alignment_of(unit, labels, 2.0, budget_bytes)
    if aligned is not None:
        scores["alignment"] = aligned
    between = class_distances_of(unit, labels, budget_bytes)
    if between is not None:
        scores |= {"intra_distance": between.intra, "inter_distance": between.inter}
        if between.inter > 0:
            scores["distance_ratio"] = between.ratio
    return scores


def hubness(embeddings: Float[Tensor, "item dim"], *, k: int = 10, budget_bytes: int = BUDGET_BYTES) -> Hubness:
    """How uneven the roles of items in k-nearest-neighbour lists are.

    N_k(x) counts the other items that have x among their k nearest by cosine. Skewness is E[(N − k)³] / σ³
    (Radovanović, Nanopoulos & Ivanović, JMLR 2010, §3): about 0 without hubs, large where few items are near to many;
    0 where all counts are equal. Anti-hubs have N_k = 0: search never finds them. Items equally near come in any order.

        hubness(embeddings).antihubs
    """
    check_count("hubness", "k", k)
    return _sweep(_enough("hubness", embeddings, None, k), k, 2.0, budget_bytes)[0]


def uniformity(embeddings: Float[Tensor, "item dim"], *, t: float = 2.0, budget_bytes: int = BUDGET_BYTES) -> float:
    """log of the mean of exp(−t ‖x − y‖²) over all pairs of different unit rows: lower is more evenly spread.

    Wang & Isola, ICML 2020, §4.1.2, t = 2 (here at most 20). From −4t to 0, which is one point.

        uniformity(embeddings)
    """
    # beyond, exp(−4t) leaves single precision
    check_range("uniformity", "t", t, low=0, high=20, open_low=True)
    return _sweep(_enough("uniformity", embeddings, None, 1), 1, t, budget_bytes)[1]


def spectral_decay(embeddings: Float[Tensor, "item dim"], *, skip: int = 0) -> float:
    """ρ: Kullback-Leibler divergence of the normalised singular values from a uniform spectrum; 0 if all are equal.

    Roth et al., ICML 2020, §5 "Embedding space density": KL(U ‖ S) in nats, S the singular values of the matrix of unit
    rows, not centred, over their sum; where a lower ρ, less decay, goes with better transfer to new classes. `skip`
    leaves the largest values out. The spectrum has min(items, dim) values; one below 2⁻²⁶ of the largest counts as
    that, so that a space of fewer dimensions has a large ρ and not an infinite one.

        spectral_decay(embeddings)
    """
    check_count("spectral_decay", "skip", skip, low=0)
    values = _singular_values(_enough("spectral_decay", embeddings, None, 0))
    if skip >= len(values):
        raise BatchError(f"spectral_decay: {skip} of {len(values)} singular values can't be left out; lower skip.")
    return _divergence_from_uniform(values[skip:])


def effective_rank(embeddings: Float[Tensor, "item dim"]) -> float:
    """How many dimensions unit rows use: exp of the entropy of their normalised singular values.

    Roy & Vetterli, EUSIPCO 2007, eq. 4. From 1, one line, to min(items, dim). The matrix is not centred.

        effective_rank(embeddings)
    """
    return _rank_of(_singular_values(_enough("effective_rank", embeddings, None, 0)))


def _enough(who: str, embeddings: Tensor, labels: Tensor | None, k: int) -> Tensor:
    labels = torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device) if labels is None else labels
    if len(embeddings) <= k:
        wish = f"{k} neighbours need at least {k + 1} items" if k else "there must be at least one item"
        raise BatchError(f"{who}: {wish}, but there are {len(embeddings)}.")
    return directions(who, embeddings, labels)


def _sweep(unit: Tensor, k: int, t: float, budget_bytes: int) -> tuple[Hubness, float]:
    """Hubness and uniformity from one pass over the similarities of all pairs."""
    n = len(unit)
    times = torch.zeros(n, dtype=torch.int64, device=unit.device)
    total = torch.zeros((), dtype=torch.float64, device=unit.device)
    for block in row_blocks(n, 2 * n, budget_bytes=budget_bytes, itemsize=unit.element_size()):
        scores = inner(unit[block], unit)
        # nobody is a neighbour of itself, and exp(−∞) adds nothing
        scores[torch.arange(len(scores)), torch.arange(block.start, block.stop)] = -torch.inf
        times += torch.bincount(scores.topk(k).indices.flatten(), minlength=n)
        # ‖x − y‖² = 2 − 2 xᵀy
        total += scores.sub_(1).mul_(2 * t).exp_().sum(dtype=torch.float64)
    mean = float(total) / (n * (n - 1))
    return Hubness(_skewness(times), float((times == 0).double().mean())), math.log(mean)


def _skewness(times: Tensor) -> float:
    away = times.double() - times.double().mean()
    variance = float(away.square().mean())
    return float((away**3).mean()) / variance**1.5 if variance > 0 else 0.0


def _singular_values(unit: Tensor) -> Float[Tensor, " value"]:
    """Singular values, largest first, from the smaller of the two matrices of inner products, in float64."""
    if len(unit) < unit.shape[1]:
        exact = unit.double()
        gram = exact @ exact.T
    else:
        gram = unit.new_zeros(unit.shape[1], unit.shape[1], dtype=torch.float64)
        for block in row_blocks(*unit.shape, itemsize=8):
            exact = unit[block].double()
            gram.addmm_(exact.T, exact)
    values: Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0).sqrt()
    return values


def _divergence_from_uniform(values: Tensor) -> float:
    shares = values.clamp_min(SMALLEST_SHARE * values[0])
    # KL(U ‖ S) = −log m − mean log s
    return max(0.0, -math.log(len(shares)) - float((shares / shares.sum()).log().mean()))


def _rank_of(values: Tensor) -> float:
    shares = values / values.sum()
    return math.exp(float(-torch.special.xlogy(shares, shares).sum()))

"""What random guessing scores: each metric's mean when every order of the other items is equally likely."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def chance_levels(sizes: Int[Tensor, " class"], *, ks: Sequence[int], knn: int) -> dict[str, float]:
    """Chance level of each metric for classes of these sizes, averaged over queries; single items are not queries.

    `knn_accuracy` is given for up to three neighbours, where a short formula exists, and left out beyond.
    """
    others = int(sizes.sum()) - 1
    query_sizes = sizes[sizes > 1].double()
    relevant = query_sizes - 1
    levels = {f"recall@{k}": random_recall(relevant, others, k) for k in ks}
    levels["map@r"] = random_map_at_r(relevant, others)
    levels["r_precision"] = relevant / others
    if min(knn, others) <= 3:
        levels["knn_accuracy"] = _random_knn(relevant, sizes.double(), others, min(knn, others))
    return {name: float((level * query_sizes).sum() / query_sizes.sum()) for name, level in levels.items()}


def random_recall(relevant: Float[Tensor, " class"], others: int, k: int) -> Float[Tensor, " class"]:
    """Chance that k of N = `others` items, drawn without replacement, hold one of R: 1 − C(N−R, k) / C(N, k)."""
    drawn = torch.arange(min(k, others), dtype=torch.float64, device=relevant.device)
    missed = ((others - relevant[:, None] - drawn) / (others - drawn)).clamp_min(0)
    return 1 - missed.prod(dim=1)


def random_map_at_r(relevant: Float[Tensor, " class"], others: int) -> Float[Tensor, " class"]:
    """Expected MAP@R of a random order: (1/R) Σ_{i≤R} (R/N) (1 + (i−1) (R−1)/(N−1)) / i, with N = `others`.

    The i-th place is right with probability R/N, and then each place before it with probability (R−1)/(N−1).
    """
    harmonic = torch.digamma(relevant + 1) - torch.digamma(torch.ones_like(relevant))
    again = (relevant - 1) / max(1, others - 1)
    return (harmonic + (relevant - harmonic) * again) / others


def _random_knn(relevant: Tensor, sizes: Tensor, others: int, k: int) -> Tensor:
    first = relevant / others
    if k < 3:
        # one vote each: the nearest decides, so the second neighbour changes nothing
        return first
    pairs, strangers = (others - 1) * (others - 2), others - relevant
    both_right = (relevant - 1) * (relevant - 2) / pairs
    one_right = 2 * (relevant - 1) * strangers / pairs
    # pairs of strangers of one class outvote the first neighbour; all classes, less the query's own
    same_strangers = (sizes * (sizes - 1)).sum() - (relevant + 1) * relevant
    all_different = (strangers * (strangers - 1) - same_strangers) / pairs
    then_both = relevant * (relevant - 1) / pairs
    return first * (both_right + one_right + all_different) + strangers / others * then_both

"""The retrieval metrics by name: which there are, and how deep a list each of them needs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from accord.checks import MOST
from accord.errors import UnknownNameError, UsageError

METRICS = ("recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "knn_accuracy")
CUT = ("recall", "precision", "map", "ndcg")
PLAIN = ("map@r", "r_precision", "mrr", "knn_accuracy")
CLUSTERED = ("nmi", "ami", "ari", "f1", "purity")


class Wanted(NamedTuple):
    """Metrics asked for: those cut at a k as (name, family, k), the others by name, and how many neighbours vote."""

    names: tuple[str, ...]
    cuts: tuple[tuple[str, str, int], ...]
    knn: int

    def has(self, *names: str) -> bool:
        """Whether any of these was asked for."""
        return any(name in self.names for name in names)

    def depths(self, relevant: Int[Tensor, " query"]) -> Int[Tensor, " query"]:
        """How many neighbours each query's metrics look at; those that go down to R are never cut short."""
        least = max([1, *(k for *_, k in self.cuts), self.knn if self.has("knn_accuracy") else 1])
        deep = relevant if self.has("map@r", "r_precision") else torch.ones_like(relevant)
        return deep.clamp_min(least)


def wanted(who: str, metrics: Sequence[str], knn: int) -> Wanted:
    """Read metric names such as `recall@1` and `map@r`. Raises UnknownNameError with the nearest name, UsageError."""
    if isinstance(metrics, str) or not metrics:
        raise UsageError(f"{who}: metrics must be a list of at least one name, such as {METRICS[:2]}, not {metrics!r}.")
    names = tuple(dict.fromkeys(metrics))
    cuts = []
    for name in names:
        family, _, k = str(name).partition("@")
        if name in PLAIN:
            continue
        if name in CLUSTERED:
            raise UsageError(
                f"{who}: {name} comes with clusters, not with metrics; leave it out here and ask for clusters."
            )
        if family not in CUT or not k.isascii() or not k.lstrip("-").isdigit():
            raise UnknownNameError("metric", name, {*METRICS, *PLAIN, *(f"{kind}@10" for kind in CUT)})
        if not 1 <= int(k[:12]) <= MOST:
            raise UsageError(f"{who}: the k of {name} must be a whole number from 1 to {MOST:,}.")
        cuts.append((name, family, int(k)))
    return Wanted(names, tuple(cuts), knn)

"""Diversity by adversaries: no head should be predictable from another, whatever network tries."""

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.ensembles._heads import Rows, checked
from accord.errors import BatchError, UsageError
from accord.geometry import normalise
from accord.types import Scalar

Pair = tuple[str, str]


def adversarial_similarity(
    heads: Mapping[str, Tensor], regressors: Mapping[Pair, Callable[[Tensor], Tensor]]
) -> Scalar:
    """Let regressors predict each head from the others, and turn the heads away from what can be predicted.

    `regressors[j, i]` maps head j, (item, dim_j) of unit length, to head i, (item, dim_i). With f of unit length,
    ĝ = R_ji(f_j) brought to unit length and ∘ the product number by number, the result is

        - mean over pairs (j, i) of mean over items of dim_i · Σ_k (f_i ∘ ĝ)_k²,

    between -dim_i and 0. Minimised, it makes the regressors predict: best of all the largest number of f_i, which gives
    -dim_i · max_k f_ik². On its way to the heads the gradient is reversed, to f_i as well as to f_j, so they lose what
    the regressors find. A regressor that ignores its input still gets -dim_i · max_k mean f_ik², which is -1 for a head
    that uses all its numbers alike; so the nearer the value is to -1, the less the heads know of each other.

    A-BIER (Opitz et al., TPAMI 2020, arXiv 1801.04815) and DiVA (Milbich et al., ECCV 2020, arXiv 2004.13458). As in
    DiVA, predictions are brought to unit length, in place of A-BIER's penalty on the regressors' weights. We differ by
    the factor dim_i², which makes the value the same for all widths (DiVA takes the mean over the numbers, so its
    weight of 1500 at 128 numbers is 0.09 here), and by the mean over the pairs in place of their sum.
    """
    rows = dict(zip(heads, checked("adversarial", heads), strict=True))
    missing = [
        f"{source} → {target}" for source, target in permutations(heads, 2) if (source, target) not in regressors
    ]
    if missing:
        raise BatchError(
            f"adversarial: there is no regressor for {', '.join(missing[:5])}; give one for every two heads, both ways."
        )
    turned = {name: _reverse(head) for name, head in rows.items()}
    parts = [
        _predicted(turned[target], regressors[source, target](turned[source]))
        for source, target in permutations(heads, 2)
    ]
    return -torch.stack(parts).mean()


def _predicted(target: Rows, prediction: Tensor) -> Scalar:
    products = target * normalise(prediction, dtype=target.dtype)
    return products.square().sum() * target.shape[1] / max(1, len(target))


def _reverse(x: Tensor) -> Tensor:
    """The same numbers; the gradient changes its sign on the way back."""
    return 2 * x.detach() - x


class Regressor(nn.Module):
    """Two affine maps with a ReLU between them, from one head to another."""

    def __init__(self, source: int, target: int, *, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.inner, self.outer = _affine(source, hidden, generator), _affine(hidden, target, generator)

    def forward(self, head: Rows) -> Rows:
        """(item, source) → (item, target)."""
        predicted: Tensor = self.outer(F.relu(self.inner(head.to(self.inner.weight.dtype))))
        return predicted


class AdversarialRegressors(nn.Module):
    """Regressors between every two heads, both ways, times `weight`; see `adversarial_similarity`.

    `dims` are the heads' widths by name, `hidden` is the width of the regressors' hidden layer. They are parameters
    of this module and learn with the network, at the rate of the heads. Their first weights are drawn from `generator`
    (a fresh one with seed 0 if None).
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        weight: float = 0.1,
        hidden: int = 512,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_range("adversarial", "weight", weight, low=0)
        check_count("adversarial", "hidden", hidden)
        if len(dims) < 2:
            raise UsageError(f"adversarial: needs at least 2 heads to compare, not {len(dims)}.")
        for name, dim in dims.items():
            check_count("adversarial", f"the width of head '{name}'", dim)
        source = generator or torch.Generator().manual_seed(0)
        self.dims, self.weight = dict(dims), weight
        self.left_out: frozenset[str] = frozenset()
        self.pairs: list[Pair] = list(permutations(dims, 2))
        self.regressors = nn.ModuleList(
            Regressor(dims[j], dims[i], hidden=hidden, generator=source) for j, i in self.pairs
        )

    def leave_out(self, names: Sequence[str]) -> None:
        """Compare the others only: from now on these heads are not wanted."""
        self.left_out = frozenset(names)

    def forward(self, heads: Mapping[str, Tensor], labels: Any) -> Scalar:
        """The penalty of one batch."""
        wanted = {name: dim for name, dim in self.dims.items() if name not in self.left_out}
        wrong = {name: head.shape[-1] for name, head in heads.items() if wanted.get(name) != head.shape[-1]}
        if wrong or len(heads) != len(wanted):
            raise BatchError(
                "adversarial: the heads are not those that the regressors were made for.\n"
                f"  made for: {wanted}\n  given:    { {name: head.shape[-1] for name, head in heads.items()} }"
            )
        return self.weight * adversarial_similarity(heads, dict(zip(self.pairs, self.regressors, strict=True)))


def _affine(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Uniform ±1/√inputs and zero biases, as the heads are drawn."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    nn.init.uniform_(layer.weight, -(inputs**-0.5), inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer

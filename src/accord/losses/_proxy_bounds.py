"""How far a proxy loss bounds the loss it stands for: ε, α, the slack, and the bounds of NCA and triplet hinge."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_finite, check_range, describe
from accord.errors import BatchError, UnknownNameError, UsageError
from accord.geometry import full, normalise
from accord.types import Embeddings

Distance = Literal["squared", "inner"]
Numbers = Float[Tensor, "*some"]
SLACK: dict[Distance, float] = {"squared": 4.0, "inner": 2.0}


def proxy_epsilon(embeddings: Embeddings, assigned: Float[Tensor, "item dim"]) -> Float[Tensor, ""]:
    """How far proxies are from what they stand for: ε = max_v ‖v̂ - p̂(v)‖², in [0, 4]; of nothing, 0.

    Row i of `assigned` is the proxy of row i of `embeddings`; both are brought to length one. It is twice the largest
    1 - cos. With one static proxy per class it is the class's radius.
    """
    if embeddings.shape != assigned.shape or embeddings.device != assigned.device:
        raise BatchError(
            "proxy_epsilon: needs one proxy for each embedding.\n"
            f"  embeddings: {describe(embeddings)}\n  assigned:   {describe(assigned)}"
        )
    check_finite("proxy_epsilon", "embeddings", embeddings)
    check_finite("proxy_epsilon", "assigned", assigned)
    if not len(embeddings):
        return full(embeddings).new_zeros(())
    apart = normalise(full(embeddings)) - normalise(full(assigned))
    return apart.square().sum(dim=1).amax()


def proxy_alpha(item_norm: int | float, proxy_norm: int | float) -> float:
    """α = 1 / (N_x · N_p), in (0, 1]: by how much less a unit vector feels a distance than one of length N_x.

    `proxy_nca` brings both to length `scale`, so there it is 1 / scale². The bounds need α ≤ 1: lengths whose product
    is less than 1 are refused.
    """
    check_range("proxy_alpha", "item_norm", item_norm, low=0, open_low=True)
    check_range("proxy_alpha", "proxy_norm", proxy_norm, low=0, open_low=True)
    if item_norm * proxy_norm < 1:
        raise UsageError(
            f"proxy_alpha: item_norm · proxy_norm must be at least 1, not {item_norm * proxy_norm:.3g}: the bounds do "
            "not hold below. Raise the loss's scale to 1 or more, or lower its temperature to 1 or less."
        )
    return 1 / (item_norm * proxy_norm)


def bound_slack(epsilon: Numbers, *, distance: Distance = "squared") -> Numbers:
    """What a bound must add for proxies that are off by ε: 4√ε, or 2√ε where logits are inner products.

    `distance` says what d of the bounded loss is. "squared": d = ‖x - y‖². "inner": the logit is xᵀy, that is
    d = ½‖x - y‖² = 1 - cos on unit vectors. In both ε is the *squared* Euclidean one of `proxy_epsilon`; with
    ε' = max(1 - cos) = ε / 2 the latter is 2√(2ε'). Moving a proxy by √ε moves a squared distance by at most 2√ε, once
    for the positive and once for the negatives. The constants are sharp: x ⟂ p, y = p - √ε x, z = p' + √ε x.
    """
    if distance not in get_args(Distance):
        raise UnknownNameError("distance of a bound", distance, get_args(Distance))
    return SLACK[distance] * epsilon.sqrt()


def nca_bound(
    proxy_loss: Numbers,
    epsilon: Numbers,
    *,
    negatives: int | float,
    alpha: float,
    distance: Distance = "squared",
) -> Numbers:
    """No less than L_NCA(x̂, ŷ, Ẑ) on unit vectors: α L_NCA(x, p(y), p(Z)) + (1 - α) log|Z| + slack.

    L_NCA(x, y, Z) = d(x, y) + log Σ_z exp(-d(x, z)), the positive excluded. `proxy_loss` is that of x, of length N_x,
    against proxies of length N_p: a value for each (x, y), or their mean. `epsilon` is `proxy_epsilon` over the y and z
    used, `negatives` is |Z| (for a mean over sets of different sizes their geometric mean), `alpha` is `proxy_alpha`.
    With the positive *included* in the sum the same holds for |Z| + 1.

    p(Z) must be a multiset, one proxy for each negative: as a set it is smaller where two negatives share a proxy, and
    the bound fails.

    Movshovitz-Attias et al., ICCV 2017, the bound of the NCA loss. The slack is ours, checked: the paper's does not
    hold for squared Euclidean distances; see `bound_slack`. The bound is tight only as ε goes to 0.
    """
    check_range("nca_bound", "alpha", alpha, low=0, high=1, open_low=True)
    check_range("nca_bound", "negatives", negatives, low=1, high=torch.inf)
    spread = (1 - alpha) * torch.as_tensor(negatives, dtype=torch.float64).log()
    return alpha * proxy_loss + spread.to(proxy_loss) + bound_slack(epsilon, distance=distance)


def triplet_bound(
    proxy_loss: Numbers, epsilon: Numbers, *, margin: int | float, alpha: float, distance: Distance = "squared"
) -> Numbers:
    """No less than L_triplet(x̂, ŷ, ẑ) on unit vectors: α L_triplet(x, p(y), p(z)) + (1 - α) margin + slack.

    L_triplet(x, y, z) = max(0, d(x, y) + margin - d(x, z)), on both sides of the bound. All else is as in
    `nca_bound`; in `proxy_triplet` all vectors have length one, so α is 1.

    Movshovitz-Attias et al., ICCV 2017, the bound of the triplet loss, with the slack of `bound_slack`.
    """
    check_range("triplet_bound", "alpha", alpha, low=0, high=1, open_low=True)
    check_range("triplet_bound", "margin", margin, low=0)
    return alpha * proxy_loss + (1 - alpha) * margin + bound_slack(epsilon, distance=distance)

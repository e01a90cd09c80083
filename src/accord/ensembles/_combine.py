"""Members' gradients as one: every balancing rule is a weighted sum whose weights follow from the inner products."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from accord.geometry import full

Gradients = Float[Tensor, "member number"]
Combined = Float[Tensor, " number"]
Gram = Float[np.ndarray, "member member"]
Weights = Float[np.ndarray, " member"]


def gram(gradients: Gradients) -> Float[Tensor, "member member"]:
    """The inner products of all gradients, in float64 on the CPU."""
    # exact products: their small eigenvalues decide, and float32 would lose them
    device = torch.device("cpu") if gradients.device.type == "mps" else gradients.device
    exact = gradients.detach().to(device, torch.float64)
    return (exact @ exact.T).cpu()


def combine(gradients: Gradients, rule: Callable[[Gram], Weights], products: Tensor | None = None) -> Combined:
    """Σ_i a_i · g_i with the weights that a rule finds from the inner products.

    A member whose gradient is zero is left out before the rule sees it: it wishes nothing. Where something is not
    finite the plain sum is returned, which is not finite either, and whoever steps will see it.
    """
    products = gram(gradients) if products is None else products
    if not bool(products.isfinite().all()):
        return gradients.sum(dim=0)
    table = products.numpy()
    asking = np.flatnonzero(np.diag(table) > 0)
    weights = np.ones(len(table))
    if len(asking) > 1:
        weights[asking] = rule(table[np.ix_(asking, asking)])
    wide = full(gradients)  # weights rounded to half precision would turn what is left of gradients that nearly cancel
    return (torch.from_numpy(weights).to(wide) @ wide).to(gradients.dtype)

"""Noticing that embeddings have shrunk to a point or a line, which a falling loss does not show."""

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_finite
from accord.errors import BatchError
from accord.geometry import normalise

COSINE_LIMIT = 0.95
DEVIATION_LIMIT = 0.2
RANK_LIMIT = 1.2


def spread(embeddings: Float[Tensor, "item dim"]) -> dict[str, float]:
    """How much room embeddings of many classes take, from three sides; all of unit-length copies.

    `mean_cosine` of two different items is 1 when all are equal, and near 0 when they are spread evenly. `deviation`,
    the standard deviation of a coordinate times √dim, is 0 when all are equal and about 1 when spread evenly.
    `effective_rank` is how many directions carry the variation: e to the entropy of the normalised singular values of
    the centred embeddings (Roy and Vetterli, EUSIPCO 2007, sec. 2; they do not centre), 0 when all are equal.
    Raises BatchError for fewer than two items, NumericError for embeddings that are not finite.
    """
    if len(embeddings) < 2:
        raise BatchError(f"spread: needs at least 2 embeddings, not {len(embeddings)}.")
    check_finite("spread", "embeddings", embeddings)
    unit = normalise(embeddings.detach().double())
    items = len(unit)
    total = unit.sum(0)
    mean_cosine = (total @ total - unit.square().sum()) / (items * (items - 1))
    centred = unit - unit.mean(0)
    variance = centred.square().sum() / items
    return {
        "mean_cosine": float(mean_cosine),
        "deviation": float(variance.sqrt()),
        "effective_rank": _effective_rank(centred),
    }


def collapse(measures: dict[str, float]) -> str | None:
    """Say in a sentence that embeddings of several classes have collapsed, judged by what `spread` gave; None if not.

    Collapsed means a mean cosine above 0.95, a deviation below 0.2 or an effective rank below 1.2. Two classes learned
    perfectly lie on a line by right: judge three or more.
    """
    signs = []
    if measures["mean_cosine"] > COSINE_LIMIT:
        signs.append(f"their mean cosine is {measures['mean_cosine']:.3f}")
    if measures["deviation"] < DEVIATION_LIMIT:
        signs.append(f"their deviation is {measures['deviation']:.3f}")
    if measures["effective_rank"] < RANK_LIMIT:
        signs.append(f"they have {measures['effective_rank']:.2f} effective directions")
    if not signs:
        return None
    return f"The embeddings are collapsing: {', '.join(signs)}. Lower the rates, or use another loss or mining."


def _effective_rank(centred: Tensor) -> float:
    values: Tensor = torch.linalg.svdvals(centred)
    # rounding leaves about this much of a direction that isn't there
    values = values[values > 1e-12 * len(centred) ** 0.5]
    share = values / values.sum()
    return float(torch.exp(torch.special.entr(share).sum())) if len(values) else 0.0

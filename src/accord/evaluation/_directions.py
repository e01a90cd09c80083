"""Unit rows of embeddings that were checked: finite, not zero, one label and one id each."""

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_batch, check_finite, describe
from accord.errors import BatchError, NumericError
from accord.geometry import full, inner, row_blocks
from accord.types import Labelled, Neighbours

SHOWN = 5


def directions(who: str, embeddings: Tensor, labels: Tensor, ids: Tensor | None = None) -> Float[Tensor, "item dim"]:
    """Rows of length one in at least float32; BatchError or NumericError, naming ids, where there can be none."""
    ids = torch.arange(len(embeddings)) if ids is None else ids
    check_finite(who, "embeddings", embeddings, ids)
    check_batch(who, embeddings, labels)
    exact = full(embeddings.detach())
    # scaled by the largest entry first: squares of tiny or huge ones would leave the range
    peak = exact.abs().amax(dim=1, keepdim=True)
    zero = ids[(peak[:, 0] == 0).nonzero()[:, 0].to(ids.device)].tolist()
    if zero:
        more = f" and {len(zero) - SHOWN} more" if len(zero) > SHOWN else ""
        raise NumericError(
            f"{who}: embeddings must have a direction, but {len(zero)} are zero: "
            f"id {', '.join(map(str, zero[:SHOWN]))}{more}.\n  embeddings: {describe(embeddings)}"
        )
    scaled = exact / peak
    unit: Tensor = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return unit


def directions_by_id(who: str, labelled: Labelled) -> Float[Tensor, "item dim"]:
    """The same for items known by id; BatchError where an id is missing or given twice."""
    embeddings, labels, ids = labelled
    tensors = isinstance(embeddings, Tensor) and isinstance(ids, Tensor)
    if not tensors or ids.shape != embeddings.shape[:1] or ids.is_floating_point() or _repeat(ids):
        shapes = f"  embeddings: {describe(embeddings)}\n  ids:        {describe(ids)}"
        raise BatchError(f"{who}: ids must be whole numbers, one per embedding, and none twice.\n{shapes}")
    return directions(who, embeddings, labels, ids)


def _repeat(ids: Tensor) -> bool:
    ordered = ids.sort().values
    return bool((ordered[1:] == ordered[:-1]).any())


def nearest(
    queries: Float[Tensor, "query dim"], keys: Float[Tensor, "key dim"], own: Tensor, k: int, *, budget_bytes: int
) -> Neighbours:
    """Cosine scores and positions of the k nearest keys of each query, best first, the key in place `own` left out.

    -1 in `own` leaves out nothing. Scores are of the precision of the rows; equal ones come in any order.
    """
    found = []
    for block in row_blocks(len(queries), 2 * len(keys), budget_bytes=budget_bytes, itemsize=queries.element_size()):
        scores = inner(queries[block], keys)
        there = (own[block] >= 0).nonzero()[:, 0]
        scores[there, own[block][there]] = -torch.inf
        found.append(scores.topk(k))
    return Neighbours(torch.cat([top.values for top in found]), torch.cat([top.indices for top in found]))

"""How far apart embeddings are, finite at zero: similarities, distances, normalisation; row blocks and rows by id.

Every function here multiplies in at least float32, also under autocast, and hands back finite values *and* gradients
for duplicates and zero rows.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

_HALF = (torch.float16, torch.bfloat16)


def full(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The same numbers in at least single precision: float16 and bfloat16 become float32, the rest stays."""
    return x.float() if x.dtype in _HALF else x


def smallest_norm(dtype: torch.dtype) -> float:
    """The norm below which a vector of this dtype counts as zero; its inverse bounds the gradient of `normalise`."""
    return float(max(1e-5, torch.finfo(dtype).tiny ** 0.5))


def normalise(x: Float[Tensor, "..."], dim: int = -1, *, dtype: torch.dtype | None = None) -> Float[Tensor, "..."]:
    """Scale vectors along `dim` to length one; a zero vector stays zero.

    Vectors shorter than `smallest_norm(x.dtype)` (1e-5, in float16 7.8e-3) are divided by that length instead of their
    own, so the gradient is at most its inverse times the incoming one. The result has the dtype of `x` or `dtype`.
    """
    exact = full(x)
    length: Tensor = torch.linalg.vector_norm(exact, dim=dim, keepdim=True)
    return (exact / length.clamp_min(smallest_norm(x.dtype))).to(dtype or x.dtype)


def inner(q: Float[Tensor, "query dim"], k: Float[Tensor, "key dim"]) -> Float[Tensor, "query key"]:
    """Inner product of each query with each key, any real number; in float32 for half-precision input."""
    q, k = _matched(q, k)
    # a matrix product is the one step autocast would move to half precision
    with _no_autocast(q.device.type):
        return q @ k.T


def quick_inner(q: Float[Tensor, "query dim"], k: Float[Tensor, "key dim"]) -> Float[Tensor, "query key"]:
    """Inner products for finding candidates: like `inner`, on oneDNN where torch has it for these tensors.

    oneDNN is about as fast as torch's default library on some processors and twice as fast on others. How exact it is
    depends on torch's settings, so whoever calls this must check the products that matter. Carries no gradient.
    """
    with torch.no_grad(), _no_autocast(q.device.type):
        if q.dtype == k.dtype == torch.float32 and q.device.type == k.device.type == "cpu" and has_onednn():
            return onednn_linear(q, k)
        return inner(q, k)


def has_onednn() -> bool:
    """Whether this build of torch has oneDNN's product."""
    known: bool = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return known


def onednn_linear(x: Float[Tensor, "row dim"], weight: Float[Tensor, "column dim"]) -> Float[Tensor, "row column"]:
    """x · weightᵀ by oneDNN, for single precision on the processor."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return found


def cosine(q: Float[Tensor, "query dim"], k: Float[Tensor, "key dim"]) -> Float[Tensor, "query key"]:
    """Cosine of the angle between each query and each key, in [-1, 1] up to rounding; a zero row scores 0."""
    # float32 at least, so that unit vectors are not rounded back to half precision
    return inner(normalise(q, dtype=full(q).dtype), normalise(k, dtype=full(k).dtype))


def squared_euclidean(q: Float[Tensor, "query dim"], k: Float[Tensor, "key dim"]) -> Float[Tensor, "query key"]:
    """Squared Euclidean distance of each query to each key, ≥ 0.

    Expanded as ‖q‖² + ‖k‖² - 2qᵀk after moving both by the keys' mean, which changes no distance but keeps digits.
    """
    return _squares(q, k)[0].clamp_min(0)


def euclidean(q: Float[Tensor, "query dim"], k: Float[Tensor, "key dim"]) -> Float[Tensor, "query key"]:
    """Euclidean distance of each query to each key, ≥ 0.

    A distance below the rounding error of its own computation is exactly 0 and passes a zero sub-gradient, so
    duplicates in a batch do no harm.
    """
    squares, scale = _squares(q, k)
    apart = squares > 8 * torch.finfo(squares.dtype).eps * scale
    # the input of the root is masked, not its output: 0 · inf in the backward pass would be NaN
    return torch.where(apart, squares, 1).sqrt() * apart


def row_blocks(rows: int, columns: int, *, budget_bytes: int = 32 * 2**20, itemsize: int = 4) -> Iterator[slice]:
    """Cut `rows` into consecutive slices so that a block of rows × `columns` numbers stays within `budget_bytes`.

    A slice has at least one row, however small the budget; no rows give no slices.
    """
    size = max(1, budget_bytes // max(1, columns * itemsize))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def places(ids: Integer[Tensor, "*shape"], known: Integer[Tensor, " item"]) -> Int[Tensor, "*shape"]:
    """The row of each id in `known`, -1 where it is not there; of an id that is there twice, any one of its rows.

    `known` may come in any order; it is sorted on every call.
    """
    if not len(known):
        return torch.full_like(ids, -1, dtype=torch.int64)
    ordered, order = known.sort()
    place = torch.searchsorted(ordered, ids.to(ordered.dtype).contiguous()).clamp_max(len(known) - 1)
    # compared as they came: an id beyond the dtype of `known` would be another one in it
    return torch.where(ordered[place] == ids, order[place], -1)


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    known = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if known else nullcontext()


def _matched(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Both in one dtype, the wider of the two and at least float32."""
    dtype = torch.promote_types(full(q).dtype, full(k).dtype)
    return q.to(dtype), k.to(dtype)


def _squares(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances with their rounding noise, and the magnitude that noise is relative to."""
    q, k = _matched(q, k)
    centre = k.detach().mean(dim=0) if len(k) else 0
    q, k = q - centre, k - centre
    scale = q.square().sum(dim=1)[:, None] + k.square().sum(dim=1)
    return scale - 2 * inner(q, k), scale.detach()

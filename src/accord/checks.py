"""Checks made once, at a doorway: what came in is described, what is wrong is named, and what to do is said."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord.errors import BatchError, NumericError, UsageError

SMALLEST, LARGEST = 1e-12, 1e6  # options beyond these leave single precision once they are squared or inverted
MOST = 10**9
_SHOWN = 5
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def describe(value: object) -> str:
    """Say what a tensor is in a message: shape, dtype and device; anything else by its type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout == torch.strided else f" {str(value.layout).removeprefix('torch.')}"
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}{layout} on {value.device}"


def check_batch(who: str, embeddings: object, labels: object) -> None:
    """Refuse a batch that no loss, miner or metric can use; an empty one passes.

    Wants a dense floating (item, dim) tensor and an integer (item,) tensor of the same length on the same device, all
    finite. Raises BatchError, or NumericError naming the rows that are not finite.
    """
    if not isinstance(embeddings, Tensor) or not isinstance(labels, Tensor):
        raise BatchError(_unfit(who, "embeddings and labels must be tensors.", embeddings, labels))
    if embeddings.layout != torch.strided or labels.layout != torch.strided:
        raise BatchError(_unfit(who, "embeddings and labels must be dense; call to_dense().", embeddings, labels))
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise BatchError(_unfit(who, "embeddings must be a floating-point (item, dim) tensor.", embeddings, labels))
    if embeddings.dtype not in _FLOATS:
        wish = "embeddings must be float16, bfloat16, float32 or float64; convert them with embeddings.float()."
        raise BatchError(_unfit(who, wish, embeddings, labels))
    if not embeddings.shape[1]:
        raise BatchError(_unfit(who, "embeddings must be at least 1 wide.", embeddings, labels))
    if labels.dtype not in _INTEGERS:
        wish = "labels must be integers, signed or uint8; convert them with labels.long()."
        raise BatchError(_unfit(who, wish, embeddings, labels))
    if labels.ndim != 1:
        wish = "labels must have one axis; flatten them with labels.flatten(), or one-hot ones with labels.argmax(1)."
        raise BatchError(_unfit(who, wish, embeddings, labels))
    if len(labels) != len(embeddings):
        raise BatchError(_unfit(who, "labels must have one entry per embedding.", embeddings, labels))
    if labels.device != embeddings.device:
        raise BatchError(_unfit(who, "embeddings and labels must be on one device.", embeddings, labels))
    check_finite(who, "embeddings", embeddings)


def check_finite(who: str, name: str, tensor: Tensor, ids: Tensor | Sequence[object] | None = None) -> None:
    """Refuse NaN and infinity, naming the rows (and their ids).

    Looks only at tensors in main memory and outside graph compilation: elsewhere looking would stall the device, and
    the training loop checks the loss anyway.
    """
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return
    # a sum of finite numbers may overflow, but one of others is never finite: so most are cleared by a sum
    if math.isfinite(_told(tensor.detach().sum())) or _told(tensor.isfinite().all()):
        return
    # a scalar is one row; an empty axis can't be flattened away by -1, but then everything is finite
    table = tensor.detach().reshape(tensor.shape[0] if tensor.ndim else 1, -1)
    rows = (~table.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    known = ids.tolist() if isinstance(ids, Tensor) else ids
    named = [f"{row} (id {known[row]})" if known is not None else str(row) for row in rows[:_SHOWN]]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    raise NumericError(
        f"{who}: {name} must be finite, but {len(rows)} of {len(table)} rows are not: {', '.join(named)}{more}.\n"
        f"  {name}: {describe(tensor)}\n"
        "Look at these items; in training, lower the learning rate."
    )


def check_classes(who: str, labels: Tensor, classes: int) -> None:
    """Refuse labels outside 0 … classes - 1, naming the first of them; looks only at labels in main memory."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if not len(labels):
        return
    lowest, highest = labels.aminmax()
    if _told(lowest) < 0 or _told(highest) >= classes:
        labels = labels.to(torch.int64)  # a number of classes need not fit a narrower type, in which it would wrap
        wrong = (labels < 0) | (labels >= classes)
        shown = ", ".join(map(str, sorted(set(labels[wrong].tolist()))[:_SHOWN]))
        raise BatchError(
            f"{who}: labels must lie in 0 … {classes - 1}, but {int(wrong.sum())} of {len(labels)} do not: {shown}.\n"
            f"It was made for {classes} classes; number the classes of the training set from 0, or give `classes`."
        )


def check_range(
    who: str,
    name: str,
    value: object,
    *,
    low: int | float | None = None,
    high: int | float | None = None,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse an option that is no finite number between `low` and `high`; `open_…` excludes the bound itself.

    A side that is left open ends at a million (`high=math.inf` if not), and an option that must be more than 0 begins
    at 1e-12: beyond, what is made of it would leave single precision.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"{who}: {name} must be a finite number, not {value!r}.")
    assert isinstance(value, int | float)
    # bounds that nobody set are only named when they are broken
    if high is None and value > LARGEST:
        high = LARGEST
    elif high == math.inf:
        high = None
    if low is None and value < -LARGEST:
        low = -LARGEST
    if open_low and low == 0 and 0 < value < SMALLEST:
        low, open_low = SMALLEST, False
    below = low is not None and (value <= low if open_low else value < low)
    above = high is not None and (value >= high if open_high else value > high)
    if below or above:
        left = None if low is None else f"{'more than' if open_low else 'at least'} {_short(low)}"
        right = None if high is None else f"{'less than' if open_high else 'at most'} {_short(high)}"
        raise UsageError(f"{who}: {name} must be {' and '.join(filter(None, (left, right)))}, not {_given(value)}.")


def check_count(who: str, name: str, value: object, *, low: int = 1, high: int = MOST) -> None:
    """Refuse an option that is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or value > high:
        limit = f" and at most {high:,}" if isinstance(value, int) and value > high else ""
        raise UsageError(f"{who}: {name} must be a whole number of at least {low}{limit}, not {_given(value)}.")


def check_flag(who: str, name: str, value: object) -> None:
    """Refuse an option that is neither True nor False: 'no' would count as yes."""
    if not isinstance(value, bool):
        raise UsageError(f"{who}: {name} must be True or False, not {_given(value)}.")


def _short(number: int | float) -> str:
    return f"{number:g}".replace("e+0", "e").replace("e-0", "e-")


def _given(value: object) -> str:
    # Python refuses to write out a whole number of thousands of digits
    huge = isinstance(value, int) and value.bit_length() > 128
    return "one of so many digits" if huge else repr(value)


def _told(number: Tensor) -> Any:
    """A number in main memory. Unlike `item`, `tolist` is no operation of which a device would have to be asked."""
    told: list[Any] = number.reshape(1).tolist()
    return told[0]


def _unfit(who: str, wish: str, embeddings: object, labels: object) -> str:
    return f"{who}: {wish}\n  embeddings: {describe(embeddings)}\n  labels:     {describe(labels)}"

"""Checks made once, at a doorway: what came in is described, what is wrong is named, and what to do is said."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from accord.errors import BatchError, NumericError, UsageError

_SHOWN = 5


def describe(value: object) -> str:
    """Say what a tensor is in a message: shape, dtype and device; anything else by its type."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}"


def check_batch(who: str, embeddings: object, labels: object) -> None:
    """Refuse a batch that no loss, miner or metric can use; an empty one passes.

    Wants a floating (item, dim) tensor and an integer (item,) tensor of the same length on the same device, all finite.
    Raises BatchError, or NumericError naming the rows that are not finite.
    """
    if not isinstance(embeddings, Tensor) or not isinstance(labels, Tensor):
        raise BatchError(_unfit(who, "embeddings and labels must be tensors.", embeddings, labels))
    if embeddings.ndim != 2 or not embeddings.is_floating_point():
        raise BatchError(_unfit(who, "embeddings must be a floating-point (item, dim) tensor.", embeddings, labels))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        wish = "labels must be integers; convert them with labels.long()."
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
        "Look at these items, or lower the learning rate."
    )


def check_classes(who: str, labels: Tensor, classes: int) -> None:
    """Refuse labels outside 0 … classes - 1, naming the first of them; looks only at labels in main memory."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if not len(labels):
        return
    lowest, highest = labels.aminmax()
    if _told(lowest) < 0 or _told(highest) >= classes:
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
    """Refuse an option that is no finite number between `low` and `high`; `open_…` excludes the bound itself."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{who}: {name} must be a finite number, not {value!r}.")
    below = low is not None and (value <= low if open_low else value < low)
    above = high is not None and (value >= high if open_high else value > high)
    if below or above:
        left = None if low is None else f"{'more than' if open_low else 'at least'} {low:g}"
        right = None if high is None else f"{'less than' if open_high else 'at most'} {high:g}"
        raise UsageError(f"{who}: {name} must be {' and '.join(filter(None, (left, right)))}, not {value!r}.")


def check_count(who: str, name: str, value: object, *, low: int = 1) -> None:
    """Refuse an option that is no whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f"{who}: {name} must be a whole number of at least {low}, not {value!r}.")


def _told(number: Tensor) -> Any:
    """A number in main memory. Unlike `item`, `tolist` is no operation of which a device would have to be asked."""
    told: list[Any] = number.reshape(1).tolist()
    return told[0]


def _unfit(who: str, wish: str, embeddings: object, labels: object) -> str:
    return f"{who}: {wish}\n  embeddings: {describe(embeddings)}\n  labels:     {describe(labels)}"

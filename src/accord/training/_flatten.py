"""Nested Python values as named tensors plus JSON, and back without the loss of a bit or a type."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from accord.errors import ArtifactError, UsageError
from accord.types import Json


def flatten(value: object, name: str, tensors: dict[str, Tensor]) -> Json:
    """Put every tensor inside `value` into `tensors`, copied to main memory, and describe the rest as JSON.

    Knows dicts with text or whole numbers as keys, lists, tuples, numbers, texts, booleans and None; UsageError names
    anything else by its place.
    """
    if isinstance(value, Tensor):
        tensors[name] = value.detach().to("cpu", copy=True)
        return {"tensor": name}
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        return {"dict": [[key, flatten(inside, f"{name}/{key}", tensors)] for key, inside in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [flatten(inside, f"{name}/{place}", tensors) for place, inside in enumerate(value)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise UsageError(f"training_state: {name} is a {type(value).__name__}, which can't be saved as tensors and JSON.")


def unflatten(described: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The value that `flatten` was given; ArtifactError if the description or a tensor is missing."""
    try:
        ((kind, inside),) = described.items()
        match kind:
            case "tensor":
                return tensors[inside]
            case "dict":
                return {key: unflatten(value, tensors) for key, value in inside}
            case "list" | "tuple":
                values = [unflatten(value, tensors) for value in inside]
                return tuple(values) if kind == "tuple" else values
            case "float":
                return float(inside)
            case "value":
                return inside
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"restore: the saved state is damaged: {error!r}.") from error
    raise ArtifactError(f"restore: the saved state holds {kind!r}, which this version of accord doesn't know.")

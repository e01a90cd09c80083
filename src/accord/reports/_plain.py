"""Makes any value safe for strict JSON: no NaN, no tensors, no lone surrogates."""

import math
from collections.abc import Mapping
from typing import Any

import torch


def text(value: object) -> str:
    """A value as text that every encoder accepts; what a broken file name can't say becomes U+FFFD."""
    return str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def number(value: Any, digits: int = 6) -> float | None:
    """A value as a rounded float, or None where it is absent or not finite."""
    if value is None or not math.isfinite(float(value)):
        return None
    return round(float(value), digits)


def plain(value: Any) -> Any:
    """A nested value with only dicts, lists, text, finite numbers, booleans and None in it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {text(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, torch.Tensor) or hasattr(value, "tolist"):
        return plain(value.tolist())
    return text(value)

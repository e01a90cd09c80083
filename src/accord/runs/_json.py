"""Strict JSON: what is written can be read by any reader, and a sealed document notices a single changed bit."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from accord.errors import ArtifactError, NumericError
from accord.runs._disk import sha256
from accord.types import Json


def to_json(value: object, *, indent: int | None = None) -> bytes:
    """Write a value as ASCII JSON. NumericError names a NaN or infinity, which JSON can't hold."""
    try:
        return json.dumps(value, allow_nan=False, indent=indent).encode()
    except ValueError as error:
        place = _not_finite(value, "")
        if place is None:
            raise
        raise NumericError(
            f"write_json: {place} is not finite, and JSON has no NaN or infinity.\n"
            "Leave the value out, or write null in its place."
        ) from error


def from_json(data: bytes, *, name: str) -> Any:
    """Read JSON as strictly as it was written; ArtifactError names the file."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{name} is not valid JSON: {error or 'too deeply nested'}.") from error


def to_sealed(document: Mapping[str, Any]) -> bytes:
    """Write a document together with the fingerprint of all its bytes."""
    return to_json({"seal": sha256(to_json(document)), **document}, indent=1)


def from_sealed(data: bytes, *, name: str) -> Json:
    """Read a sealed document; ArtifactError if any bit of it differs from what was written."""
    document = from_json(data, name=name)
    if isinstance(document, dict):
        seal = document.pop("seal", None)
        # comparing the bytes as well catches changes that JSON would forgive, such as another kind of white space
        if seal == sha256(to_json(document)) and to_sealed(document) == data:
            return document
    raise ArtifactError(f"{name} has been changed since it was written: its seal does not fit.")


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _not_finite(value: object, place: str) -> str | None:
    """Name the first float inside `value` that is not finite."""
    if isinstance(value, float):
        return (place or "the value") if value - value != 0 else None
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_not_finite(item, f"{place}.{key}".lstrip(".")) for key, item in inside)
    return next(filter(None, found), None)

"""Named tensors and a little JSON as one safetensors file that notices a single changed bit."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from accord.errors import ArtifactError
from accord.runs._disk import sha256
from accord.runs._json import to_json
from accord.types import Json

_BLANK = "0" * 64
_MARK = rb"{\"seal\": \""  # how the start of our metadata looks inside the header


def to_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Write tensors and metadata; equal contents give equal bytes. Any safetensors reader can open them.

    The values are copied first, so what happens to the tensors afterwards changes nothing. Tensors that share memory
    are written once each.
    """
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    about = to_json({"seal": _BLANK, "metadata": dict(metadata)}).decode()
    # one key only: safetensors writes several in an order that changes from call to call
    data = safetensors.torch.save(copies, {"accord": about})
    place = data.index(_MARK) + len(_MARK)
    return b"".join((data[:place], sha256(data).encode(), data[place + len(_BLANK) :]))


def from_safetensors(data: bytes, *, name: str) -> tuple[dict[str, Tensor], Json]:
    """Read tensors and metadata; ArtifactError if the bytes are not exactly what accord wrote."""
    place = data.find(_MARK) + len(_MARK)
    seal = data[place : place + len(_BLANK)]
    blanked = b"".join((data[:place], _BLANK.encode(), data[place + len(_BLANK) :]))
    if place < len(_MARK) or seal != sha256(blanked).encode():
        raise ArtifactError(
            f"{name} is not what accord wrote: its seal is missing or does not fit.\n"
            "The file was changed, cut short or comes from elsewhere; restore it from a copy or train again."
        )
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return tensors, json.loads(header["__metadata__"]["accord"])["metadata"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{name} is no safetensors file of accord: {error}.") from error

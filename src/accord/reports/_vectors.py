"""Writes embeddings with the names of their rows as .npy, .safetensors or .csv."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save
from torch import Tensor

from accord.reports._write import replace_file


def write_embeddings(out: Path, embeddings: Tensor, rows: Sequence[Mapping[str, str]]) -> None:
    """Write one vector per row. The names go into the file itself, or for .npy into a .json file beside it."""
    vectors = embeddings.detach().float().cpu().contiguous()
    names = json.dumps(list(rows))
    if out.suffix == ".npy":
        replace_file(out.with_suffix(".json"), (names + "\n").encode())
        buffer = io.BytesIO()
        np.save(buffer, vectors.numpy(), allow_pickle=False)
        replace_file(out, buffer.getvalue())
    elif out.suffix == ".safetensors":
        replace_file(out, save({"embeddings": vectors}, {"rows": names}))
    else:
        replace_file(out, _csv(vectors, rows).encode("utf-8", "surrogateescape"))


def _csv(vectors: Tensor, rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "label", *(f"e{place}" for place in range(vectors.shape[1]))])
    for row, vector in zip(rows, vectors.tolist(), strict=True):
        writer.writerow([row["path"], row["label"], *(f"{value:.9g}" for value in vector)])
    return text.getvalue()

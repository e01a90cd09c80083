"""Opens an array or a column of a file that somebody else wrote: mapped into memory where that works, never unpickled.

A source is an array, a tensor, a list, or the name of a file. `FILE:NAME` picks one of several arrays or columns.
"""

import csv
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from accord.data import printable
from accord.errors import AccordError, DataError
from accord.recipes.tables import Wanted, first_line, json_column, pick, read_csv, read_json, read_parquet, read_text

Source = str | Path | np.ndarray | Tensor | Sequence[Any]
BROKEN = (OSError, ValueError, EOFError, RecursionError, csv.Error, zipfile.BadZipFile, zlib.error)
NPY_SAYS = {  # where numpy's own words tell nobody what to do
    "Python objects": "it holds Python objects, which are never unpickled; save numbers, or text: L.astype(str)",
    "mmap length": "it is cut off, and holds fewer numbers than it says",
}
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


def open_array(source: Source, wanted: Wanted) -> np.ndarray | Tensor:
    """The array behind a source as it is stored; what it holds is the caller's to check."""
    if isinstance(source, Tensor):
        return source.detach()
    if not isinstance(source, str | Path):
        try:
            return np.asarray(source)
        except ValueError as error:  # rows of unequal length
            raise DataError(f"{wanted.what}: this list is no array: {error}.") from None
    path, name = _located(source, wanted.what)
    reader = READERS.get(path.suffix.lower())
    if reader is None or (wanted.matrix and path.suffix.lower() == ".txt"):
        raise DataError(_unreadable(path, wanted))
    try:
        return reader(path, name, wanted)
    except BROKEN as error:
        if isinstance(error, AccordError):
            raise
        raise DataError(f"{wanted.what}: {printable(str(path))} can't be read: {first_line(error)}.") from None


def _located(source: str | Path, what: str) -> tuple[Path, str]:
    """The file, and what comes after its name's last colon."""
    path = Path(source).expanduser()
    name = ""
    if not path.exists() and ":" in str(path):
        before, _, name = str(path).rpartition(":")
        path = Path(before)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise DataError(f"{what}: there is {kind} at {printable(str(path))}. Give a file with one row per item.")
    return path, name


def _unreadable(path: Path, wanted: Wanted) -> str:
    told = f"{wanted.what}: {printable(path.name)}"
    if path.suffix.lower() in PICKLES:
        return (
            f"{told} is a pickle, and reading one can run any code that is in it.\n"
            '  Where you trust it, save it anew: np.save("E.npy", tensor.numpy()), or safetensors.torch.save_file.'
        )
    known = [suffix for suffix in READERS if not (wanted.matrix and suffix == ".txt")]
    return f"{told}: this kind of file is not read. Give one that ends in {', '.join(known)}."


def _npy(path: Path, name: str, wanted: Wanted) -> np.ndarray:
    if name:
        raise DataError(f"{wanted.what}: {path.name} holds one array; leave out ':{name}'.")
    # copy on write: torch warns of memory it may not write to, and nobody writes
    try:
        array: np.ndarray = np.lib.format.open_memmap(path, mode="c")
    except ValueError as error:
        why = next((told for words, told in NPY_SAYS.items() if words in str(error)), "")
        raise DataError(f"{wanted.what}: {path.name} can't be read: {why}.") if why else error from None
    return array


def _npz(path: Path, name: str, wanted: Wanted) -> np.ndarray:
    with path.open("rb") as file:  # ours to close: numpy leaves a broken archive's open
        if not zipfile.is_zipfile(file):
            raise DataError(f"{wanted.what}: {path.name} is no .npz archive of arrays.")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            array: np.ndarray = archive[pick(archive.files, name, path, wanted)]
    return array


def _safetensors(path: Path, name: str, wanted: Wanted) -> np.ndarray | Tensor:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            rows = (file.metadata() or {}).get("rows")
            if rows and not wanted.matrix and name not in keys and not set(keys) & set(wanted.names):
                return json_column(json.loads(rows), name, path, wanted)
            tensor: Tensor = file.get_tensor(pick(keys, name, path, wanted))
            return tensor
    except SafetensorError as error:
        raise DataError(f"{wanted.what}: {path.name} is no safetensors file: {error}.") from None


READERS: dict[str, Callable[[Path, str, Wanted], np.ndarray | Tensor]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".json": read_json,
    ".txt": read_text,
}

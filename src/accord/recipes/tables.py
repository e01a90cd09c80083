"""Reads columns out of tables that somebody else wrote: .csv, .parquet, .json and .txt, one row per item."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accord.data import parquet_file, printable
from accord.errors import DataError, UnknownNameError

# columns that are never a dimension of a vector
ASIDE = frozenset(
    (
        *("", "path", "file", "name", "label", "labels", "class", "id", "ids", "index"),
        *("group", "groups", "camera", "vendor", "split", "role"),
    )
)


class Wanted(NamedTuple):
    """What is looked for in a file: `what` names it in messages, `names` are tried in order where nobody picked one.

    A `matrix` may also be spread over one column of numbers per dimension.
    """

    what: str
    names: tuple[str, ...]
    matrix: bool = False


def read_json(path: Path, name: str, wanted: Wanted) -> np.ndarray:
    """A JSON list of values, or one field of a list of objects."""
    return json_column(json.loads(path.read_bytes()), name, path, wanted)


def json_column(rows: Any, name: str, path: Path, wanted: Wanted) -> np.ndarray:
    """A list of values, or one field of a list of objects: what `accord embed` writes beside a .npy file."""
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{wanted.what}: {path.name} must hold a JSON list with one entry per item.")
    if all(isinstance(row, dict) for row in rows):
        field = pick(list(rows[0]), name, path, wanted)
        missing = next((place for place, row in enumerate(rows) if field not in row), None)
        if missing is not None:
            raise DataError(f"{wanted.what}: {path.name}: entry {missing} has no '{field}'.")
        rows = [row[field] for row in rows]
    return np.asarray(rows)


def read_text(path: Path, name: str, wanted: Wanted) -> np.ndarray:
    """One value per line, as it stands."""
    if name:
        raise DataError(f"{wanted.what}: a .txt file has one value per line and no columns; leave out ':{name}'.")
    return np.asarray(path.read_text("utf-8-sig", "surrogateescape").splitlines(), dtype=np.str_)


def read_csv(path: Path, name: str, wanted: Wanted) -> np.ndarray:
    """A column below its name in the first line; for a matrix every column that is not known to be something else."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = csv.reader(file, strict=True)
        header = next(lines, [])
        places = _columns(header, name, path, wanted)
        rows = [_cells(row, header, places, f"{path.name}, line {lines.line_num}", wanted) for row in lines if row]
    # float32: nine digits, as `accord embed` writes them, bring back the same bits
    return np.asarray(rows, dtype=np.float32) if wanted.matrix else np.asarray(rows, dtype=np.str_)


def _cells(row: list[str], header: list[str], places: Sequence[int], where: str, wanted: Wanted) -> Any:
    """What a line says in the wanted columns: numbers for a matrix, the text of the one column otherwise."""
    if len(row) != len(header):
        raise DataError(f"{where}: {len(row)} values, but the first line names {len(header)} columns.")
    if not wanted.matrix:
        return row[places[0]]
    try:
        return [float(row[place]) for place in places]
    except ValueError as error:
        others = ", ".join(sorted(ASIDE)).strip(", ")
        raise DataError(f"{where}: {error}. A column that is no number must be called one of {others}.") from None


def _columns(header: list[str], name: str, path: Path, wanted: Wanted) -> list[int]:
    """Which columns of a table are meant: the one that was named, or for a matrix all but the known other ones."""
    if not wanted.matrix or name:
        return [header.index(pick(header, name, path, wanted))]
    places = [place for place, column in enumerate(header) if column.strip().lower() not in ASIDE]
    if not places:
        raise DataError(f"{wanted.what}: {path.name} has no column of numbers. Its columns: {shown(header)}.")
    return places


def read_parquet(path: Path, name: str, wanted: Wanted) -> np.ndarray:
    """A column; for a matrix one of lists of equal length, or all columns of floating numbers."""
    with parquet_file(path, f"{wanted.what}: {printable(path.name)}") as file:
        columns = _parquet_columns(file.schema_arrow, name, path, wanted)
        table = file.read(columns=columns)
        arrays = [_parquet_values(table.column(column).combine_chunks(), column, path) for column in columns]
    return arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=1)


def _parquet_columns(schema: Any, name: str, path: Path, wanted: Wanted) -> list[str]:
    import pyarrow as pa

    if name or not wanted.matrix:
        return [pick(schema.names, name, path, wanted)]
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    vectors = [field.name for field in schema if any(is_list(field.type) for is_list in lists)]
    if vectors:
        return [pick(vectors, "", path, wanted)]
    numeric = [field.name for field in schema if pa.types.is_floating(field.type) and field.name.lower() not in ASIDE]
    if not numeric:
        raise DataError(
            f"{wanted.what}: {path.name} has no column of lists and none of floating numbers.\n"
            f"  Its columns: {shown(schema.names)}."
        )
    return numeric


def _parquet_values(array: Any, column: str, path: Path) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise DataError(f"{path.name}, column '{column}': {array.null_count} values are missing, first in row {row}.")
    if not isinstance(array, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
        return (
            np.asarray(array.to_pylist(), dtype=np.str_) if text else np.asarray(array.to_numpy(zero_copy_only=False))
        )
    lengths = pc.unique(pc.list_value_length(array)).to_pylist()
    if len(lengths) > 1:
        raise DataError(f"{path.name}, column '{column}': its lists differ in length: {sorted(lengths)[:5]}.")
    flat = array.flatten()
    if flat.null_count:
        raise DataError(f"{path.name}, column '{column}': {flat.null_count} numbers inside its lists are missing.")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(array), -1)


def pick(known: Sequence[str], name: str, path: Path, wanted: Wanted) -> str:
    """The one that was named, the one with a usual name, or the only one there is."""
    if name:
        if name not in known:
            raise UnknownNameError(f"array or column in {printable(path.name)}", name, known)
        return name
    usual = [candidate for candidate in known if candidate.strip().lower() in wanted.names]
    if len(usual) == 1 or (not usual and len(known) == 1):
        return usual[0] if usual else known[0]
    raise DataError(
        f"{wanted.what}: {printable(path.name)} holds {shown(known)}. Say which: {printable(path.name)}:NAME\n"
        f"  (without it, one called {' or '.join(wanted.names)} is taken)."
    )


def shown(names: Iterable[str]) -> str:
    """The first ten of some names, for a message."""
    names = [printable(str(name)) for name in names]
    return (", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")) or "nothing"


def first_line(error: Exception) -> str:
    """The first line of what somebody else's error says."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0].rstrip("."))

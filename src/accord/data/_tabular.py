"""Manifests as CSV or Parquet tables: one row per image, in any order, with every mistake told by its row."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accord.data._entries import Box, Entry, outward
from accord.data._layout import SPLIT_NAMES
from accord.data._names import listed, printable, shown
from accord.data._parquet import parquet_file
from accord.errors import DataError, UnknownNameError
from accord.types import Item, Manifest

COLUMNS = ("path", "label", "split", "group", "x", "y", "width", "height", "role", "sha256")
TABLES = (".csv", ".tsv", ".parquet")
_NEEDED, _BOX = ("path", "label"), ("x", "y", "width", "height")
_ROLES = ("", "query", "gallery")
_MAX_BYTES, _MAX_ROWS = 2**30, 5_000_000


class TableRow(NamedTuple):
    """One row as texts by column; `where` is its line in the file, or its number in a Parquet table."""

    where: str
    cells: dict[str, str]


class Columns(NamedTuple):
    """What a table's columns may be called, which it needs, and what turns the names it has into checked ones."""

    known: tuple[str, ...]
    needed: str
    check: Callable[[Sequence[str], str], list[str]]


def table_rows(path: Path, who: str, columns: Columns) -> list[TableRow]:
    """The rows of a `.csv`, `.tsv` or `.parquet` table, at least one; DataError with the line that can't be read."""
    is_parquet = path.suffix.lower() == ".parquet"
    rows = _parquet_rows(path, who, columns) if is_parquet else _text_rows(path, who, columns)
    if not rows:
        raise DataError(f"{who} holds no rows below its header.")
    return rows


def table_entries(path: Path) -> list[Entry]:
    """The rows of a `.csv`, `.tsv` or `.parquet` table, each checked.

    `path` and `label` are needed; `split` (train, validation, test), `group`, `x y width height` (a box in pixels),
    `role` (query, gallery) and `sha256` may be there. Raises DataError that names the rows and what is wrong.
    """
    who = f"data: the table '{printable(path.name)}'"
    rows = table_rows(path, who, Columns(COLUMNS, " and ".join(_NEEDED), _check_columns))
    _refuse(rows, who, "no path", lambda row: not row.cells["path"])
    _refuse(rows, who, "no label", lambda row: not row.cells["label"].strip())
    if any(row.cells.get("split") for row in rows):
        _refuse(rows, who, "no split, though others have one", lambda row: not row.cells.get("split"))
    return [_entry(row, who) for row in rows]


def manifest_to_csv(manifest: Manifest) -> str:
    """A manifest as a CSV table that `read_images` reads back; paths are relative to its root. Columns that would be
    empty are left out."""
    rows = [_cells(item) for item in manifest.items]
    used = [name for name in COLUMNS if name in _NEEDED or any(row[name] for row in rows)]
    lines = [used, *([row[name] for name in used] for row in rows)]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines)


def _quoted(cell: str) -> str:
    """A cell as CSV. Python's own writer leaves a lone carriage return without quotes, and its reader ends the row."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',;\t"\r\n') else cell


def _cells(item: Item) -> dict[str, str]:
    cells = {"path": item.path, "label": item.label, "split": item.split, "group": item.group}
    cells |= {"role": item.role, "sha256": item.sha256} | dict.fromkeys(_BOX, "")
    if item.box is not None:
        left, top, right, bottom = item.box
        cells |= {"x": str(left), "y": str(top), "width": str(right - left), "height": str(bottom - top)}
    return cells


def _entry(row: TableRow, who: str) -> Entry:
    cells = row.cells
    split = cells.get("split", "")
    if split and split.strip().casefold() not in SPLIT_NAMES:
        raise DataError(f"{who}, {row.where}: the split must be train, validation or test, not '{printable(split)}'.")
    split = SPLIT_NAMES[split.strip().casefold()] if split else ""
    role = cells.get("role", "").strip().casefold()
    if role not in _ROLES or (role and split != "test"):
        raise DataError(
            f"{who}, {row.where}: the role must be query or gallery, and only rows of the split test have one; "
            f"it is '{printable(role)}', and the split '{split}'."
        )
    sha256 = cells.get("sha256", "").strip().lower()
    if sha256 and (len(sha256) != 64 or set(sha256) - set("0123456789abcdef")):
        raise DataError(f"{who}, {row.where}: sha256 must be 64 hexadecimal digits, not '{printable(sha256[:80])}'.")
    box = _box(row, who)
    return Entry(cells["path"], cells["label"], row.where, split, cells.get("group", ""), box, role, sha256)


def _box(row: TableRow, who: str) -> Box | None:
    words = [row.cells.get(name, "").strip() for name in _BOX]
    if not any(words):
        return None
    try:
        left, top, width, height = (float(word) for word in words)
        if left < 0 or top < 0 or not 0 < width < 1e9 or not 0 < height < 1e9 or not left + top < 1e9:
            raise ValueError
    except ValueError:
        came = ", ".join(f"{name} '{printable(word)}'" for name, word in zip(_BOX, words, strict=True))
        raise DataError(f"{who}, {row.where}: a box needs x, y, width and height in pixels; it has {came}.") from None
    return outward(left, top, left + width, top + height)


def _refuse(rows: Sequence[TableRow], who: str, what: str, is_wrong: Callable[[TableRow], bool]) -> None:
    wrong = [row.where for row in rows if is_wrong(row)]
    if wrong:
        raise DataError(f"{who}: {len(wrong)} rows have {what}: {listed(wrong)}.")


def _check_columns(names: Sequence[str], who: str) -> list[str]:
    """Column names in lower case; a wrong, doubled or missing one is refused."""
    names = [name.strip().casefold() for name in names]
    for name in names:
        if name not in COLUMNS:
            raise DataError(f"{who}: {UnknownNameError('column', printable(name[:80]), COLUMNS)}")
    if len(set(names)) < len(names):
        raise DataError(f"{who} has a column twice: {shown(names)}.")
    missing = [name for name in _NEEDED if name not in names]
    boxes = [name for name in _BOX if name not in names]
    if not missing and boxes and len(boxes) < len(_BOX):
        missing = boxes
    if missing:
        raise DataError(f"{who}: the column {shown(missing)} is missing. It has: {shown(names, 10)}.")
    return names


def _text_rows(path: Path, who: str, columns: Columns) -> list[TableRow]:
    """The rows of a text table, whichever of comma, semicolon and tab makes most sense of its first line."""
    text = _text(path, who)
    delimiter = max(",;\t", key=lambda mark: _known(text, mark, columns.known))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[TableRow] = []
    names: list[str] = []
    line = 0
    try:
        for cells in reader:
            where, line = f"line {line + 1}", reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not names:
                names = columns.check(cells, who)
            elif len(cells) != len(names):
                raise DataError(f"{who}, {where}: {len(cells)} cells; the header names {len(names)} columns.")
            else:
                rows.append(TableRow(where, dict(zip(names, cells, strict=True))))
    except csv.Error as error:
        raise DataError(f"{who}, line {line + 1}: it can't be read ({error}). Look at its quotes.") from None
    if not names:
        raise DataError(f"{who} is empty. Its first line names the columns, {columns.needed} among them.")
    return rows


def _known(text: str, delimiter: str, known: Sequence[str]) -> int:
    """How many known columns the first line of a table names, divided like this."""
    first = text.lstrip("\r\n").partition("\n")[0].rstrip("\r")
    return sum(cell.strip(' "').casefold() in known for cell in first.split(delimiter))


def _text(path: Path, who: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{who} can't be read ({error.strerror}).") from None
    if len(data) > _MAX_BYTES:
        raise DataError(f"{who} is larger than {_MAX_BYTES} bytes. Write it as Parquet, or divide it.")
    if b"\0" in data:
        raise DataError(f"{who} is no text in UTF-8: it holds NUL bytes. Save it as UTF-8 (Excel: 'CSV UTF-8').")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _parquet_rows(path: Path, who: str, columns: Columns) -> list[TableRow]:
    with parquet_file(path, who) as file:
        names = columns.check(file.schema_arrow.names, who)
        if file.metadata.num_rows > _MAX_ROWS:
            raise DataError(f"{who} holds {file.metadata.num_rows} rows; {_MAX_ROWS} are allowed.")
        values = [column.to_pylist() for column in file.read().columns]
    return list(_rows(names, values, who))


def _rows(names: Sequence[str], columns: Sequence[Sequence[Any]], who: str) -> Iterable[TableRow]:
    for number, values in enumerate(zip(*columns, strict=True), start=1):
        where = f"row {number}"
        cells = {name: _cell(value, f"{who}, {where}: '{name}'") for name, value in zip(names, values, strict=True)}
        yield TableRow(where, cells)


def _cell(value: object, where: str) -> str:
    """A cell as text. Whole numbers that pandas made fractions, for want of a whole missing value, are whole again."""
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where} must be a text or a number, not {type(value).__name__}.")

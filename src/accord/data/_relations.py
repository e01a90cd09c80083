"""Tables of pairs and triplets of images: who belongs with whom, in place of classes; mistakes are told by row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from accord.data._names import printable
from accord.data._tabular import TABLES, Columns, TableRow, table_rows
from accord.errors import DataError, UnknownNameError

TRIPLETS, PAIRS, JUDGED = ("anchor", "positive", "negative"), ("anchor", "positive"), ("first", "second", "same")
_LAYOUTS = (TRIPLETS, PAIRS, JUDGED)
_KNOWN = (*TRIPLETS, *JUDGED)
_WANTED = "anchor, positive, negative (triplets), anchor, positive (pairs), or first, second, same (judged pairs)"
_SAME = {"1": True, "true": True, "same": True, "0": False, "false": False, "different": False}


class Said(NamedTuple):
    """One row: `together` names two images that belong together, `apart` two that don't; each may be missing.

    `images` are those of a triplet (anchor, positive, negative) or a pair (anchor, positive) to learn from.
    """

    where: str
    images: tuple[str, ...]
    together: tuple[str, str] | None
    apart: tuple[str, str] | None


def read_relations(path: Path) -> list[Said]:
    """The rows of a `.csv`, `.tsv` or `.parquet` table of triplets or pairs, as they stand.

    Columns: `anchor,positive,negative`, `anchor,positive`, or `first,second,same`, of which only rows with same = 1
    are learned from. Raises DataError naming the row, or the column that is missing, for anything else.
    """
    who = f"relations: the table '{printable(path.name)}'"
    if path.suffix.lower() not in TABLES:
        raise DataError(f"{who}: a table ends in {', '.join(TABLES)}.")
    rows = table_rows(path, who, Columns(_KNOWN, "anchor and positive", _check_columns))
    return [_said(row, f"{who}, {row.where}") for row in rows]


def relation_kind(path: Path) -> Literal["pairs", "triplets"]:
    """Whether a table holds pairs or triplets."""
    return "triplets" if any(len(row.images) == len(TRIPLETS) for row in read_relations(path)) else "pairs"


def _check_columns(names: Sequence[str], who: str) -> list[str]:
    names = [name.strip().casefold() for name in names]
    for name in names:
        if name not in _KNOWN:
            raise DataError(f"{who}: {UnknownNameError('column', printable(name[:80]), _KNOWN)}\n  Wanted: {_WANTED}.")
    if not any(sorted(names) == sorted(layout) for layout in _LAYOUTS):
        raise DataError(f"{who} has the columns {', '.join(names)}, each once; wanted are {_WANTED}.")
    return names


def _said(row: TableRow, where: str) -> Said:
    cells = row.cells
    empty = [name for name, cell in cells.items() if not cell.strip()]
    if empty:
        raise DataError(f"{where}: nothing stands below {', '.join(empty)}.")
    if "same" in cells:
        word = cells["same"].strip().casefold()
        if word not in _SAME:
            raise DataError(f"{where}: same must be one of {', '.join(_SAME)}, not '{printable(word[:80])}'.")
        pair = cells["first"], cells["second"]
        return Said(row.where, pair, pair, None) if _SAME[word] else Said(row.where, (), None, pair)
    images = tuple(cells[name] for name in TRIPLETS if name in cells)
    return Said(row.where, images, images[:2], (images[0], images[2]) if len(images) == 3 else None)  # type: ignore[arg-type]

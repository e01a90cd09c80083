"""Packs thumbnails into one picture that fits inside the page."""

import base64
from collections.abc import Iterable
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from accord.reports._inputs import Thumbnails
from accord.types import Json

MOST_TILES = 4000
LARGEST_SIDE = 96
BUDGET_BYTES = 2_200_000  # a third more in base64: the page stays under 4 MB
# best first; sides are multiples of 16, so that no compression block spans two tiles
_ATTEMPTS = ((96, 86), (96, 72), (80, 72), (64, 80), (64, 60), (48, 60), (48, 40), (32, 40))


class Sprite(NamedTuple):
    """One picture holding all thumbnails: its data address, the grid's columns and rows, each item id's place."""

    address: str
    columns: int
    rows: int
    place: dict[int, int]


def make_sprite(thumbnails: Thumbnails, wanted: Iterable[int], *, budget_bytes: int = BUDGET_BYTES) -> Sprite | None:
    """Pack the wanted items' thumbnails, in order of need, at the best quality that keeps within the budget."""
    row_of = thumbnails.rows
    chosen = [item for item in dict.fromkeys(wanted) if item in row_of][:MOST_TILES]
    if not chosen:
        return None
    pixels = thumbnails.array[[row_of[item] for item in chosen]]
    columns = int(np.ceil(np.sqrt(len(chosen))))
    rows = -(-len(chosen) // columns)
    encoded = b""
    for side, quality in _attempts(pixels.shape[1]):
        encoded = _encode(_grid(pixels, columns, rows, side), quality)
        if len(encoded) <= budget_bytes:
            break
    address = "data:image/webp;base64," + base64.b64encode(encoded).decode()
    return Sprite(address, columns, rows, {item: place for place, item in enumerate(chosen)})


def _attempts(side: int) -> list[tuple[int, int]]:
    """The attempts that don't enlarge; small pictures keep their own size at the best quality."""
    fitting = [attempt for attempt in _ATTEMPTS if attempt[0] <= side]
    return fitting if side in {size for size, _ in fitting} or side > LARGEST_SIDE else [(side, 86), *fitting]


def _grid(pixels: np.ndarray, columns: int, rows: int, side: int) -> Image.Image:
    sheet = Image.new("RGB", (columns * side, rows * side), (128, 128, 128))
    for place, picture in enumerate(pixels):
        tile = Image.fromarray(picture)
        if tile.width != side:
            tile = tile.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(tile, (place % columns * side, place // columns * side))
    return sheet


def _encode(sheet: Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()


def wanted_items(report: Json) -> list[int]:
    """Item ids in order of need: mistakes and their neighbours first, then whatever else the map shows."""
    pairs = [item for pair in report["confused"] for example in pair["examples"] for item in example]
    seen = [item for query in report["queries"] for item in _with_neighbours(query)]
    return [*pairs, *seen, *report["map"]["item"]]


def _with_neighbours(query: Json) -> list[int]:
    return [query["id"], *(neighbour["id"] for neighbour in query["neighbours"])]

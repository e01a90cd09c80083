"""Draws a query beside its neighbours: as one PNG picture, or with coloured half blocks in a terminal."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from rich.columns import Columns
from rich.console import Console, Group
from rich.text import Text

from accord.errors import ResourceError

TILE, CAPTION, GAP = 160, 34, 12
TERMINAL_SIDE = 20


def contact_sheet(pictures: Sequence[bytes], captions: Sequence[str], out: Path) -> None:
    """Write encoded pictures side by side, each with its caption below, as one PNG file."""
    width = len(pictures) * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, TILE + CAPTION + 2 * GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = GAP + place * (TILE + GAP)
        tile = _fitted(picture, TILE)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, GAP + (TILE - tile.height) // 2))
        pen.multiline_text((left, TILE + GAP + 6), caption[:60], fill="black")
    try:
        sheet.save(out, format="PNG")
    except OSError as problem:
        raise ResourceError(f"can't write {out}: {problem.strerror or problem}.") from None


def terminal_picture(pictures: Sequence[bytes], captions: Sequence[str], *, console: Console | None = None) -> None:
    """Draw small pictures in a terminal that has colours; elsewhere draw nothing."""
    console = console or Console()
    if not console.is_terminal or console.color_system in (None, "standard"):
        return
    tiles = [
        Group(_blocks(picture), Text(caption[:TERMINAL_SIDE]))
        for picture, caption in zip(pictures, captions, strict=True)
    ]
    console.print(Columns(tiles, padding=(0, 2)))


def _fitted(picture: bytes, side: int) -> Image.Image:
    tile = Image.open(io.BytesIO(picture)).convert("RGB")
    scale = side / max(tile.size)
    return tile.resize(
        (max(1, round(tile.width * scale)), max(1, round(tile.height * scale))), Image.Resampling.LANCZOS
    )


def _blocks(picture: bytes) -> Text:
    """Two pixel rows per line of text: the upper as foreground, the lower as background of a half block."""
    pixels = _fitted(picture, TERMINAL_SIDE).resize((TERMINAL_SIDE, TERMINAL_SIDE)).load()
    assert pixels is not None
    text = Text()
    for row in range(0, TERMINAL_SIDE, 2):
        for column in range(TERMINAL_SIDE):
            upper, lower = pixels[column, row], pixels[column, row + 1]
            text.append("▀", style=f"{_hex(upper)} on {_hex(lower)}")
        text.append("\n")
    return text


def _hex(colour: object) -> str:
    assert isinstance(colour, tuple)
    return "#" + "".join(f"{int(part):02x}" for part in colour[:3])

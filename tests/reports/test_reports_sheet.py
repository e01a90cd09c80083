"""Neighbours are drawn as a picture, and in terminals that can show one."""

from io import BytesIO, StringIO

import pytest
from PIL import Image
from rich.console import Console

from accord.errors import ResourceError
from accord.reports import contact_sheet, terminal_picture


@pytest.fixture
def picture() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 20), (200, 10, 10)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_sheet_shows_every_picture_in_its_colours(picture, tmp_path):
    contact_sheet([picture, picture, picture], ["query", "one", "two"], tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    reds = [x for x in range(sheet.width) if sheet.getpixel((x, 12 + 80)) == (200, 10, 10)]
    assert len(reds) == 3 * 160


def test_a_sheet_that_can_not_be_written_is_named(picture, tmp_path):
    with pytest.raises(ResourceError, match=r"absent.*sheet\.png"):
        contact_sheet([picture], ["query"], tmp_path / "absent" / "sheet.png")


@pytest.mark.parametrize(("colours", "drawn"), [("truecolor", True), ("standard", False)])
def test_a_terminal_gets_colours_only_where_it_has_them(picture, colours, drawn):
    out = StringIO()
    terminal_picture(
        [picture], ["query"], console=Console(file=out, force_terminal=True, color_system=colours, width=80)
    )
    assert ("▀" in out.getvalue()) == ("200;10;10" in out.getvalue()) == drawn


def test_a_file_gets_nothing(picture):
    out = StringIO()
    terminal_picture([picture], ["query"], console=Console(file=out))
    assert out.getvalue() == ""

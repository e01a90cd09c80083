"""Writes a report into a run folder."""

import json
import os
from contextlib import suppress
from pathlib import Path

from accord.errors import ResourceError
from accord.reports._html import render_html
from accord.reports._inputs import Thumbnails
from accord.types import Json


def write_report(folder: Path, report: Json, thumbnails: Thumbnails | None = None) -> tuple[Path, Path]:
    """Write `report.json` and `report.html` into a folder and return both paths.

    Each file is replaced as a whole, so a reader never sees half of one; where the disk is full the old one survives.
    """
    folder = Path(folder)
    contents = {
        "report.json": json.dumps(report, allow_nan=False, indent=1) + "\n",
        "report.html": render_html(report, thumbnails),
    }
    for name, content in contents.items():
        replace_file(folder / name, content.encode())
    return folder / "report.json", folder / "report.html"


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole: its old contents stay until the new ones are safely on the disk."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as problem:
        raise ResourceError(
            f"can't write {path} ({len(content):,} bytes): {problem.strerror or problem}.\n"
            "  Make room, or give a folder that can be written to."
        ) from problem
    finally:
        with suppress(OSError):  # the first trouble is the one to tell
            beside.unlink()

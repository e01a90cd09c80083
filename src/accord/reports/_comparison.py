"""Writes a comparison to the files its user asked for."""

import json
from pathlib import Path

from accord.reports._comparison_page import comparison_html
from accord.reports._write import replace_file
from accord.types import Json


def write_comparison(document: Json, *, json_file: Path | None = None, html_file: Path | None = None) -> list[Path]:
    """Write the JSON, the page or both, each replaced as a whole; returns what was written."""
    contents = {json_file: _json, html_file: comparison_html}
    written = []
    for path, render in contents.items():
        if path is not None:
            replace_file(path, render(document).encode())
            written.append(path)
    return written


def _json(document: Json) -> str:
    return json.dumps(document, allow_nan=False, indent=1) + "\n"

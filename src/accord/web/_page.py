"""The page's own files, read once from the package: the HTML templates, one style sheet, one script, one icon."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined

STATIC_TYPES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_TEMPLATES = ("layout.html", "page.html", "sign_in.html")


def _read(folder: str, name: str) -> str:
    return files("accord.web").joinpath(folder, name).read_text("utf-8")


@cache
def static_file(name: str) -> str:
    """The text of one of the page's files; a name outside the fixed list is a `LookupError`."""
    if name not in STATIC_TYPES:
        raise LookupError(name)
    return _read("static", name)


@cache
def static_stamp() -> str:
    """A short hash of the page's files, so that browsers keep them until they change."""
    return hashlib.sha256("".join(map(static_file, STATIC_TYPES)).encode()).hexdigest()[:12]


@cache
def _templates() -> Environment:
    loader = DictLoader({name: _read("templates", name) for name in _TEMPLATES})
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, **values: Any) -> str:
    """Fill a template; every value is escaped."""
    return _templates().get_template(template).render(stamp=static_stamp(), **values)


def readable(text: str) -> str:
    """A label or path as text any browser takes: bytes of a file name that are no text become a replacement mark."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

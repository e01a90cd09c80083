"""Renders a report as one self-contained page."""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from string import Template

from accord.errors import ArtifactError
from accord.reports._cards import cards, hint, lede, sentence
from accord.reports._escape import escape
from accord.reports._facts import facts, when
from accord.reports._heads import heads_section
from accord.reports._inputs import Thumbnails
from accord.reports._report import SCHEMA_VERSION
from accord.reports._sprite import Sprite, make_sprite, wanted_items
from accord.types import Json

_SCRIPTS = ("core.js", "charts.js", "training.js", "map.js", "lists.js")
_SECTIONS = {
    "recall": "Recall",
    "training": "Training",
    "heads": "Heads",
    "map": "Map",
    "queries": "Queries",
    "confused": "Confusions",
    "classes": "Classes",
    "made": "How it was made",
}
# what the page's scripts read; the rest is already in the HTML
_DRAWN = ("recall_curve", "history", "map", "items", "queries", "confused", "classes")


def render_html(report: Json, thumbnails: Thumbnails | None = None) -> str:
    """Render a report as one HTML file that opens offline and asks the network for nothing.

    Its content security policy forbids every request and every script but its own. Everything a user named is escaped
    or set as text. Thumbnails are packed into one picture of at most about 2 MB; without them, names stand in.
    """
    if report.get("schema_version") != SCHEMA_VERSION:
        raise ArtifactError(
            f"report: can't draw schema_version {report.get('schema_version')!r}; this version of accord draws "
            f"{SCHEMA_VERSION}.\n  Evaluate the run again to write a new report."
        )
    sprite = make_sprite(thumbnails, wanted_items(report)) if thumbnails else None
    script, heads = _script(), heads_section(report)
    return Template(page_file("page.html")).substitute(
        title=escape(report["title"]),
        run=escape(report["run"]),
        version=escape(report["accord_version"]),
        created=escape(report["created"]),
        created_words=escape(when(report["created"])),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        css=page_file("page.css") + _sprite_rule(sprite),
        nav="".join(f'<a href="#{key}">{name}</a>' for key, name in _SECTIONS.items() if key != "heads" or heads),
        notes=_notes(report),
        sentence=sentence(report),
        lede=lede(report),
        cards=cards(report),
        hint=hint(report),
        heads=heads,
        facts=facts(report),
        data=_data(report, sprite),
        js=script,
    )


@cache
def page_file(name: str) -> str:
    """A file of the page's own: template, style or script."""
    return (files("accord.reports") / "page" / name).read_text("utf-8")


@cache
def _script() -> str:
    return "(() => {\n" + "\n".join(page_file(name) for name in _SCRIPTS) + "})();\n"


def _sprite_rule(sprite: Sprite | None) -> str:
    return f'\n.pictured {{ background-image: url("{sprite.address}"); }}\n' if sprite else ""


def _notes(report: Json) -> str:
    if not report["notes"]:
        return ""
    lines = "".join(f"<li>{escape(note)}</li>" for note in report["notes"])
    return f'<aside class="notes" aria-label="Warnings"><ul>{lines}</ul></aside>'


def _data(report: Json, sprite: Sprite | None) -> str:
    """The data of the page as JSON in which nothing can end the script element it lies in."""
    drawn: Json = {key: report[key] for key in _DRAWN}
    if sprite:
        place = {str(item): place for item, place in sprite.place.items()}
        drawn["sprite"] = {"columns": sprite.columns, "rows": sprite.rows, "place": place}
    dumped = json.dumps(drawn, allow_nan=False, separators=(",", ":"))  # ASCII only: U+2028 is escaped already
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

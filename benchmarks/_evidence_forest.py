"""Draws differences with their intervals as SVG by hand: a row for each, under the question that it answers."""

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from _evidence_plot import STYLES, picture, ticks

WIDTH, MARGIN = 840, 14
ROW, HEAD = 26, 30  # pixels of a row, and of a question above its rows
TOP, BOTTOM = 38, 46
LETTER = 6.4  # pixels, on average
APART = 9  # pixels between the marks of a row
HALO = 'stroke="#fff" stroke-width="5" paint-order="stroke"'  # words over a line


class Mark(NamedTuple):
    """A difference and its interval."""

    middle: float
    low: float
    high: float


class Line(NamedTuple):
    """One row: its label, and a mark for each metric."""

    label: str
    marks: Sequence[Mark]


class Group(NamedTuple):
    """A question, and a row for each that answers it; without a title the rows speak for themselves."""

    title: str
    lines: Sequence[Line]


def draw_forest(groups: Sequence[Group], *, metrics: Sequence[str], x: str, description: str) -> str:
    """The picture as SVG text: what lies to the right of zero speaks for the first side."""
    lines = [line for group in groups for line in group.lines]
    left = MARGIN + LETTER * max((len(line.label) for line in lines), default=0) + 16
    ends = [end for line in lines for mark in line.marks for end in mark if not math.isnan(end)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.05 * (high - low) or 1.0
    scale = _Scale(left, low - room, high + room)
    body, at = [], float(TOP)
    for group in groups:
        if group.title:
            body.append(f'<text x="{MARGIN}" y="{at + 20:g}" font-weight="bold" {HALO}>{escape(group.title)}</text>')
            at += HEAD
        for line in group.lines:
            body.append(_row(line, at + ROW / 2, scale))
            at += ROW
    drawn = _legend(metrics, left) + _axis(scale, at, x) + "\n".join(body)
    return picture((WIDTH, at + BOTTOM), description, drawn)


class _Scale(NamedTuple):
    """Where a number of points lies."""

    left: float
    low: float
    high: float

    def at(self, points: float) -> float:
        return self.left + (WIDTH - MARGIN - self.left) * (points - self.low) / (self.high - self.low)


def _legend(metrics: Sequence[str], left: float) -> str:
    parts = []
    for number, name in enumerate(metrics):
        parts.append(f'<g transform="translate({left + 90 * number:g} 20)">')
        parts.append(f'{_shape(number, 13, 0)}<path d="M0 0H26" stroke="{STYLES[number][0]}" stroke-width="2"/>')
        parts.append(f'<text x="34" y="4">{escape(name)}</text></g>')
    return "".join(parts) + "\n"


def _axis(scale: _Scale, bottom: float, x: str) -> str:
    parts = []
    for tick in ticks(scale.low, scale.high):
        at = f"{scale.at(tick):.1f}"
        colour = "#222" if tick == 0 else "#ddd"
        parts.append(f'<path d="M{at} {TOP}V{bottom:g}" stroke="{colour}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 17:g}" text-anchor="middle">{_signed(tick)}</text>')
    middle = (scale.left + WIDTH - MARGIN) / 2
    return "".join(parts) + f'<text x="{middle:g}" y="{bottom + 36:g}" text-anchor="middle">{escape(x)}</text>\n'


def _row(line: Line, middle: float, scale: _Scale) -> str:
    label = f'<text x="{scale.left - 10:g}" y="{middle + 4:g}" text-anchor="end">{escape(line.label)}</text>'
    first = middle - APART * (len(line.marks) - 1) / 2
    return label + "".join(_mark(mark, number, first + APART * number, scale) for number, mark in enumerate(line.marks))


def _mark(mark: Mark, number: int, y: float, scale: _Scale) -> str:
    if math.isnan(mark.middle):
        return ""
    bar = ""
    if not math.isnan(mark.low):
        ends = f"M{scale.at(mark.low):.1f} {y:g}H{scale.at(mark.high):.1f}"
        bar = f'<path d="{ends}" stroke="{STYLES[number][0]}" stroke-width="2"/>'
    return bar + _shape(number, scale.at(mark.middle), y)


def _shape(number: int, x: float, y: float) -> str:
    """A disc for the first metric and squares for others, so that colour is not all that tells them apart."""
    colour = STYLES[number][0]
    if number == 0:
        return f'<circle cx="{x:.1f}" cy="{y:g}" r="3.6" fill="{colour}"/>'
    return f'<rect x="{x - 3.3:.1f}" y="{y - 3.3:g}" width="6.6" height="6.6" fill="{colour}"/>'


def _signed(points: float) -> str:
    return f"{points:+g}".replace("-", "−") if points else "0"

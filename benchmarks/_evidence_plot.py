"""Draws curves with bands as SVG by hand: one panel per data set, on white, told apart by colour and by dashes."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

Row = tuple[float, float, float, float]

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 34, 44
LEGEND = 24
COLUMNS = 2
STYLES = (
    ("#0072b2", ""),
    ("#d55e00", "7 3"),
    ("#009e73", "2 3"),
    ("#a23b87", "9 3 2 3"),
    ("#7a5c00", "4 2"),
    ("#444444", "12 4"),
)  # after Okabe and Ito's colours, darkened where white asks for it


class Panel(NamedTuple):
    """One data set: its name, and for each line (step, mean, low, high), a band of NaN where there is none."""

    title: str
    lines: Mapping[str, Sequence[Row]]


class _Frame(NamedTuple):
    """Where numbers lie in a panel."""

    steps: tuple[float, float]
    scores: tuple[float, float]

    def x(self, step: float) -> float:
        first, last = self.steps
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)

    def y(self, score: float) -> float:
        low, high = self.scores
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (score - low) / (high - low)

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{self.x(step):.1f} {self.y(score):.1f}" for step, score in points)


def draw(panels: Sequence[Panel], *, x: str, y: str, description: str) -> str:
    """The picture as SVG text; scores are fractions and shown in percent."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    columns = min(COLUMNS, len(panels))
    rows, rest = -(-len(panels) // columns), _legend(names, columns * WIDTH)
    top = 8 + LEGEND * rest.count("</g>")
    size = (columns * WIDTH, top + rows * HEIGHT)
    parts = [
        f'<g transform="translate({place % columns * WIDTH} {top + place // columns * HEIGHT})">'
        + _panel(panel, names, x, y)
        + "</g>"
        for place, panel in enumerate(panels)
    ]
    return picture(size, description, rest + "\n".join(parts))


def picture(size: tuple[float, float], description: str, body: str) -> str:
    """What is drawn, as a whole file: on white, and with words for whoever can't see it."""
    width, height = (f"{side:g}" for side in size)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" font-family="sans-serif" font-size="12" fill="#222">\n'
        f"<title>{escape(description)}</title>\n"
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _legend(names: Sequence[str], width: int) -> str:
    """The names of the lines beside a piece of each, in as many rows as they need; each row is a group."""
    rows: list[str] = [""]
    at = LEFT
    for name in names:
        need = 46 + 7 * len(name)
        if rows[-1] and at + need > width:
            rows.append("")
            at = LEFT
        sample = f'<path d="M{at} 0h26" {_stroke(names.index(name))}/>'
        rows[-1] += f'{sample}<text x="{at + 32}" y="4">{escape(name)}</text>'
        at += need
    return "".join(f'<g transform="translate(0 {18 + LEGEND * row})">{text}</g>\n' for row, text in enumerate(rows))


def _panel(panel: Panel, names: Sequence[str], x: str, y: str) -> str:
    rows = [row for line in panel.lines.values() for row in line]
    if not rows:
        return f'<text x="{LEFT}" y="20">{escape(panel.title)}: nothing was validated</text>'
    values = [value for row in rows for value in row[1:] if not math.isnan(value)]
    low, high = max(0.0, min(values)), min(1.0, max(values))
    room = 0.04 * (high - low) or 0.01
    steps = min(row[0] for row in rows), max(row[0] for row in rows)
    frame = _Frame(steps if steps[0] < steps[1] else (steps[0] - 1, steps[1] + 1), (low - room, high + room))
    bands = "".join(_band(frame, line, names.index(name)) for name, line in panel.lines.items())
    lines = "".join(_line(frame, line, names.index(name)) for name, line in panel.lines.items())
    title = f'<text x="{LEFT}" y="20" font-weight="bold">{escape(panel.title)}</text>'
    return title + _axes(frame, x, y) + bands + lines


def _axes(frame: _Frame, x: str, y: str) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in ticks(100 * frame.scores[0], 100 * frame.scores[1]):
        at = f"{frame.y(tick / 100):.1f}"
        parts.append(f'<path d="M{LEFT} {at}H{right}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(at) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(*frame.steps):
        parts.append(f'<text x="{frame.x(tick):.1f}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<path d="M{LEFT} {bottom}H{right}" stroke="#222"/>')
    parts.append(f'<text x="{middle:g}" y="{bottom + 36}" text-anchor="middle">{escape(x)}</text>')
    turned = f'transform="translate(14 {(TOP + bottom) / 2:g}) rotate(-90)" text-anchor="middle"'
    return "".join(parts) + f"<text {turned}>{escape(y)}</text>"


def _band(frame: _Frame, line: Sequence[Row], number: int) -> str:
    """The interval around a line, cut off at 0 and 1."""
    known = [row for row in line if not math.isnan(row[2])]
    if len(known) < 2:
        return ""
    low, high = frame.scores
    upper = [(row[0], min(row[3], high)) for row in known]
    lower = [(row[0], max(row[2], low)) for row in reversed(known)]
    return f'<path d="{frame.path([*upper, *lower])}Z" fill="{STYLES[number % len(STYLES)][0]}" fill-opacity="0.13"/>'


def _line(frame: _Frame, line: Sequence[Row], number: int) -> str:
    if not line:
        return ""
    colour, _ = STYLES[number % len(STYLES)]
    dots = "".join(f'<circle cx="{frame.x(row[0]):.1f}" cy="{frame.y(row[1]):.1f}" r="2.2"/>' for row in line)
    path = frame.path([(row[0], row[1]) for row in line])
    return f'<path d="{path}" {_stroke(number)}/><g fill="{colour}">{dots}</g>'


def _stroke(number: int) -> str:
    colour, dashes = STYLES[number % len(STYLES)]
    return f'stroke="{colour}" stroke-width="2" fill="none"' + (f' stroke-dasharray="{dashes}"' if dashes else "")


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two others.

    >>> ticks(0.0, 9.0)
    [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(step * place, 9) for place in range(math.ceil(low / step), math.floor(high / step) + 1)]

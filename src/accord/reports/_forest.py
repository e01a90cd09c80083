"""Draws intervals one below the other on a common scale, as HTML that needs no script."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from accord.reports._escape import escape


class Row(NamedTuple):
    """One line of the plot: its name, mean and interval, the single values behind it, and what is said beside it."""

    name: str
    mean: float | None
    interval: Sequence[float] | None
    values: Sequence[float] = ()
    words: str = ""
    kind: str = ""


def forest(rows: Sequence[Row], *, unit: str, zero: bool = False, bar: float = 0.0) -> str:
    """Draw the rows; numbers are fractions and shown times a hundred, with their sign if `zero` is on the scale.

    A band around zero shows the practical bar.
    """
    numbers = [
        number for row in rows for number in (*(row.interval or ()), *row.values, row.mean) if number is not None
    ]
    numbers += [-bar, bar, 0.0] if zero else []
    low, high, ticks = _scale([100 * number for number in numbers])
    plot = _Plot(low, high)
    band = f'<i class="bar-band" style="{plot.span(-100 * bar, 100 * bar)}"></i>' if zero and bar else ""
    ground = "".join(f'<i class="tick" style="{plot.at(tick)}"></i>' for tick in ticks)
    ground += f'<i class="tick zero" style="{plot.at(0.0)}"></i>' if zero else ""
    labels = "".join(f'<span style="{plot.at(tick)}">{_told(tick, zero)}</span>' for tick in ticks)
    lines = "".join(_line(row, plot, band + ground) for row in rows)
    axis = f'<span></span><div class="plot">{labels}</div><span>{unit}</span>'
    return f'<div class="forest">{lines}<div class="forest-axis" aria-hidden="true">{axis}</div></div>'


class _Plot(NamedTuple):
    low: float
    high: float

    def place(self, value: float) -> float:
        return 100 * (value - self.low) / (self.high - self.low)

    def at(self, value: float) -> str:
        return f"left:{self.place(value):.3f}%"

    def span(self, low: float, high: float) -> str:
        return f"{self.at(low)};width:{self.place(high) - self.place(low):.3f}%"


def _line(row: Row, plot: _Plot, ground: str) -> str:
    low, high = (100 * bound for bound in row.interval) if row.interval else (0.0, 0.0)
    marks = f'<i class="reach" style="{plot.span(low, high)}"></i>' if row.interval else ""
    marks += "".join(f'<i class="seed" style="{plot.at(100 * value)}"></i>' for value in row.values)
    marks += f'<b style="{plot.at(100 * row.mean)}"></b>' if row.mean is not None else ""
    return (
        f'<div class="forest-row {row.kind}"><span class="name">{escape(row.name)}</span>'
        f'<div class="plot" aria-hidden="true">{ground}{marks}</div><span class="said">{row.words}</span></div>'
    )


def _scale(numbers: Sequence[float]) -> tuple[float, float, list[float]]:
    """Bounds a little wider than the numbers, and round ticks between them."""
    low, high = (min(numbers), max(numbers)) if numbers else (0.0, 1.0)
    room = max(high - low, 0.2) * 0.06
    low, high = low - room, high + room
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return low, high, [step * place for place in range(first, last + 1)]


def _told(tick: float, signed: bool) -> str:
    text = f"{round(abs(tick), 6):g}"
    if text == "0":
        return text
    return f"−{text}" if tick < 0 else f"+{text}" if signed else text

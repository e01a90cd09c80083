"""What the commands share for talking to people: progress bars on stderr, results on stdout."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WAIT_SECONDS = 1.0
IMPORTS = "Trust a run whose backbone is code of another package, and import it."


def print_json(value: Any) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(value, ensure_ascii=True, indent=1), flush=True)


class _Bars(Progress):
    """Bars, and below them on lines of their own the facts of the stage under way, so that they never squeeze a bar."""

    facts = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The table of bars, then the facts."""
        yield self.make_tasks_table(self.tasks)
        if self.facts:
            yield Padding(Text(self.facts, style="dim", overflow="fold"), (0, 2))


class Terminal:
    """A watch that draws on stderr; a stage shows its bar only once it has taken a second."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.bars: _Bars | None = None
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, float] = {}

    def head(self, text: str) -> None:
        """One line above what follows."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One dim line."""
        if not self.quiet:
            self.console.print(f"  {text}", style="dim", markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that stands out, even when quiet."""
        self.console.print(f"! {text}", style="yellow", markup=False, soft_wrap=True)

    def progress(self, stage: str, done: int, total: int, facts: Mapping[str, str] | None = None) -> None:
        """Move a stage's bar; without a terminal, print a line now and then instead."""
        if self.quiet or self.bars is None:
            return
        now = time.perf_counter()
        begin = self.began.setdefault(stage, now)
        text = "  ".join(f"{name} {value}" for name, value in (facts or {}).items())
        if not self.console.is_terminal:
            self._line(stage, done, total, text)
        elif stage in self.tasks or now - begin > WAIT_SECONDS:
            if stage not in self.tasks:
                self.tasks[stage] = self.bars.add_task(stage, total=total)
            self.bars.facts = text
            self.bars.update(self.tasks[stage], completed=done, total=total)
        if done >= total:
            self.began.pop(stage, None)
            if stage in self.tasks:
                self.bars.facts = ""
                self.bars.remove_task(self.tasks.pop(stage))

    def _line(self, stage: str, done: int, total: int, text: str) -> None:
        tenth = max(1, total // 10)
        if stage == "training" and (done % tenth == 0 or done == total):
            self.console.print(f"  {stage} {done}/{total}  {text}", style="dim", markup=False, soft_wrap=True)


@contextmanager
def terminal(*, quiet: bool = False) -> Iterator[Terminal]:
    """A Terminal whose bars live as long as the block."""
    shown = Terminal(quiet=quiet)
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with _Bars(*columns, console=shown.console, transient=True, disable=quiet or not shown.console.is_terminal) as bars:
        shown.bars = bars
        yield shown


def print_table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """A plain table on stdout, one row per dictionary."""
    from rich.markup import escape

    from accord.data import printable

    table = Table(title=escape(printable(title)), title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("name", "check"))
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console(highlight=False).print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    from accord.data import printable

    if value is None:
        return ""
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    # a class may be called anything, control characters of the terminal among it
    return escape(f"{value:.4g}" if isinstance(value, float) else printable(str(value)))

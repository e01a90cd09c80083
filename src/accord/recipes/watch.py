"""How a recipe tells whoever watches what it is doing; the command line draws it, a script may ignore it."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class Watch(Protocol):
    """Receives what a recipe says. Nothing a watch does changes a result."""

    def say(self, text: str) -> None:
        """One line of plain text."""

    def warn(self, text: str) -> None:
        """One line that the user should not miss."""

    def progress(self, stage: str, done: int, total: int, facts: Mapping[str, str] | None = None) -> None:
        """`done` of `total` parts of `stage` are finished; `facts` are shown beside the bar."""


def bar(watch: Watch, stage: str) -> Callable[[int, int], None]:
    """What tells a watch how far a stage is."""
    return lambda done, total: watch.progress(stage, done, total)


class Silence:
    """A watch that ignores everything."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def warn(self, text: str) -> None:
        """Ignore it."""

    def progress(self, stage: str, done: int, total: int, facts: Mapping[str, str] | None = None) -> None:
        """Ignore it."""

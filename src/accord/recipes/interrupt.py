"""Turns Ctrl-C and SIGTERM into a flag, so that a step is finished and saved before a run stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from accord.errors import AccordError


class StoppedError(AccordError):
    """The user or the system asked the run to stop; it was saved first."""

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class StopFlag:
    """Holds the number of the signal that asked to stop, or 0."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """First signal: remember it. Second: let Python interrupt at once."""
        if self.number:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Install the flag for SIGINT and SIGTERM while the block runs; elsewhere than in the main thread it stays down."""
    flag = StopFlag()
    if current_thread() is not main_thread():
        yield flag
        return
    before = {number: signal.signal(number, flag) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

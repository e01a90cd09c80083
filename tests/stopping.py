"""A watch that stops a run in its midst, as Ctrl-C would."""

import signal
from collections.abc import Mapping

from accord.recipes.watch import Silence


class StopAt(Silence):
    """Asks to stop when the training step of this number has been done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def progress(self, stage: str, done: int, total: int, facts: Mapping[str, str] | None = None) -> None:
        if stage == "training" and done == self.step:
            signal.raise_signal(signal.SIGINT)

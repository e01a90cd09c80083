"""Keeps Pillow's warnings away while images are decoded, whichever threads do it."""

import threading
import warnings


class Quiet:
    """A context without Pillow's warnings, so that neither screen nor result depends on the caller's filters.

    Python's own `catch_warnings` swaps one global list and would leave it wrong if threads entered and left by turns;
    here the first thread in changes the list and the last one out restores it.
    """

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._saved.__exit__(None, None, None)

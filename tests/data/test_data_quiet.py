"""Pillow's warnings are silenced while decoding and nothing else is, with any number of threads."""

import threading
import warnings

import pytest

from accord.data._quiet import Quiet


def _warn_as(module: str) -> None:
    exec("import warnings; warnings.warn('x', UserWarning)", {"__name__": module})


def test_silences_pillow_and_nobody_else() -> None:
    with Quiet():
        _warn_as("PIL.Image")
        with pytest.raises(UserWarning, match="x"):
            _warn_as("somebody.else")
    with pytest.raises(UserWarning, match="x"):
        _warn_as("PIL.Image")


def test_threads_that_enter_and_leave_by_turns_restore_the_filters() -> None:
    quiet, before = Quiet(), list(warnings.filters)
    first_in, second_in = threading.Event(), threading.Event()

    def first() -> None:
        with quiet:
            first_in.set()
            second_in.wait(5)

    thread = threading.Thread(target=first)
    thread.start()
    first_in.wait(5)
    with quiet:
        second_in.set()
        thread.join(5)
        _warn_as("PIL.Image")
    assert warnings.filters == before

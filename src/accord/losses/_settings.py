"""How the row engine works: in blocks of how many bytes, and whether autograd does everything."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch

from accord.checks import check_count
from accord.mining import DENSE_UP_TO

SLOTTED_UP_TO = 40 * 40


class Settings(NamedTuple):
    """`block_bytes` is the size of one row × column table; a loss keeps a few of them at a time.

    `dense_up_to` is the number of pairs up to which labels are compared at once instead of being sorted.
    """

    block_bytes: int = 2**20
    plain: bool = False
    dense_up_to: int = DENSE_UP_TO


_SETTINGS: ContextVar[Settings] = ContextVar("accord_row_engine", default=Settings())  # noqa: B039


def dense_up_to(rule: object) -> int:
    """Up to how many pairs labels are compared for a rule: none if its cost grows with the slots."""
    slotted = getattr(rule, "slotted", False) or getattr(rule, "tables", 0)
    here = settings().dense_up_to
    return min(here, SLOTTED_UP_TO) if slotted and here <= DENSE_UP_TO else here


def settings() -> Settings:
    """What is in force here; a compiled graph is always plain."""
    return Settings(plain=True) if torch.compiler.is_compiling() else _SETTINGS.get()


@contextmanager
def row_engine(
    *, block_bytes: int = Settings().block_bytes, plain: bool = False, dense_up_to: int = DENSE_UP_TO
) -> Iterator[None]:
    """Inside, losses work in blocks of `block_bytes`, or with `plain=True` in one piece that autograd follows.

    The value is the same either way, up to rounding. Plain needs memory for batch × batch numbers many times over; it
    is the reference that tests hold the engine against, and what a compiled graph uses by itself.
    """
    check_count("row_engine", "block_bytes", block_bytes, high=2**63)
    check_count("row_engine", "dense_up_to", dense_up_to, low=0)
    token = _SETTINGS.set(Settings(block_bytes, plain, dense_up_to))
    try:
        yield
    finally:
        _SETTINGS.reset(token)

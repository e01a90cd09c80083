"""Deep metric learning, from images to an index: one loss, or many in accord.

The names below are loaded when first used, so that importing accord costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Embedder": "accord.models",
    "ExactIndex": "accord.index",
    "build_loss": "accord.recipes",
    "check_loss": "accord.losses",
    "evaluate": "accord.evaluation",
    "load": "accord.recipes",
    "row_engine": "accord.losses",
    "train_run": "accord.recipes",
    "tune": "accord.recipes",
}

__all__ = [
    "Embedder",
    "ExactIndex",
    "__version__",
    "build_loss",
    "check_loss",
    "evaluate",
    "load",
    "row_engine",
    "train_run",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'accord' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)

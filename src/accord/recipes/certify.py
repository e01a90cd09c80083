"""Writes the certificate of a loss by name: one of the catalogue, or one that another package makes."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from accord.errors import UsageError
from accord.losses import Certificate, check_loss
from accord.recipes.catalog.losses import build_loss

DIM, CLASSES = 6, 5
NEEDED = {"dim": DIM, "classes": CLASSES, "embedding_size": DIM, "num_classes": CLASSES}


def certify(
    name: str, *, compiled: bool = False, exempt: Mapping[str, str] | None = None, **options: Any
) -> Certificate:
    """Examine a loss: a name of the catalogue, or `package.module:factory`, which is imported and called.

    A factory is given those of `dim`, `classes` (or `embedding_size`, `num_classes`) that it asks for, and the options.
    """
    if ":" in name:
        objective = _made(name, _factory(name), options)
    else:
        objective = build_loss(name, dim=DIM, classes=CLASSES, **options)
    known: dict[str, Any] = {"dim": DIM, "classes": CLASSES, "compiled": compiled, "exempt": exempt}
    return check_loss(objective, **known, strict=False, name=name, show=None)


def _factory(name: str) -> Callable[..., Any]:
    home, _, attribute = name.partition(":")
    try:
        found: Any = import_module(home)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"'{name}' can't be imported: {error}.\nWrite package.module:factory.") from error
    if not callable(found):
        raise UsageError(f"'{name}' is no function or class that makes a loss, but {type(found).__name__}.")
    made: Callable[..., Any] = found
    return made


def _made(name: str, factory: Callable[..., Any], options: dict[str, Any]) -> Any:
    try:
        # a class may hand what it does not name to the class above it
        makers = (
            [vars(kind).get("__init__", kind) for kind in inspect.getmro(factory)[:-1]]
            if isinstance(factory, type)
            else [factory]
        )
        asked = {key for maker in makers for key in inspect.signature(maker).parameters}
        needs = {key: value for key, value in NEEDED.items() if key in asked}
        return factory(**{**needs, **options})
    except (TypeError, ValueError) as error:
        raise UsageError(f"'{name}' does not make a loss from {', '.join(NEEDED)}: {error}.") from error

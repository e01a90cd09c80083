"""A catalogued thing made of its options, whose faults are told by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from accord.errors import AccordError, UsageError


def made(name: str, factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What the factory makes of the options; what it raises is a UsageError that names it and the options."""
    try:
        return factory(**options)
    except AccordError:
        raise
    except (TypeError, ValueError, AttributeError, AssertionError, LookupError) as error:
        if not isinstance(error, TypeError) or _fits(factory, options):
            given = ", ".join(f"{option}={value!r}" for option, value in options.items())
            raise UsageError(f"{name} can't be made with {given or 'no options'}: {error}.") from error
        raise UsageError(f"{name}: {error}.") from None


def _fits(factory: Callable[..., Any], options: Mapping[str, Any]) -> bool:
    """Whether there is an option of each name, so that a fault must lie in a value."""
    try:
        inspect.signature(factory).bind(**options)
    except (TypeError, ValueError):
        return False
    return True

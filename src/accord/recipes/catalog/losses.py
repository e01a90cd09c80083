"""Every loss by name: the merged catalogue, building one with its options checked, and describing all as plain data."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from accord.errors import ResourceError, UnknownNameError, UsageError
from accord.losses import Foreign
from accord.recipes.catalog.classes import LOSSES as CLASSES
from accord.recipes.catalog.info import LossInfo
from accord.recipes.catalog.lists import LOSSES as LISTS
from accord.recipes.catalog.pairs import LOSSES as PAIRS
from accord.recipes.catalog.proxies import LOSSES as PROXIES
from accord.recipes.catalog.regularisers import LOSSES as REGULARISERS
from accord.recipes.catalog.tuples import LOSSES as TUPLES
from accord.recipes.catalog.weighted import LOSSES as WEIGHTED
from accord.recipes.made import made

LOSSES: dict[str, LossInfo] = {**PAIRS, **TUPLES, **WEIGHTED, **LISTS, **PROXIES, **CLASSES, **REGULARISERS}

# what other libraries call what ours call `dim` and `classes`
_FOREIGN_NAMES = {"dim": ("embedding_size", "dim"), "classes": ("num_classes", "classes")}


def build_loss(
    name: str,
    *,
    dim: int | None = None,
    classes: int | None = None,
    preset: str | None = None,
    generator: torch.Generator | None = None,
    **options: Any,
) -> nn.Module:
    """Build a loss by its catalogued name, or another package's by `package.module:factory`; options are checked.

    `dim`, `classes` and `generator`, which draws their first values, go to the losses that learn a vector per class.
    `preset` takes the options published for a data set (`cub`, `cars`, `sop`, where there are any), over which
    `options` win. Raises UnknownNameError with a suggestion, or UsageError.
    """
    if not isinstance(name, str):
        raise UsageError(f"build_loss: name must be that of a loss, or package.module:factory, not {name!r}.")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise UsageError(f"build_loss: generator must be a torch.Generator, not {generator!r}.")
    if ":" in name:
        return _build_foreign(name, dim, classes, preset, options)
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    info = LOSSES[name]
    factory = _load(info.path)
    learned: dict[str, Any] = {}
    if "classes" in info.needs:
        if dim is None or classes is None:
            raise UsageError(f"{name} learns one vector per class: give dim= and classes=.")
        learned = {"dim": dim, "classes": classes}
        if "generator" in inspect.signature(factory).parameters:
            learned["generator"] = generator
    options = {**_preset(name, info, preset), **options}
    known = [option for option in inspect.signature(factory).parameters if option != "generator"]
    for option in options:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    built: nn.Module = made(name, factory, {**learned, **options})
    return built


def describe_losses() -> list[dict[str, Any]]:
    """Every loss as plain data: name, family, import path, parameters with default and meaning, paper, year, needs."""
    return [
        {
            "name": name,
            **info._asdict(),
            "needs": list(info.needs),
            "presets": {name: dict(options) for name, options in info.presets.items()},
            "parameters": _parameters(info),
        }
        for name, info in LOSSES.items()
    ]


def _preset(name: str, info: LossInfo, preset: str | None) -> Mapping[str, Any]:
    if preset is None:
        return {}
    if not isinstance(preset, str) or preset not in info.presets:
        raise UnknownNameError(f"preset of {name}", preset, info.presets)
    return info.presets[preset]


def _build_foreign(
    name: str, dim: int | None, classes: int | None, preset: str | None, options: Mapping[str, Any]
) -> nn.Module:
    if preset is not None:
        raise UsageError(f"{name}: presets belong to accord's own losses; give the options one by one.")
    factory = _foreign_factory(name)
    try:
        wanted: Mapping[str, inspect.Parameter] = inspect.signature(factory).parameters
    except ValueError:  # some that are not written in Python don't tell
        wanted = {}
    given = dict(options)
    for ours, value in (("dim", dim), ("classes", classes)):
        theirs = next((other for other in _FOREIGN_NAMES[ours] if other in wanted), None)
        if theirs is not None and value is not None:
            given.setdefault(theirs, value)
    loss = made(name, factory, given)
    if not callable(loss):
        raise UsageError(f"{name} makes a {type(loss).__name__}, which can't be called with embeddings and labels.")
    return Foreign(loss)


def _foreign_factory(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise UsageError(
            f"build_loss: '{name}' must name a module in full and what makes the loss there: module:factory."
        )
    try:
        holder = import_module(module)
    except ImportError as error:
        raise ResourceError(f"{name} can't be imported: {error}. Install its package beside accord.") from error
    except Exception as error:
        raise ResourceError(
            f"{name} can't be imported: {module} fails with {type(error).__name__}: {error}."
        ) from error
    if not hasattr(holder, attribute):
        raise UnknownNameError(f"loss in {module}", attribute, dir(holder))
    factory = getattr(holder, attribute)
    if not callable(factory):
        raise UsageError(f"{name} is a {type(factory).__name__}, which makes no loss; name a class or a function.")
    return factory


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _parameters(info: LossInfo) -> list[dict[str, Any]]:
    signature = inspect.signature(_load(info.path))
    return [
        {
            "name": name,
            "default": None if parameter.default is inspect.Parameter.empty else parameter.default,
            "meaning": info.options.get(name, _COMMON.get(name, "")),
        }
        for name, parameter in signature.parameters.items()
        if name != "generator" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


_COMMON = {"dim": "numbers per embedding", "classes": "number of training classes"}

"""From recipe, YAML text and `--set a.b=c` to one validated configuration, with a suggestion for every wrong key."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from accord.errors import UnknownNameError, UsageError
from accord.recipes.config import RunConfig
from accord.recipes.named import RECIPES


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads `3e-5` as a number, as YAML 1.2 does; YAML 1.1 makes it a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str, *, source: str) -> Any:
    """Parse YAML safely; a mistake names `source` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not valid YAML.\n  {' '.join(str(error).split())}") from None


def resolve(
    *, recipe: str | None = None, file: Mapping[str, Any] | None = None, settings: Iterable[str] = ()
) -> RunConfig:
    """Merge recipe ← file ← settings (`training.epochs=5`, `losses.0.weight=2`) and validate the result."""
    file = dict(file or {})
    name = recipe or file.get("recipe") or "accord"
    if name not in RECIPES:
        raise UnknownNameError("recipe", str(name), RECIPES)
    merged = _merge(deepcopy(dict(RECIPES[name].config)), file)
    merged["recipe"] = name
    for setting in settings:
        _apply(merged, setting)
    return validate(merged)


def validate(raw: Mapping[str, Any]) -> RunConfig:
    """Check a raw mapping against the schema; each problem names its path."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        problems = "\n".join(f"  {_explain(problem)}" for problem in error.errors())
        raise UsageError(f"The configuration does not fit.\n{problems}") from None


def dump(config: RunConfig) -> str:
    """The configuration as YAML text, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed(config: RunConfig, **sections: Mapping[str, Any]) -> RunConfig:
    """A copy with some keys of some sections replaced: `changed(config, model={"size": 64})`."""
    raw = config.model_dump(mode="json")
    return validate(_merge(raw, dict(sections)))


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            base[key] = _merge(base[key], value)
        else:
            base[key] = value
    return base


def _apply(raw: dict[str, Any], setting: str) -> None:
    path, separator, text = setting.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise UsageError(f"--set {setting}: write it as section.key=value, such as training.epochs=5.")
    at: Any = raw
    for position, key in enumerate(keys[:-1]):
        at = _step(at, key, ".".join(keys[: position + 1]), create=True)
    value = read_yaml(text, source=f"--set {setting}")
    if isinstance(at, list):
        at[_number(at, keys[-1], path)] = value
    else:
        at[keys[-1]] = value


def _step(at: Any, key: str, path: str, *, create: bool) -> Any:
    if isinstance(at, list):
        return at[_number(at, key, path)]
    if not isinstance(at, dict):
        raise UsageError(f"--set {path}: there is nothing below '{path.rpartition('.')[0]}'.")
    if key not in at and create:
        at[key] = {}
    return at[key]


def _number(at: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(at):
        raise UsageError(f"--set {path}: give the place in the list as a number from 0 to {len(at) - 1}.")
    return int(key)


def _explain(problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = _fields_at(path[:-1])
        return f"{where}: {UnknownNameError('option', path[-1], known)}"
    return f"{where}: {problem['msg']}. Got {problem['input']!r}."


def _fields_at(path: list[str]) -> Iterable[str]:
    model: type[BaseModel] = RunConfig
    for part in path:
        if part == "losses":
            from accord.recipes.config import LossConfig

            model = LossConfig
        elif part in model.model_fields:
            annotation = model.model_fields[part].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                model = annotation
    return model.model_fields

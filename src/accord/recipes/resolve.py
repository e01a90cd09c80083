"""From recipe, YAML text and `--set a.b=c` to one validated configuration, with a suggestion for every wrong key."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from accord.errors import UnknownNameError, UsageError
from accord.recipes.config import DataConfig, ModelConfig, RunConfig, TrainingConfig
from accord.recipes.diversity import refuse_idle_diversity
from accord.recipes.ensembles import refuse_idle_ensemble, refuse_unlike_losses
from accord.recipes.head_names import own_heads, refuse_idle_place, refuse_taken_names
from accord.recipes.named import RECIPES
from accord.recipes.students import refuse_idle_student

_WANTED = {
    "missing": "This must be given",
    "too_short": "At least one must be given",
    "tuple_type": "This must be a list",
    "model_type": "This must be a mapping of options",
    "dict_type": "This must be a mapping of options",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads `3e-5` as a number, as YAML 1.2 does; YAML 1.1 makes it a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str, *, source: str) -> Any:
    """Parse YAML safely; a mistake names `source` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2026-02-31 is a ValueError
        raise UsageError(f"{source} is not valid YAML.\n  {' '.join(str(error).split())}") from None


def read_config(path: Path) -> dict[str, Any]:
    """A configuration file as a mapping of sections; an empty file changes nothing."""
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageError(f"The configuration file {path} can't be read: {why}.") from None
    if raw is not None and not isinstance(raw, dict):
        raise UsageError(f"{path} must hold a mapping of sections, such as `training:`.")
    return raw or {}


def resolve(
    *,
    recipe: str | None = None,
    file: Mapping[str, Any] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Iterable[str] = (),
) -> RunConfig:
    """Merge recipe ← file ← options ← settings (`training.epochs=5`, `losses.0.weight=2`) and validate the result.

    `options` are the keys that have a word of their own on the command line; a setting may not name one of them again.
    Where no recipe is named it is `accord`, or `relations` if `data.relations` is given; whoever then gives a list of
    losses has none of what it says of the model, which was chosen for its own. What comes out says how many numbers a
    head has, where `model.total_dim` says how many all have.
    """
    file = {key: value for key, value in (file or {}).items() if value is not None}  # an empty section changes nothing
    settings = list(settings)
    name = recipe or file.get("recipe") or usual_recipe(file, options or {}, settings)
    if not isinstance(name, str) or name not in RECIPES:
        raise UnknownNameError("recipe", str(name), RECIPES)
    lowest = deepcopy(dict(RECIPES[name].config))
    if not (recipe or file.get("recipe")) and (
        "losses" in file or any(text.startswith("losses=") for text in settings)
    ):
        lowest.pop("model", None)
    merged = _merge(lowest, {**file, "recipe": name})
    validate(merged)  # here already: what is laid over it could hide a mistake of the file
    merged = _merge(merged, options or {})
    taken = {f"{section}.{key}" for section, keys in (options or {}).items() for key in keys}
    for setting in settings:
        _apply(merged, setting, taken=taken)
    if merged["recipe"] != name:
        raise UsageError("--set recipe: a recipe is what the rest is laid over. Choose it with --recipe.")
    if merged.get("compression") is not None:
        raise UsageError("compression: a run is compressed after it was trained: accord compress RUN. Leave it out.")
    return divided(validate(merged))


def usual_recipe(file: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]], settings: list[str]) -> str:
    """The recipe where nobody named one: where relations teach, one whose losses can learn from them."""
    sections = [section for section in (file.get("data"), options.get("data")) if isinstance(section, Mapping)]
    given = any(section.get("relations") for section in sections)
    return "relations" if given or any(text.startswith("data.relations=") for text in settings) else "accord"


def validate(raw: Mapping[str, Any]) -> RunConfig:
    """Check a raw mapping against the schema; each problem names its path."""
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"The configuration does not fit.\n{explain(error, RunConfig)}") from None
    _refuse_idle(config)
    return config


def divided(config: RunConfig) -> RunConfig:
    """The configuration with `model.dim` in place of `model.total_dim`, which the heads divide among them."""
    total = config.model.total_dim
    return (
        config if total is None else changed(config, model={"dim": total // len(own_heads(config)), "total_dim": None})
    )


def filled(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was saved, with the usual value of options that are younger than it.

    How it was compressed stays as it is written. One that does not fit any more is left as it is.
    """
    how = {key: raw[key] for key in ("compression",) if raw.get(key) is not None}
    try:
        rest = {key: value for key, value in raw.items() if key not in how}
        return {**validate(rest).model_dump(mode="json"), **how}
    except UsageError:
        return dict(raw)


def _refuse_idle(config: RunConfig) -> None:
    """Refuse options that would have no effect: whoever gave them expects one."""
    alone = len(config.losses) == 1
    if alone and config.losses[0].weight != 1:
        raise UsageError("losses.0.weight: a single loss has nothing to be weighed against. Leave it out.")
    refuse_taken_names(config)
    refuse_idle_place(config)
    refuse_unlike_losses(config)
    refuse_idle_ensemble(config)
    refuse_idle_diversity(config)
    refuse_idle_student(config)
    _refuse_remainder(config)
    if config.model.head != "mlp" and config.model.hidden != ModelConfig().hidden:
        raise UsageError(
            f"model.hidden: a {config.model.head} head has no hidden layer. Add model.head=mlp, or leave it out."
        )
    if config.training.steps is not None and config.training.epochs is not None:
        raise UsageError("training.steps: training.epochs says how long, too. Give one of them.")
    training, usual = config.training, TrainingConfig()
    for key in ("hard_pool", "hard_share"):
        if not training.hard_classes and getattr(training, key) != getattr(usual, key):
            raise UsageError(
                f"training.{key}: only used where training.hard_classes is true. Set that, or leave it out."
            )
    if config.data.folds is not None and config.data.fold is None:
        raise UsageError("data.folds: say which fold is held out (data.fold, from 0), or leave it out.")
    if config.data.fold is not None and config.data.validation != DataConfig().validation:
        raise UsageError(
            "data.validation: a fold is held out (data.fold), so the share has no effect. Give one of them."
        )


def _refuse_remainder(config: RunConfig) -> None:
    """Refuse a number of dimensions that the heads can't divide equally, or that is given twice."""
    total, heads = config.model.total_dim, len(own_heads(config))
    if total is None:
        return
    if config.model.dim is not None:
        raise UsageError(
            f"model.total_dim: model.dim={config.model.dim} says how long each of {heads} embeddings is, too. "
            "Give one of them."
        )
    if total % heads:
        each = total // heads
        fit = [f"{heads * dim} are {dim} each" for dim in (each, each + 1) if dim]
        raise UsageError(
            f"model.total_dim: {total} numbers can't be divided equally among {heads} heads; {', '.join(fit)}."
        )


def dump(config: RunConfig) -> str:
    """The configuration as YAML text, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def changed(config: RunConfig, **sections: Mapping[str, Any]) -> RunConfig:
    """A copy with some keys of some sections replaced: `changed(config, model={"size": 64})`."""
    raw = config.model_dump(mode="json")
    return validate(_merge(raw, dict(sections)))


def flat(raw: Any, path: str = "") -> dict[str, Any]:
    """Every single value under its path: `{"training": {"seed": 1}}` becomes `{"training.seed": 1}`."""
    if not isinstance(raw, dict | list) or not raw:
        return {path: raw}
    pairs = raw.items() if isinstance(raw, dict) else enumerate(raw)
    return {at: leaf for key, value in pairs for at, leaf in flat(value, f"{path}.{key}".lstrip(".")).items()}


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            base[key] = _merge(base[key], value)
        else:
            base[key] = value
    return base


def _apply(raw: dict[str, Any], setting: str, *, taken: set[str]) -> None:
    path, separator, text = setting.partition("=")
    path = path.strip()
    keys = path.split(".")
    if not separator or not all(keys):
        raise UsageError(f"--set {setting}: write it as section.key=value, such as training.epochs=5.")
    if path in taken:
        raise UsageError(f"--set {path}: the command line gives this twice. Give it once.")
    at: Any = raw
    for position, key in enumerate(keys[:-1]):
        place = _place(at, key, ".".join(keys[: position + 1]))
        if isinstance(at, dict) and at.get(place) is None:
            at[place] = {}
        at = at[place]
    at[_place(at, keys[-1], path)] = read_yaml(text, source=f"--set {setting}")


def _place(at: Any, key: str, path: str) -> Any:
    """Where a key points: a number in a list, a name in a mapping; elsewhere it points nowhere."""
    if isinstance(at, list):
        return _number(at, key, path)
    if not isinstance(at, dict):
        raise UsageError(f"--set {path}: there is nothing below '{path.rpartition('.')[0]}'.")
    return key


def _number(at: list[Any], key: str, path: str) -> int:
    if not at:
        raise UsageError(f"--set {path}: the list '{path.rpartition('.')[0]}' is empty.")
    if not key.isdecimal() or int(key) >= len(at):
        raise UsageError(f"--set {path}: give the place in the list as a number from 0 to {len(at) - 1}.")
    return int(key)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What does not fit a model, one line for each problem, each with its path and a suggestion for a wrong name."""
    found = error.errors()
    # a list whose entries are wrong is also counted too short, without them
    found = [problem for problem in found if problem["type"] != "too_short" or len(found) == 1]
    return "\n".join(f"  {_explain(problem, model)}" for problem in found)


def _explain(problem: Any, model: type[BaseModel]) -> str:
    path = [str(part) for part in problem["loc"]]
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"{where}: {UnknownNameError('option', path[-1], _fields_at(path[:-1], model))}"
    wanted = _WANTED.get(problem["type"], problem["msg"])
    if problem["type"] == "missing":
        return f"{where}: {wanted}."
    return f"{where}: {wanted}. Got {shorten(repr(problem['input']), 80)}."


def _fields_at(path: list[str], model: type[BaseModel]) -> Iterable[str]:
    for part in path:
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model.model_fields


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation speaks of: `Loss`, `tuple[Loss, ...]`, `Loss | None`, `dict[str, Loss]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)

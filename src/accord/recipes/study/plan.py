"""Works a study out: what its arms are, whether they are alike but for what they say, and which runs that makes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any, NamedTuple, TypeVar

from accord.errors import UnknownNameError, UsageError
from accord.recipes.build import check_parts
from accord.recipes.comparable import MUST_AGREE, check_allowed
from accord.recipes.config import RunConfig
from accord.recipes.head_names import TRUNK, own_heads, used_names
from accord.recipes.resolve import resolve, usual_recipe
from accord.recipes.students import student_dim
from accord.recipes.study.ablation import Ablation
from accord.recipes.study.compressed import check_compressed
from accord.recipes.study.config import NAME, CompressArm, StudyConfig, StudyData, flat_settings, slug
from accord.recipes.study.search import at, need_optuna, space_of
from accord.types import Json

Arms = Mapping[str, Mapping[str, Any]]
Settings = TypeVar("Settings")
_SAME = ("data.", "evaluation.", "training.seed", "training.device", "schema_version")
_LENGTH = ("training.epochs", "training.steps")
_LOOKED_AT = {
    "backbone": ("model.backbone",),
    "weights": ("model.pretrained", "model.weights"),
    "augmentation": ("augment.",),
    "input_size": ("model.size", "model.fit"),
    "embedding_size": ("model.dim",),
    "batch": ("training.classes_per_batch", "training.per_class"),
    "epochs": ("training.epochs",),
    "steps": ("training.steps",),
}


class Job(NamedTuple):
    """One run of a study. `name` is also its folder below the study's; `trial` is None for a run that counts.

    A compressed run knows the name of the run it is made `of`, whose configuration is its own; that one `is_source`.
    """

    name: str
    data: str
    arm: str
    seed: int
    config: RunConfig
    fold: int | None = None
    trial: int | None = None
    of: str | None = None
    compress: CompressArm | None = None
    is_source: bool = False

    @property
    def planned(self) -> Json:
        """What the run is started with, as it is kept."""
        config: Json = self.config.model_dump(mode="json")
        return config if self.compress is None else {**config, "compression": self.compress.model_dump(mode="json")}


def _ablation(study: StudyConfig) -> Ablation | None:
    if not study.ablate:
        return None
    base = deepcopy(study.base)
    if "model.total_dim" in flat_settings(base):
        raise UsageError(
            "ablate: arms of one loss and of several divide model.total_dim differently, and would not be alike.\n"
            "  Say how many numbers one head has, model.dim, in its place."
        )
    return Ablation(resolve(recipe=base.pop("recipe", None), file=base), study.ablate)


def _apart(study: StudyConfig, where: str, added: Mapping[str, Settings]) -> Mapping[str, Settings]:
    """What `ablate` adds, under names that nothing else has."""
    taken = [name for name in added if name in study.arms or name in study.compress]
    if taken:
        raise UsageError(f"{where}: '{taken[0]}' is the name of an arm that `ablate` adds. Give yours another.")
    return added


def arms_of(study: StudyConfig) -> dict[str, dict[str, Any]]:
    """Every arm with its settings by dotted path: those of `arms`, each with every combination of `grid`."""
    own = study.arms if study.arms or not study.grid else {"": {}}
    arms = {name: flat_settings(settings) for name, settings in own.items()}
    if not study.grid:
        return arms
    made: dict[str, dict[str, Any]] = {}
    for (arm, settings), values in product(arms.items(), product(*study.grid.values())):
        chosen = dict(zip(study.grid, values, strict=True))
        name = "-".join(filter(None, [arm, *(_grid_name(study, key, value) for key, value in chosen.items())]))
        if name in made or not NAME.fullmatch(name):
            raise UsageError(
                f"grid: '{name}' can't name an arm: it is too long, or names two. Write such arms out under `arms`."
            )
        made[name] = {**settings, **flat_settings(chosen)}
    return made


def _grid_name(study: StudyConfig, key: str, value: Any) -> str:
    """`margin=0.2` for losses.0.options.margin; a list or mapping goes by its place in the grid."""
    plain = not isinstance(value, dict | list)
    return f"{key.rpartition('.')[2]}={slug(str(value)) if plain else study.grid[key].index(value) + 1}"


class Plan:
    """Makes the configuration of every run of a study, each once."""

    def __init__(self, study: StudyConfig) -> None:
        self.study = study
        ablation = _ablation(study)
        self.arms = {**arms_of(study), **_apart(study, "arms", ablation.arms if ablation else {})}
        self.compressed = {**study.compress, **_apart(study, "compress", ablation.compress if ablation else {})}
        self.against = study.against or (ablation.references if ablation else ())
        self.data = {entry.name: entry for entry in study.data}
        self._made: dict[str, RunConfig] = {}

    @property
    def names(self) -> list[str]:
        """Every arm: those that are trained, each with what is made of its runs."""
        made = {name: [other for other, arm in self.compressed.items() if arm.of == name] for name in self.arms}
        return [name for arm, others in made.items() for name in (arm, *others)]

    def configure(self, data: str, arm: str, more: Mapping[str, Any]) -> RunConfig:
        """Recipe ← base ← data ← arm ← what the study sets itself; a mistake names the arm."""
        key = json.dumps([data, arm, more])
        if key not in self._made:
            self._made[key] = self._configure(self.data[data], arm, more)
        return self._made[key]

    def _configure(self, entry: StudyData, arm: str, more: Mapping[str, Any]) -> RunConfig:
        settings = dict(self.arms[arm])
        base = deepcopy(self.study.base)
        recipe = settings.pop("recipe", base.pop("recipe", None))
        data = {**(base.pop("data", None) or {}), **entry.model_dump(exclude={"name"}, exclude_unset=True)}
        if recipe is None and "losses" not in base:  # named, so that an arm with losses of its own has its model, too
            recipe = usual_recipe({"data": data}, {}, [])
        try:
            resolved = resolve(
                recipe=recipe,
                file={**base, "data": data},
                settings=[f"{key}={_yaml(key, value)}" for key, value in {**settings, **more}.items()],
            )
        except UsageError as error:
            raise UsageError(f"The arm '{arm}' does not fit.\n  {str(error).replace('--set ', '')}") from None
        return resolved

    def final(self, data: str, arm: str, seed: int, fold: int | None, tuned: Mapping[str, Any]) -> RunConfig:
        """A run that counts. Where every fold is trained on, each of its models draws from a seed of its own."""
        folds = self.study.folds
        drawn = seed if not self.study.every_fold else seed * (folds or 1) + (fold or 0)
        held_out = {} if fold is None else {"data.folds": folds, "data.fold": fold}
        return self.configure(data, arm, {**tuned, **self._length(), "training.seed": drawn, **held_out})

    def source(self, arm: str) -> str:
        """The arm whose training an arm rests on: itself, or the one it is made of."""
        return self.compressed[arm].of if arm in self.compressed else arm

    def trial(self, data: str, arm: str, fold: int, folds: int, tried: Mapping[str, Any]) -> RunConfig:
        """A run that tries settings: its validation classes are one fold, and its unseen classes stay closed."""
        tune = self.study.tune
        assert tune is not None, "only a study that tunes has trials"
        length = self._length() if tune.epochs is None else {"training.epochs": tune.epochs, "training.steps": None}
        closed = {"training.seed": tune.seed, "data.folds": folds, "data.fold": fold, "evaluation.test": False}
        return self.configure(data, arm, {**tried, **length, **closed})

    def _length(self) -> dict[str, Any]:
        given = {"training.epochs": self.study.epochs, "training.steps": self.study.steps}
        return {key: value for key, value in given.items() if value is not None}


def _yaml(key: str, value: Any) -> str:
    """A value as it can be read again; JSON is YAML."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise UsageError(f"{key}: {value!r} is no number, text, list or mapping that a configuration holds.") from None


def check_plan(plan: Plan) -> None:
    """Everything that can be refused before any image is read: arms, options, unequal budgets, ranges of the tuning."""
    study = plan.study
    check_allowed(study.allow)
    for arm, settings in plan.arms.items():
        _refuse_shared(study, f"arms: {arm}", settings)
    for data in plan.data:
        configs = {arm: plan.final(data, arm, study.seeds[0], 0 if study.folds else None, {}) for arm in plan.arms}
        for arm, config in configs.items():
            _check_run(arm, config)
        _check_alike(configs, study.allow)
        check_compressed(plan.compressed, configs, study.allow)
    for arm in plan.against:
        if arm not in plan.names:
            raise UnknownNameError("arm to compare with", arm, plan.names)
    if study.tune is not None:
        _check_tuning(plan)


def _refuse_shared(study: StudyConfig, where: str, keys: Iterable[str]) -> None:
    """What the study says for all arms at once would silently win over an arm that says it, too."""
    length = _LENGTH if study.epochs is not None or study.steps is not None else ()
    for key in keys:
        if key.startswith((*_SAME, *length)):
            raise UsageError(
                f"{where}: {key} is the same for all arms. Say it once for all, at the top, in `base` or in `data`."
            )


def _check_run(arm: str, config: RunConfig) -> None:
    if config.training.epochs is None and config.training.steps is None:
        raise UsageError(
            f"The arm '{arm}' has no fixed length, and a length that is chosen by the clock is not the same for all.\n"
            "  Write `epochs: 5` or `steps: 500` at the top of the study."
        )
    try:
        check_parts(config)
    except UsageError as error:
        raise UsageError(f"The arm '{arm}' does not fit.\n  {error}") from None


def _check_alike(configs: Mapping[str, RunConfig], allow: Sequence[str]) -> None:
    """Refuse now what the comparison would refuse after hours of training."""
    told = {arm: _looked_at(config) for arm, config in configs.items()}
    for name in _LOOKED_AT:
        keys = [
            key for key in next(iter(told.values()))[name] if _differs(key, [parts[name] for parts in told.values()])
        ]
        if keys and name not in allow:
            shown = "\n".join(
                f"    {arm}: {', '.join(f'{key} {parts[name].get(key)}' for key in keys)}"
                for arm, parts in told.items()
            )
            raise UsageError(
                f"arms: they are not made alike: {name} ({MUST_AGREE[name]}) differs.\n{shown}\n"
                f"  Make them alike, or say that you want it so, and the comparison will name it: allow: [{name}]"
            )


def _looked_at(config: RunConfig) -> dict[str, Any]:
    flat = flat_settings(config.model_dump(mode="json"))
    parts: dict[str, Any] = {
        name: {key: value for key, value in flat.items() if key.startswith(keys)} for name, keys in _LOOKED_AT.items()
    }
    own: dict[str, Any] = {"heads": len(own_heads(config)), "trunk's feature": TRUNK in used_names(config)}
    if config.ensemble.student != "none":  # what is judged is its one vector
        own = {"model.dim": student_dim(config), "heads": 1, "trunk's feature": False}
    parts["embedding_size"].update(own)
    return parts


def _differs(key: str, parts: Sequence[Mapping[str, Any]]) -> bool:
    return any(part.get(key) != parts[0].get(key) for part in parts)


def _check_tuning(plan: Plan) -> None:
    """Try both ends of every range on every arm, so that no trial fails for a name or a limit."""
    study, tune = plan.study, plan.study.tune
    assert tune is not None, "called for a study that tunes"
    for arm in tune.per_arm:
        if arm not in plan.arms:
            raise UnknownNameError("arm to tune", arm, plan.arms)
    if tune.sampler == "tpe":
        need_optuna()
    for arm in plan.arms:
        space = space_of(tune, arm)
        if not space:
            raise UsageError(f"tune: there is nothing to tune in the arm '{arm}'. Name options under `search`.")
        _refuse_shared(study, "tune", space)
        for name, keys in _LOOKED_AT.items():
            for key in space:
                if key.startswith(keys) and name not in study.allow:
                    raise UsageError(f"tune: {key} makes arms unlike ({name}). To want it so, say allow: [{name}]")
        for data, share in product(plan.data, (0.0, 1.0)):
            tried = {key: at(within, share) for key, within in space.items()}
            _check_run(arm, plan.trial(data, arm, 0, tune.folds or 2, tried))

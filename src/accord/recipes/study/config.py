"""The study file: which arms on which data with which seeds, and how they are tuned; strict, like a run's own file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from accord.errors import UsageError
from accord.recipes.config import DataConfig, Positive, Section, Seed, Whole
from accord.recipes.resolve import explain, read_config

STUDIES = Path(__file__).parent.parent / "studies"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}")
_WITHIN = Field(None, strict=False, min_length=2, max_length=2)


class RangeConfig(Section):
    """The values that one option may take while tuning; exactly one kind is given."""

    uniform: Annotated[tuple[float, float] | None, _WITHIN] = None
    log_uniform: Annotated[tuple[Positive, Positive] | None, _WITHIN] = None
    integer: Annotated[tuple[int, int] | None, _WITHIN] = None
    choice: Annotated[tuple[Any, ...] | None, Field(strict=False, min_length=2)] = None


Space = dict[str, RangeConfig]
Part = Literal["members", "wide", "same", "rules", "leave_one_out", "compressions", "metrics"]
PARTS: tuple[Part, ...] = get_args(Part)


class TuneConfig(Section):
    """Tuning on equal budgets: each arm gets as many trials as any other, judged on folds and never on the test."""

    trials: Whole = Field(description="settings tried for each arm on each data set")
    search: Space = Field(default_factory=dict, description="options tuned in every arm")
    per_arm: dict[str, Space] = Field(default_factory=dict, description="options tuned in one arm, beside these")
    metric: Literal["map@r", "recall@1"] = "map@r"
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="folds whose mean decides; null: 4, or 2 for less than 20 training classes"
    )
    sampler: Literal["random", "tpe"] = Field(
        "random", description="scrambled Sobol points, or optuna's tree-structured Parzen estimator"
    )
    seed: Seed = Field(0, description="seed of the points tried, and of the runs that try them")
    epochs: Positive | None = Field(None, description="length of a trial; null: that of the study's runs")


class StudyData(DataConfig):
    """One data set of a study: the keys of a run's `data`, and the name it goes by."""

    name: str = ""


class CompressArm(Section):
    """An arm that is not trained: the runs of another arm, compressed as `accord compress` does."""

    of: str = Field(description="the arm whose runs are compressed")
    method: str = Field("auto", description="pca, whiten, fold, lda, wccn, student, distil, heads, or auto")
    dim: Whole | None = Field(None, description="numbers per embedding; null: those of one head")
    scale: str | None = Field(None, description="unit, length or distance; null: the usual one of the method")
    fit_weights: bool = Field(False, description="weigh the heads anew on the validation classes first")
    heads: dict[str, Positive | None] | None = Field(
        None, description="the heads that are made one, with shares; null: all of them"
    )

    @field_validator("heads", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """`heads: trunk` and `heads: [trunk]` name heads without shares."""
        named = [value] if isinstance(value, str) else value
        return dict.fromkeys(named) if isinstance(named, list | tuple) else named


class StudyConfig(Section):
    """Everything that decides a study. Its arms differ in what they say, and in nothing else."""

    name: str = Field(description="name of the study, and of its folder")
    base: dict[str, Any] = Field(default_factory=dict, description="a recipe's name, or sections laid over a recipe")
    data: Annotated[tuple[StudyData, ...], Field(min_length=1, strict=False)]
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict, description="what each arm changes in the base")
    grid: dict[str, Annotated[tuple[Any, ...], Field(min_length=1, strict=False)]] = Field(
        default_factory=dict, description="values of some options; every combination is an arm"
    )
    compress: dict[str, CompressArm] = Field(
        default_factory=dict, description="arms made of another arm's finished runs: its heads, or its compression"
    )
    ablate: Annotated[tuple[Part, ...], Field(strict=False)] = Field(
        (), description="arms that take the base's ensemble apart; true: all of them"
    )
    against: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="the arms that all are compared with; none: each with each"
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)] = (0, 1, 2, 3, 4)
    epochs: Positive | None = Field(None, description="length of every run, in passes over the training images")
    steps: Whole | None = Field(None, description="length of every run, in optimisation steps")
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="validate on folds of the training classes: seed 0 on fold 0, and so on in turn"
    )
    every_fold: bool = Field(False, description="train one model per fold for every seed")
    tune: TuneConfig | None = None
    allow: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="differences between arms that the comparison may overlook, and will name"
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _count(cls, value: Any) -> Any:
        """`seeds: 5` means the seeds 0 to 4."""
        return tuple(range(value)) if type(value) is int else value

    @field_validator("ablate", mode="before")
    @classmethod
    def _parts(cls, value: Any) -> Any:
        """`ablate: true` means all its parts."""
        return (PARTS if value else ()) if isinstance(value, bool) else value

    @field_validator("base", mode="before")
    @classmethod
    def _recipe(cls, value: Any) -> Any:
        """`base: triplet` means that recipe as it is."""
        return {"recipe": value} if isinstance(value, str) else value

    @field_validator("data", mode="before")
    @classmethod
    def _sources(cls, value: Any) -> Any:
        """`data: objects` and `data: [objects, ./pets]` name sources alone."""
        values = value if isinstance(value, list | tuple) else [value]
        return tuple({"source": entry} if isinstance(entry, str) else entry for entry in values)

    @field_validator("arms", mode="before")
    @classmethod
    def _recipes(cls, value: Any) -> Any:
        """`arms: [triplet, proxy_nca]` means these recipes; an arm without settings is the base itself."""
        if isinstance(value, list | tuple):
            return {str(name): {"recipe": name} for name in value}
        return {key: {} if more is None else more for key, more in value.items()} if isinstance(value, dict) else value


def read_study(path: Path, *, data: Sequence[str] = ()) -> StudyConfig:
    """A study file, or a study that comes with accord by its name, checked by itself; `plan.py` checks its arms.

    `data` are sources in place of the study's own.
    """
    known = STUDIES / f"{path}.yaml"
    if path.name != str(path) or path.suffix or path.exists():
        known = path
    elif not known.is_file():
        names = ", ".join(sorted(file.stem for file in STUDIES.glob("*.yaml")))
        raise UsageError(f"There is no study file {path}, and no study comes with accord by that name: {names}.")
    raw = read_config(known)
    return make_study({**raw, "data": list(data)} if data else raw, source=str(path))


def make_study(raw: Mapping[str, Any], *, source: str = "study") -> StudyConfig:
    """Check a study's mapping; every problem names its path, with a suggestion for a wrong key."""
    try:
        study = StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source} is no study that fits.\n{explain(error, StudyConfig)}") from None
    study = study.model_copy(update={"data": tuple(_named(entry) for entry in study.data)})
    for problem in (*_names(study), *_base(study), *_tuning(study)):
        raise UsageError(f"{source}: {problem}")
    return study


def flat_settings(settings: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    """Nested settings as dotted paths; a list stays whole, as it replaces the one below it."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        at_path = f"{path}.{key}".lstrip(".")
        flat.update(flat_settings(value, at_path) if isinstance(value, dict) and value else {at_path: value})
    return flat


def _named(entry: StudyData) -> StudyData:
    """A data set goes by the last part of its source if nothing else was said."""
    return entry.model_copy(update={"name": entry.name or slug(Path(entry.source).stem)})


def slug(text: str) -> str:
    """A text as it can stand in a file's name."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "_", text).strip("_.-")[:60] or "unnamed"


def _names(study: StudyConfig) -> list[str]:
    names = [
        ("name", study.name),
        *(("data", entry.name) for entry in study.data),
        *(("arms", arm) for arm in study.arms),
        *(("compress", arm) for arm in study.compress),
    ]
    problems = [
        f"{where}: '{name}' can't name a folder. Use letters, digits and . _ + = -, at most 80 of them."
        for where, name in names
        if not NAME.fullmatch(name)
    ]
    sets = [entry.name for entry in study.data]
    if len(set(sets)) < len(sets):
        problems.append("data: two data sets go by one name. Give each a `name` of its own.")
    if len(set(study.seeds)) < len(study.seeds):
        problems.append("seeds: a seed is there twice. The same run again tells nothing new.")
    folded = [entry.name for entry in study.data if entry.fold is not None or entry.folds is not None]
    if folded:
        problems.append(f"data: the folds of '{folded[0]}' are the study's. Write `folds` at the top of the file.")
    if not (study.arms or study.grid or study.ablate):
        problems.append("arms: a study without `arms` or `grid` has nothing to run.")
    return problems


def _base(study: StudyConfig) -> list[str]:
    """What the study says at its top would silently win over a base that says it, too."""
    taken = {"training.seed": "seeds", "data.source": "data", "data.fold": "folds", "data.folds": "folds"}
    if study.epochs is not None or study.steps is not None:
        taken.update({"training.epochs": "epochs", "training.steps": "steps"})
    problems = [
        f"base: {key} is what `{taken[key]}` says, at the top of the study. Say it there."
        for key in flat_settings(study.base)
        if key in taken
    ]
    if study.epochs is not None and study.steps is not None:
        problems.append("steps: `epochs` says how long, too. Give one of them.")
    if study.every_fold and study.folds is None:
        problems.append("every_fold: say how many `folds` there are.")
    return problems


def _tuning(study: StudyConfig) -> list[str]:
    if study.tune is None:
        return []
    problems = []
    for arm, space in [("search", study.tune.search), *study.tune.per_arm.items()]:
        for key, within in space.items():
            if problem := _range(within):
                problems.append(f"tune: {arm}: {key}: {problem}")
    return problems


def _range(within: RangeConfig) -> str:
    """What is wrong with a range, or nothing."""
    given = within.model_dump(exclude_none=True)
    if len(given) != 1:
        return "give one of uniform, log_uniform, integer and choice."
    kind, values = next(iter(given.items()))
    if kind != "choice" and not (values[0] < values[1] and values[1] - values[0] < float("inf")):
        return f"{kind} must go from a smaller to a larger finite number. Got {list(values)}."
    return ""

"""What a run scored on its validation classes, and how a run ends whose unseen classes stay closed."""

from pathlib import Path

from accord.errors import ArtifactError
from accord.recipes.config import RunConfig
from accord.recipes.evaluate import read_report
from accord.runs import RunFolder
from accord.types import Json

VALIDATION = "validation.json"


def write_validation(run: RunFolder, config: RunConfig, best: Json, final: Json | None = None) -> None:
    """Write the validation figures of the checkpoint that became the model: step, R@1 and MAP@R; null without any.

    `final` are those of the model itself, where more was done to it than training.
    """
    found: Json | None = best or None
    if found and config.training.keep == "last":
        found = next(entry["validation"] for entry in reversed(run.read_log()) if "validation" in entry)
    run.write_json(VALIDATION, {"validation": found and {**found, **(final or {})}})


def end_untested(run: RunFolder, *, training_seconds: float) -> Json:
    """Seal a run without opening its unseen classes, which can be judged later by `accord evaluate`."""
    result: Json = {**run.read_json(VALIDATION), "seconds": {"training": training_seconds}}
    run.write_json(VALIDATION, result)
    run.seal()
    return result


def read_validation(run: RunFolder) -> Json | None:
    """The validation figures of a finished run; None if its validation classes could not be judged."""
    if not run.exists(VALIDATION):
        raise ArtifactError(f"{run.path} holds no {VALIDATION}: it was made by an older accord. Train it anew.")
    found: Json | None = run.read_json(VALIDATION)["validation"]
    return found


def read_result(path: Path) -> Json:
    """The report of a finished run, or the validation result of one whose unseen classes were left closed."""
    run = RunFolder.open(path)
    if run.exists("report.json") or not run.exists(VALIDATION):
        return read_report(path)
    result: Json = run.read_json(VALIDATION)
    return result

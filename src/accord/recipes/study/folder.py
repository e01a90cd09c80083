"""A study's folder: what was planned, what was found and what failed; one owner at a time, and nothing is forgotten."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accord.errors import ArtifactError, ResourceError, UsageError
from accord.recipes.features import FEATURES
from accord.recipes.resolve import filled, flat
from accord.recipes.study.config import StudyConfig
from accord.recipes.study.plan import Job
from accord.recipes.study.schedule import BEGUN, FAILED, FINISHED, Outcome
from accord.recipes.untested import read_validation
from accord.runs import RunFolder
from accord.types import Json

STUDY, PLANNED, FAILURES = "study.json", "planned", "failures"
SCHEMA_VERSION = 1
SHOWN = 8


class StudyFolder:
    """Reads and writes the folder of one study; writing needs ownership, as with a run's folder."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.path = folder.path

    def facts(self) -> Json:
        """What is known of the data sets; empty for a new study."""
        known: Json = self.folder.read_json(STUDY)["data"] if self.folder.exists(STUDY) else {}
        return known

    def remember(self, study: StudyConfig, facts: Json) -> None:
        """Keep the study as it is run now."""
        document = {"schema_version": SCHEMA_VERSION, "study": study.model_dump(mode="json"), "data": facts}
        self.folder.write_json(STUDY, document)

    def begin(self, job: Job) -> None:
        """Note what a run is started with, so that a changed study can't take it for another."""
        self.refuse_changes([job])
        self.folder.write_json(f"{PLANNED}/{job.name}.json", job.planned)

    def fail(self, job: Job, message: str, *, seconds: float, trace: str = "") -> None:
        """Note that a run failed, and why."""
        self.folder.write_json(f"{FAILURES}/{job.name}.json", {"message": message, "seconds": seconds, "trace": trace})

    def forgive(self) -> int:
        """Let everything that failed be tried again; how many runs that is."""
        failed = self._names(FAILURES)
        self.folder.drop(FAILURES)
        return len(failed)

    def outcome(self, job_name: str) -> Outcome:
        """How a run stands, read from its folder; the fingerprints of a finished one are compared."""
        failure = f"{FAILURES}/{job_name}.json"
        if self.folder.exists(failure):
            told = self.folder.read_json(failure)
            return Outcome(FAILED, message=told["message"], seconds=told["seconds"])
        try:
            run = RunFolder.open(self.path / job_name)
        except ArtifactError:  # no run has been started there
            return Outcome()
        if not run.is_sealed():
            return Outcome(BEGUN)
        if not run.exists("report.json"):
            seconds = run.read_json("validation.json")["seconds"]["training"]
            return Outcome(FINISHED, read_validation(run), seconds=seconds)
        report = run.read_json("report.json")
        seconds = sum(report["seconds"].values())
        return Outcome(FINISHED, read_validation(run), report["metrics"], seconds=seconds)

    def clear(self, job_name: str) -> None:
        """Remove what a run kept for those that were to be made of it."""
        path = self.path / job_name
        if (path / FEATURES).is_file():
            with suppress(ResourceError), RunFolder.open(path) as run:  # somebody is at work there: it is only space
                run.drop(FEATURES)
                run.seal()

    def refuse_changes(self, jobs: Iterable[Job]) -> None:
        """Refuse to go on where a run that is there was started with other options than the study asks for now."""
        lines = []
        for job in jobs:
            name = f"{PLANNED}/{job.name}.json"
            if self.folder.exists(name):
                before, now = filled(self.folder.read_json(name)), job.planned
                lines += [f"  {job.name}: {line}" for line in changes(before, now)]
        self._refuse(lines, "no longer fit")

    def refuse_losses(self, names: Iterable[str]) -> None:
        """Refuse to go on where runs that are there are not in the study any more: none is left out of a comparison."""
        gone = sorted(set(self._names(PLANNED)) - set(names))
        self._refuse([f"  {name}: is there, and the study no longer asks for it" for name in gone], "are left out")

    def _refuse(self, lines: list[str], what: str) -> None:
        if lines:
            more = f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
            raise UsageError(
                f"The study in {self.path} was begun with another study file; runs that are there {what}.\n"
                + "\n".join(lines[:SHOWN])
                + more
                + "\n  Put the file back, or begin another study: give it another `name`, or --out."
            )

    def _names(self, folder: str) -> list[str]:
        root = self.path / folder
        return [str(path.relative_to(root).with_suffix("")) for path in sorted(root.rglob("*.json"))]


def changes(before: Json, after: Json) -> list[str]:
    """Where two configurations differ, option by option; the device may."""
    was, now = flat(before), flat(after)
    keys = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    return [f"{key}: {was.get(key)!r} → {now.get(key)!r}" for key in keys if key != "training.device"]


def is_study(path: Path) -> bool:
    """Whether a folder holds a study."""
    return (path / STUDY).is_file()


def read_folder(path: Path) -> StudyFolder:
    """A study's folder for reading, while another process may be at work in it."""
    return StudyFolder(RunFolder.open(path))


def check_free(path: Path) -> None:
    """Refuse a folder that is neither a study's nor free, without touching anything."""
    if not is_study(path):
        if path.is_dir() and {entry.name for entry in path.iterdir()} - {"accord.lock"}:
            raise UsageError(f"{path} holds files that are no study. Choose another --out.")
        RunFolder.check_free(path)


@contextmanager
def own_folder(path: Path) -> Iterator[StudyFolder]:
    """A study's folder for writing, made if it is not there; ResourceError if another process owns it."""
    check_free(path)
    with RunFolder.open(path) if is_study(path) else RunFolder.create(path) as folder:
        yield StudyFolder(folder)

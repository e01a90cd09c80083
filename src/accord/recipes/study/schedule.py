"""Which runs a study has, as far as they are known: the ones that count follow from what the trials before found."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from accord.recipes.study.plan import Job, Plan
from accord.recipes.study.search import Tried, propose
from accord.types import Json

FINISHED, FAILED, BEGUN, WAITING = "finished", "failed", "begun", "waiting"
NOTHING_FOUND = "the tuning found nothing: all of its trials failed"


class Outcome(NamedTuple):
    """How a run stands, and what it found: on its validation classes, and on the unseen ones."""

    state: str = WAITING
    validation: Json | None = None
    metrics: Json = {}  # noqa: RUF012 - a NamedTuple's default; nobody writes to it
    message: str = ""
    seconds: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it ended, well or badly."""
        return self.state in (FINISHED, FAILED)


Outcomes = Mapping[str, Outcome]


class Trial(NamedTuple):
    """Settings that were tried, or will be, and the run of each fold."""

    number: int
    settings: dict[str, Any]
    jobs: tuple[Job, ...]
    outcomes: tuple[Outcome, ...]
    metric: str

    @property
    def is_over(self) -> bool:
        """Whether the run of every fold ended."""
        return all(outcome.is_over for outcome in self.outcomes)

    @property
    def scores(self) -> list[float | None]:
        """The validation score of each fold; None for one that has none."""
        return [None if found.validation is None else found.validation[self.metric] for found in self.outcomes]

    @property
    def score(self) -> float | None:
        """The mean over folds; None if one is missing: a mean over fewer folds is no fair rival."""
        known = [score for score in self.scores if score is not None]
        return sum(known) / len(known) if len(known) == len(self.outcomes) else None


class Schedule:
    """The runs of a study. `folds` says for each data set how many folds its tuning has."""

    def __init__(self, plan: Plan, folds: Mapping[str, int]) -> None:
        self.plan, self.folds = plan, folds
        self._proposed: dict[tuple[str, str, int], tuple[list[Tried], dict[str, Any]]] = {}

    @property
    def count(self) -> int:
        """How many runs there are in all."""
        study = self.plan.study
        trials = study.tune.trials if study.tune else 0
        finals = len(study.seeds) * ((study.folds or 1) if study.every_fold else 1)
        trained, names = len(self.plan.arms), len(self.plan.names)
        return sum(trained * trials * self.folds[data] + names * finals for data in self.plan.data)

    def jobs(self, outcomes: Outcomes) -> list[Job]:
        """Every run that is known by now, trials first; all arms go forward together."""
        trials = sorted(
            (
                (trial.number, job)
                for pair in self.pairs()
                for trial in self.trials(*pair, outcomes)
                for job in trial.jobs
            ),
            key=lambda entry: entry[0],
        )
        finals = sorted(
            (
                (self.plan.study.seeds.index(job.seed), job)
                for pair in self.pairs()
                for job in self.finals(*pair, outcomes)
            ),
            key=lambda entry: entry[0],
        )
        return [job for _, job in (*trials, *finals)]

    def names(self) -> set[str]:
        """The names of all runs, of those too that follow from trials to come."""
        tune, found = self.plan.study.tune, set()
        for data, arm in self.pairs():
            found |= {name for name, _, _ in self.final_names(data, arm)}
            for number in range(tune.trials if tune and arm in self.plan.arms else 0):
                found |= {_trial_name(data, arm, number, fold) for fold in range(self.folds[data])}
        return found

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every data set with every arm."""
        return ((data, arm) for data in self.plan.data for arm in self.plan.names)

    def trials(self, data: str, arm: str, outcomes: Outcomes) -> list[Trial]:
        """The trials of an arm that can be named by now: all of them, or one more than have ended."""
        tune = self.plan.study.tune
        found: list[Trial] = []
        for number in range(tune.trials if tune and arm in self.plan.arms else 0):
            assert tune is not None, "without tuning there are no trials"
            if tune.sampler == "tpe" and not all(trial.is_over for trial in found):
                break
            settings = self._propose(data, arm, number, [(trial.settings, trial.score) for trial in found])
            jobs = tuple(self._trial(data, arm, number, fold, settings) for fold in range(self.folds[data]))
            stand = tuple(outcomes.get(job.name, Outcome()) for job in jobs)
            found.append(Trial(number, settings, jobs, stand, tune.metric))
        return found

    def best(self, data: str, arm: str, outcomes: Outcomes) -> Trial | None:
        """The trial with the best mean over folds, the earlier one of two that are equal; None if all failed."""
        scored = [trial for trial in self.trials(data, arm, outcomes) if trial.score is not None]
        return max(scored, key=lambda trial: (trial.score, -trial.number), default=None)

    def is_tuned(self, data: str, arm: str, outcomes: Outcomes) -> bool:
        """Whether every trial of an arm, or of the one it is made of, has ended; without tuning, at once."""
        trials = self.trials(data, self.plan.source(arm), outcomes)
        wanted = self.plan.study.tune.trials if self.plan.study.tune else 0
        return len(trials) == wanted and all(trial.is_over for trial in trials)

    def finals(self, data: str, arm: str, outcomes: Outcomes) -> list[Job]:
        """The runs of an arm that count; none while its tuning goes on, or if it found nothing.

        One that is made of another's is known when that one has finished.
        """
        if arm in self.plan.compressed:
            return self._made(data, arm, outcomes)
        if not self.is_tuned(data, arm, outcomes):
            return []
        tuned: dict[str, Any] = {}
        if self.plan.study.tune is not None:
            best = self.best(data, arm, outcomes)
            if best is None:
                return []
            tuned = best.settings
        is_source = any(made.of == arm for made in self.plan.compressed.values())
        return [
            Job(name, data, arm, seed, self.plan.final(data, arm, seed, fold, tuned), fold, is_source=is_source)
            for name, seed, fold in self.final_names(data, arm)
        ]

    def blocked(self, data: str, arm: str, place: int, outcomes: Outcomes) -> str:
        """Why the run at a place of `final_names` will never be; nothing where it may."""
        source = self.plan.source(arm)
        if self.is_tuned(data, source, outcomes) and not self.finals(data, source, outcomes):
            return NOTHING_FOUND
        of = self.final_names(data, source)[place][0]
        failed = source != arm and outcomes.get(of, Outcome()).state == FAILED
        return f"{of}, which it is made of, failed" if failed else ""

    def _made(self, data: str, arm: str, outcomes: Outcomes) -> list[Job]:
        made = self.plan.compressed[arm]
        names = self.final_names(data, arm)
        return [
            Job(name, data, arm, seed, of.config, fold, of=of.name, compress=made)
            for of, (name, seed, fold) in zip(self.finals(data, made.of, outcomes), names, strict=False)
            if outcomes.get(of.name, Outcome()).state == FINISHED
        ]

    def final_names(self, data: str, arm: str) -> list[tuple[str, int, int | None]]:
        """Name, seed and fold of the runs of an arm that count, known before its tuning."""
        study = self.plan.study
        rows: list[tuple[str, int, int | None]] = []
        for seed in study.seeds:
            folds: Sequence[int | None] = [None if study.folds is None else seed % study.folds]
            if study.every_fold:
                folds = range(study.folds or 1)
            rows.extend((f"runs/{data}/{arm}/seed-{seed}{_suffix(fold)}", seed, fold) for fold in folds)
        return rows

    def sources(self) -> Iterator[tuple[str, list[str]]]:
        """Every run that others are made of, with the names of those."""
        for data, arm in self.pairs():
            forms = [self.final_names(data, name) for name, made in self.plan.compressed.items() if made.of == arm]
            if forms:
                for place, (name, _, _) in enumerate(self.final_names(data, arm)):
                    yield name, [rows[place][0] for rows in forms]

    def _propose(self, data: str, arm: str, number: int, tried: list[Tried]) -> dict[str, Any]:
        """The settings of a trial, asked for once: `tpe` takes its time, and this is called whenever a run ends."""
        tune, key = self.plan.study.tune, (data, arm, number)
        assert tune is not None, "only a study that tunes has trials"
        seen = tried if tune.sampler == "tpe" else []
        if key not in self._proposed or self._proposed[key][0] != seen:
            self._proposed[key] = (seen, propose(tune, arm, number, seen))
        return self._proposed[key][1]

    def _trial(self, data: str, arm: str, number: int, fold: int, settings: Mapping[str, Any]) -> Job:
        tune = self.plan.study.tune
        assert tune is not None, "only a study that tunes has trials"
        config = self.plan.trial(data, arm, fold, self.folds[data], settings)
        return Job(_trial_name(data, arm, number, fold), data, arm, tune.seed, config, fold, number)


def _trial_name(data: str, arm: str, number: int, fold: int) -> str:
    return f"tuning/{data}/{arm}/trial-{number}{_suffix(fold)}"


def _suffix(fold: int | None) -> str:
    return "" if fold is None else f"-fold-{fold}"

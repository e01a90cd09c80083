"""Evidence pages: what a study found is kept as records, and a page follows from them and from nothing else."""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
import yaml

import made_runs
from accord.errors import ArtifactError, UnknownNameError, UsageError
from accord.evaluation import class_bootstrap
from accord.recipes import compare_runs
from accord.recipes.per_query import PER_QUERY
from accord.recipes.study.config import make_study
from accord.recipes.study.folder import own_folder
from accord.recipes.study.plan import Job, Plan
from accord.recipes.study.schedule import FINISHED, Outcome, Schedule
from accord.runs import RunFolder
from accord.types import Json

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))
evidence = import_module("evidence")
records, figures, missing, page, plot, contests, forest = (
    import_module(f"_evidence_{name}")
    for name in ("records", "figures", "missing", "page", "plot", "contests", "forest")
)

FACTS = {"objects": {"images": 1776, "training_classes": 66, "test_classes": 74}}
TRAINED = ("triplet", "proxy_nca", "n_pair")
LEVELS = {"triplet": 0.5, "proxy_nca": 0.6, "n_pair": 0.4, "small": 0.3}
CURVE = {
    "small": (0.2, 0.3, 0.4, 0.4),
    "triplet": (0.2, 0.4, 0.5, 0.45),
    "proxy_nca": (0.3, 0.5, 0.6, 0.6),
    "n_pair": (0.1, 0.2, 0.3, 0.4),
}
STUDY: Json = {
    "name": "made",
    "base": {"model": {"size": 32, "dim": 16}},
    "data": "objects",
    "arms": {arm: {"recipe": arm} for arm in TRAINED},
    "seeds": 2,
    "steps": 40,
}
TUNE: Json = {"trials": 2, "folds": 2, "search": {"training.rates.trunk": {"log_uniform": [1e-5, 1e-2]}}}


class Made:
    """A study's file, and its folder filled as if its runs had ended in a moment."""

    def __init__(self, root: Path) -> None:
        self.root, self.file, self.out, self.into = root, root / "made.yaml", root / "out", root / "records"
        self.study = json.loads(json.dumps(STUDY))
        self.curves: dict[tuple[str, int], Sequence[float]] = {}
        self.levels: dict[tuple[str, int], float] = {}
        self.held_out: dict[str, float] = {}
        self.failed: set[str] = set()
        self.left_out: set[str] = set()

    def fill(self) -> None:
        """Write the study file, and every run and trial that is not left out."""
        self.file.write_text(yaml.safe_dump(self.study, sort_keys=False))
        study = make_study(self.study)
        schedule = Schedule(Plan(study), {"objects": 2 if study.tune else 0})
        outcomes: dict[str, Outcome] = {}
        with own_folder(self.out) as folder:
            folder.remember(study, FACTS)
            while jobs := [job for job in schedule.jobs(outcomes) if job.name not in outcomes]:
                for job in jobs:
                    outcomes[job.name] = Outcome()
                    if not any(re.search(part, job.name) for part in self.left_out):
                        folder.begin(job)
                        if any(re.search(part, job.name) for part in self.failed):
                            folder.fail(job, f"{self.out}/x went wrong\nat length", seconds=1.0)
                        elif job.trial is None:
                            self._run(job)
                        else:
                            self._trial(job)
                        outcomes[job.name] = folder.outcome(job.name)

    def _run(self, job: Job) -> None:
        seed = job.config.training.seed
        level = self.levels.get((job.arm, seed)) or LEVELS[job.arm]
        values = made_runs.scores(seed, level)
        path = made_runs.make_run(
            self.out / job.name, values, recipe=job.config.recipe, seed=seed, steps=40, training_seconds=4.0 + seed
        )
        metrics = {"recall@1": level, "map@r": float(values.mean()), "nmi": 0.75, "f1": None}
        with RunFolder.open(path) as run:
            tensors, facts = run.load_tensors(PER_QUERY)
            tensors["trained/recall@1"] = (values > 0.5).double()
            run.save_tensors(PER_QUERY, tensors, facts)
            for place, score in enumerate(self.curves.get((job.arm, seed)) or CURVE[job.arm], start=1):
                run.append_log({"step": 10 * place, "epoch": place, "loss": 1.0})
                run.append_log({"validation": {"step": 10 * place, "recall@1": score, "map@r": score / 2}})
            held_out = {"step": 30, "recall@1": 0.5, "map@r": self.held_out.get(job.arm, 0.25)}
            run.write_json("validation.json", {"validation": held_out})
            about = {"environment": {"accord": "0.1.0", "torch": "2.9"}, "created": "2026-01-02T03:04:05+00:00"}
            seconds = {"training": 4.0 + seed}
            run.write_json("report.json", {"metrics": metrics, "baseline": metrics, "seconds": seconds, **about})
            run.seal()

    def _trial(self, job: Job) -> None:
        with RunFolder.create(self.out / job.name) as run:
            score = 0.1 * (1 + (job.trial or 0))
            validation = {"step": 10, "recall@1": score, "map@r": score}
            run.write_json("validation.json", {"validation": validation, "seconds": {"training": 2.0}})
            run.seal()

    def gather(self) -> Any:
        assert evidence.main(["gather", str(self.out), "--into", str(self.into)]) == 0
        return records.read(self.into / "made.jsonl.gz")

    def page(self, **changes: Any) -> Path:
        path = self.root / "page.yaml"
        named = {"file": "made.yaml", "records": "records/made.jsonl.gz"}
        path.write_text(yaml.safe_dump({"title": "Made", "reference": "triplet", "studies": [named], **changes}))
        return path


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


# convergence ----------------------------------------------------------------------------------------------------


def test_steps_are_read_off_a_straight_line_between_two_validations() -> None:
    points = [(10, 0.2), (20, 0.4), (30, 0.3), (40, 0.6)]
    assert figures.steps_until(points, 0.3) == figures.Reached(pytest.approx(15.0))
    assert figures.steps_until(points, 0.4) == figures.Reached(20.0), "the first time counts, whatever comes after"
    assert figures.steps_until(points, 0.45) == figures.Reached(pytest.approx(35.0))
    assert figures.steps_until(points, 0.61) == figures.Reached(None)


def test_a_curve_that_is_there_at_its_first_validation_says_so() -> None:
    assert figures.steps_until([(10, 0.5), (20, 0.6)], 0.5) == figures.Reached(10.0, at_first=True)
    assert figures.steps_until([], 0.5) == figures.Reached(None)


def test_steps_agree_with_walking_along_the_curve() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        scores = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        points = [(10 * place, score) for place, score in enumerate(scores, start=1)]
        found = figures.steps_until(points, 0.7)
        fine = [10 + step / 1000 for step in range(50_001)]
        walked = next((step for step in fine if _height(scores, step) >= 0.7), None)
        assert (found.steps is None) == (walked is None)
        assert walked is None or found.steps == pytest.approx(walked, abs=2e-3)


def _height(scores: Sequence[float], step: float) -> float:
    left = min(int(step // 10), len(scores) - 1)
    share = step / 10 - left
    return scores[left - 1] + share * (scores[left] - scores[left - 1])


def _pool(curves: Mapping[str, Sequence[Sequence[float]]]) -> Any:
    """Runs of several seeds with a validation every ten steps."""
    runs = {
        ("d", arm, seed, -1): {
            "data": "d",
            "arm": arm,
            "seed": seed,
            "fold": None,
            "state": FINISHED,
            "steps": 10 * len(scores),
            "training_seconds": 10.0 * len(scores) * (2 if arm == "b" else 1),
            "validation": [[10 * place, score, 0.0] for place, score in enumerate(scores, start=1)],
        }
        for arm, seeds in curves.items()
        for seed, scores in enumerate(seeds)
    }
    return figures.Pool("d", "a", ["b", "a"], runs, {})


def test_a_race_is_run_seed_by_seed_against_the_reference_s_own_best() -> None:
    pool = _pool({"a": [(0.1, 0.3, 0.5), (0.2, 0.8, 1.0)], "b": [(0.1, 0.5, 0.6), (0.2, 0.6, 1.0)]})
    race = figures.race(pool, "b", 1.0)
    assert [mine.steps for _, mine, _ in race.runs] == pytest.approx([20.0, 30.0])
    assert [other.steps for _, _, other in race.runs] == pytest.approx([30.0, 30.0])
    assert race.ratio == pytest.approx(math.sqrt(20 / 30))
    assert race.steps == pytest.approx(math.sqrt(20 * 30))
    assert (race.censored, race.at_first) == (0, 0)
    logs = torch.tensor([20 / 30, 1.0], dtype=torch.float64).log()
    bounds = class_bootstrap(logs, torch.arange(2), generator=torch.Generator().manual_seed(0))
    assert race.bounds == pytest.approx([math.exp(bound) for bound in bounds])


def test_runs_that_never_get_there_are_counted_and_bound_the_ratio_from_below() -> None:
    pool = _pool({"a": [(0.1, 0.5, 0.4), (0.1, 0.5, 0.4)], "b": [(0.1, 0.2, 0.3), (0.5, 0.5, 0.5)]})
    race = figures.race(pool, "b", 1.0)
    assert [mine.steps for _, mine, _ in race.runs] == [None, 10.0]
    assert (race.censored, race.at_first) == (1, 1)
    assert race.ratio == pytest.approx(math.sqrt(30 / 20 * 10 / 20))
    assert figures.race(pool, "a", 0.9).ratio == 1.0


def test_a_seed_without_the_reference_is_left_out_of_the_race() -> None:
    pool = _pool({"a": [(0.1, 0.5)], "b": [(0.1, 0.5), (0.1, 0.9)]})
    race = figures.race(pool, "b", 1.0)
    assert [run["seed"] for run, _, _ in race.runs] == [0]
    assert math.isnan(race.bounds[0]), "one seed says nothing of others"
    assert figures.race(_pool({"b": [(0.1, 0.5)]}), "b", 1.0) is None


def test_cost_is_per_step_and_relative_seed_by_seed() -> None:
    pool = _pool({"a": [(0.1, 0.5), (0.1, 0.5)], "b": [(0.1,), (0.1, 0.2, 0.3)]})
    assert figures.cost(pool, "b") == figures.Cost("b", 2.0, [2.0, 2.0])
    assert figures.cost(pool, "c") is None


def test_the_mean_curve_lies_where_all_runs_were_validated() -> None:
    runs = list(_pool({"a": [(0.1, 0.3, 0.5), (0.3, 0.5)]}).runs.values())
    rows = figures.mean_curve(runs)
    assert [(row[0], row[1]) for row in rows] == [(10, pytest.approx(0.2)), (20, pytest.approx(0.4))]
    t, error = 12.706204736, 0.1  # one degree of freedom; the deviation of 0.1 and 0.3 by the root of two
    assert rows[0][2:] == pytest.approx((0.2 - t * error, 0.2 + t * error))
    assert figures.mean_curve([]) == []


# records --------------------------------------------------------------------------------------------------------


def test_records_hold_what_the_run_folders_hold(made: Made) -> None:
    made.fill()
    found = made.gather()
    run = found.runs["objects", "proxy_nca", 1, -1]
    assert run["metrics"] == {"recall@1": 0.6, "map@r": pytest.approx(run["metrics"]["map@r"]), "nmi": 0.75, "f1": None}
    assert run["validation"] == [[10, 0.3, 0.15], [20, 0.5, 0.25], [30, 0.6, 0.3], [40, 0.6, 0.3]]
    assert (run["steps"], run["training_seconds"], run["settings"]) == (40, 5.0, {"recipe": "proxy_nca"})
    gallery = found.galleries[run["gallery"]]
    assert gallery["queries"] == [8] * 30
    values = made_runs.scores(1, 0.6).tolist()
    for place in range(30):
        mine = values[8 * place : 8 * place + 8]
        assert run["sums"]["map@r"][place] == pytest.approx(sum(mine), abs=1e-9)
        assert run["sums"]["recall@1"][place] == sum(value > 0.5 for value in mine)
    assert run["config"]["training"]["steps"] == 40
    assert "device" not in run["config"]["training"]


def test_the_same_study_makes_the_same_bytes(made: Made) -> None:
    made.fill()
    made.gather()
    path = made.into / "made.jsonl.gz"
    first = path.read_bytes()
    made.gather()
    assert path.read_bytes() == first, "records that are there already change nothing"
    records.write(records.read(path), path)
    assert path.read_bytes() == first


def test_what_has_not_ended_is_named_and_what_failed_is_kept(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.failed, made.left_out = {"n_pair/seed-0"}, {"n_pair/seed-1"}
    made.fill()
    found = made.gather()
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{made.into / 'made.jsonl.gz'}: 4 runs finished, 1 failed, 1 missing",
        "  missing: objects, n_pair, seed 1",
    ]
    assert found.runs["objects", "n_pair", 0, -1]["message"] == "./x went wrong\nat length"
    assert ("objects", "n_pair", 1, -1) not in found.runs


def test_tuning_is_kept_with_every_trial(made: Made) -> None:
    made.study["tune"] = TUNE
    made.failed = {"n_pair/trial-0-fold-1", "triplet/trial"}
    made.fill()
    found = made.gather()
    row = found.tunings["objects", "n_pair"]
    assert (row["best"], row["complete"]) == (1, True)
    assert [trial["folds"] for trial in row["trials"]] == [[0.1, None], [0.2, 0.2]]
    assert [trial["score"] for trial in row["trials"]] == [None, 0.2]
    assert [len(trial["failures"]) for trial in row["trials"]] == [1, 0]
    assert found.runs["objects", "n_pair", 0, -1]["settings"] == {"recipe": "n_pair", **row["settings"]}
    blocked = found.runs["objects", "triplet", 0, -1]
    assert blocked["state"] == "failed"
    assert "all of its trials failed" in blocked["message"]


def test_folders_of_a_machine_are_not_recorded(made: Made) -> None:
    made.study["data"] = {"name": "objects", "source": str(made.root / "images" / "birds.zip")}
    made.fill()
    made.gather()
    text = records.gzip.decompress((made.into / "made.jsonl.gz").read_bytes()).decode()
    assert '"source":"birds.zip"' in text
    assert str(made.root) not in text


def test_a_finished_run_that_is_recorded_is_not_replaced(made: Made, tmp_path: Path) -> None:
    made.failed, made.left_out = {"n_pair/seed-0"}, {"n_pair/seed-1"}
    made.fill()
    first = made.gather()
    made.failed, made.left_out, made.out = set(), set(), tmp_path / "again"
    made.levels = {("triplet", 0): 0.9}
    made.fill()
    second = made.gather()
    key = ("objects", "triplet", 0, -1)
    assert second.runs[key] == first.runs[key]
    assert {run["state"] for run in second.runs.values()} == {FINISHED}, "what failed, and finished now, is replaced"
    assert len(second.runs) == 6


def test_records_of_another_study_are_refused(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.fill()
    made.gather()
    made.study["steps"], made.out = 41, tmp_path / "again"
    made.fill()
    assert evidence.main(["gather", str(made.out), "--into", str(made.into)]) == UsageError.exit_code
    assert "recorded with other settings" in capsys.readouterr().err


def test_records_of_a_version_with_fewer_options_still_fit(made: Made) -> None:
    made.fill()
    found = made.gather()
    for run in found.runs.values():
        del run["config"]["training"]["clip_norm"]
    records.write(found, made.into / "made.jsonl.gz")
    assert len(made.gather().runs) == 6
    assert missing.missing(make_study(made.study), found) == []


def test_what_is_no_study_and_no_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no study in"):
        records.gather(tmp_path)
    (tmp_path / "x.jsonl.gz").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="holds no records"):
        records.read(tmp_path / "x.jsonl.gz")
    head = {"record": "study", "schema_version": 99}
    (tmp_path / "x.jsonl.gz").write_bytes(records.gzip.compress(json.dumps(head).encode()))
    with pytest.raises(ArtifactError, match="schema_version 99"):
        records.read(tmp_path / "x.jsonl.gz")


# pages ----------------------------------------------------------------------------------------------------------


def test_differences_are_those_of_accord_compare(made: Made) -> None:
    made.study["seeds"] = 3
    made.levels = {("proxy_nca", 0): 0.52, ("proxy_nca", 1): 0.56}
    made.fill()
    found = made.gather()
    (pool,) = figures.pools([(found, records.wanted(make_study(made.study)))], "triplet")
    methods = {arm: [made.out / f"runs/objects/{arm}/seed-{seed}" for seed in range(3)] for arm in TRAINED}
    told = compare_runs(methods, metric="map@r", anyway=True)["results"]["galleries"][0]["differences"]
    other = {pair["second"]: pair for pair in told if pair["first"] == "triplet"}
    mine = figures.differences(pool, "map@r")
    assert [pair["first"] for pair in mine] == ["proxy_nca", "n_pair"]
    for pair in mine:
        its = other[pair["first"]]
        assert pair["difference"] == pytest.approx(-its["difference"], abs=1e-8)
        assert pair["interval"] == pytest.approx([-bound for bound in reversed(its["interval"])], abs=1e-8)
        assert pair["p_holm"] == pytest.approx(its["p_holm"])
    assert mine[1]["word"] == "worse"


def test_a_page_follows_from_its_records_to_the_last_byte(made: Made) -> None:
    made.fill()
    made.gather()
    path = made.page(intro="Nothing is learnt here.")
    assert evidence.main(["page", str(path), "--check"]) == 1, "there is none yet"
    assert evidence.main(["page", str(path)]) == 0
    text, svg = (made.root / "page.md").read_bytes(), (made.root / "page-convergence.svg").read_bytes()
    assert evidence.main(["page", str(path), "--check"]) == 0
    made.gather()
    assert [told.encode() for told in page.make_page(path).values()] == [text, svg]
    (made.root / "page.md").write_text("x")
    assert evidence.main(["page", str(path), "--check"]) == 1


def test_a_page_tells_every_seed_its_commands_and_what_is_censored(made: Made) -> None:
    made.failed = {"proxy_nca/seed-1"}
    made.left_out = {"n_pair/seed-1"}
    made.fill()
    made.gather()
    text = next(iter(page.make_page(made.page()).values()))
    for line in (
        "# Made",
        "accord study made.yaml --out studies/made",
        "python benchmarks/evidence.py gather studies/made --into records",
        "`python benchmarks/evidence.py page page.yaml`",
        "240 queries of 30 unseen classes.",
        "| n_pair | 0 | 40.0 |",
        f"| proxy_nca | 60.0 | {100 * float(made_runs.scores(0, 0.6).mean()):.1f} | 75.0 | – | 1, 1 failed |",
        "| triplet | 0 | 25 | 30 |",
        "| proxy_nca | 0 | 18 | 20 |",
        "| n_pair | 0 | censored at 40 | censored at 40 |",
        "| n_pair | 90 % | 0 of 1 | 0 | ≥ 40 | ≥ 1.60 |",
        "| objects | triplet | 112 | 1.00 | 1.00 – 1.00 |",
        "- objects, proxy_nca, seed 1: ./x went wrong",
        "Not recorded yet:\n\n- objects, n_pair, seed 1",
    ):
        assert line in text, line


def test_a_page_is_refused_where_it_would_tell_less_than_there_is(made: Made) -> None:
    made.fill()
    found = made.gather()
    with pytest.raises(UnknownNameError, match="Did you mean 'triplet'"):
        page.make_page(made.page(reference="triplets"))
    with pytest.raises(UsageError, match="titel: There is no option called 'titel'"):
        page.make_page(made.page(titel="x"))
    twice = [(found, list(found.runs))] * 2
    with pytest.raises(UsageError, match="is in two of the studies"):
        figures.pools(twice, "triplet")
    with pytest.raises(UsageError, match="No run of these studies has finished"):
        figures.pools([(found._replace(runs={}), [])], "triplet")
    made.study["seeds"] = 1
    made.file.write_text(yaml.safe_dump(made.study, sort_keys=False))
    with pytest.raises(UsageError, match="seed 1 is recorded, and the study file does not ask for it"):
        page.make_page(made.page())
    made.study |= {"seeds": 2, "steps": 50}
    made.file.write_text(yaml.safe_dump(made.study, sort_keys=False))
    with pytest.raises(UsageError, match=r"training\.steps: 40 → 50"):
        page.make_page(made.page())


def test_in_a_contest_validation_speaks_for_us_and_the_test_for_the_rival(made: Made) -> None:
    made.study |= {"arms": {arm: {"recipe": arm} for arm in (*TRAINED, "contrastive")}, "seeds": 3}
    made.levels = {("contrastive", seed): 0.7 for seed in range(3)}
    made.curves = {("contrastive", seed): CURVE["triplet"] for seed in range(3)}
    made.held_out = {"contrastive": 0.2, "proxy_nca": 0.3}  # what is best in the test is not best on validation
    made.fill()
    found = made.gather()
    (pool,) = figures.pools([(found, records.wanted(make_study(made.study)))], "triplet")
    asked = contests.Contest("is it?", ["contrastive", "proxy_nca"], ["triplet", "n_pair"])
    (one, other) = contests.answers(pool, [asked], ["recall@1", "map@r"])
    assert (one.pair["first"], one.pair["second"]) == ("proxy_nca", "triplet")
    assert other.pair["verdict"].startswith("better")
    (plain,) = [pair for pair in figures.differences(pool, "map@r") if pair["first"] == "proxy_nca"]
    assert other.pair["difference"] == plain["difference"]
    assert other.pair["interval"] == plain["interval"]
    assert other.pair["p_holm"] == pytest.approx(2 * plain["p"]), (
        "corrected over the rows that are shown, not over more"
    )
    sides = {"is it?": {"arms": ["contrastive", "proxy_nca"], "rivals": ["triplet", "n_pair"]}}
    files = page.make_page(made.page(contests=sides))
    text, svg = files.values()
    assert list(files) == [made.root / "page.md", made.root / "page-differences.svg"]
    assert "![differences with their intervals](page-differences.svg)" in text
    assert ">is it?</text>" in svg, "of one data set a row for each question"
    assert "| is it? | `proxy_nca` | `triplet` | MAP@R | +10.0" in text
    assert "| contrastive | 50.0 ± 0.0 | 20.0 ± 0.0 | 70.0 ± 0.0 |" in text
    assert "Convergence" not in text
    with pytest.raises(UnknownNameError, match=r"contest 'is it.'.*proxy_nca"):
        contests.answers(pool, [asked._replace(arms=["proxy_nac"])], ["map@r"])


def test_a_page_tells_how_alike_trained_heads_are(made: Made) -> None:
    made.fill()
    pairs = [("a", "b", 0.5), ("a", "c", 0.7), ("b", "c", 0.9), ("a", "trunk", 0.0)]
    for seed, shift in ((0, 0.0), (1, 0.1)):
        told = [{"first": a, "second": b, "cka": v + shift, "same_neighbour": v, "one_right": 0.2} for a, b, v in pairs]
        with RunFolder.open(made.out / f"runs/objects/n_pair/seed-{seed}") as run:
            run.write_json("heads.json", {"agreement": told})
            run.seal()
    found = made.gather()
    assert found.runs["objects", "n_pair", 1, -1]["alike"]["cka"] == pytest.approx(0.8)
    assert "alike" not in found.runs["objects", "triplet", 1, -1]
    text = next(iter(page.make_page(made.page(contests={"?": {"arms": ["n_pair"], "rivals": ["triplet"]}})).values()))
    (row,) = re.findall(r"one of two right \|\n\| ---.*\n(.*)\n\n", text)
    assert row == "| n_pair | 75.0 ± 7.1 | 70.0 ± 0.0 | 20.0 ± 0.0 |"


def test_a_data_set_is_asked_what_its_arms_can_answer(made: Made) -> None:
    made.fill()
    (pool,) = figures.pools([(made.gather(), records.wanted(make_study(made.study)))], "triplet")
    other = pool._replace(arms=["triplet", "random"])
    asks = [
        contests.Contest("both?", ["n_pair", "random"], ["triplet"]),
        contests.Contest("elsewhere?", ["n_pair"], ["random"]),
    ]
    assert page.asked_of(pool, [pool, other], asks) == [contests.Contest("both?", ["n_pair"], ["triplet"])]
    with pytest.raises(UnknownNameError, match=r"contest 'elsewhere.'.*random"):
        page.asked_of(pool, [pool], asks[1:])


def test_in_a_contest_only_seeds_that_all_have_are_compared_on_validation(made: Made) -> None:
    made.held_out, made.left_out = {"proxy_nca": 0.3}, {"proxy_nca/seed-1", "n_pair"}
    made.fill()
    (pool,) = figures.pools([(made.gather(), records.wanted(make_study(made.study)))], "triplet")
    assert contests.best_on_validation(pool, ["triplet", "proxy_nca"]) == "proxy_nca"
    assert contests.best_on_validation(pool, ["n_pair"]) is None
    (answer,) = contests.answers(pool, [contests.Contest("one seed?", ["triplet"], ["proxy_nca"])], ["map@r"])
    (mine,), (theirs,) = (pool.of(arm)[:1] for arm in ("triplet", "proxy_nca"))
    want = mine["metrics"]["map@r"] - theirs["metrics"]["map@r"]
    assert answer.pair["difference"] == pytest.approx(want), "over the one seed that both have"
    assert answer.pair["verdict"].endswith("(preliminary: other seeds are not covered)")
    nobody = contests.Contest("who?", ["n_pair"], ["triplet"])
    assert contests.answers(pool, [nobody], ["map@r"]) == []
    for run in pool.of("triplet"):
        del run["held_out"]
    with pytest.raises(UsageError, match="triplet, seed 0, tells nothing of its validation classes"):
        contests.best_on_validation(pool, ["triplet"])


def test_of_many_missing_runs_the_arms_are_named(made: Made) -> None:
    made.study["seeds"], made.left_out = 12, {r"seed-([1-9]|1\d)$"}
    made.fill()
    made.gather()
    text = next(iter(page.make_page(made.page()).values()))
    assert "Not recorded yet:\n\n- objects, triplet: 11 runs" in text


def test_the_plot_is_svg_with_a_panel_for_each_data_set_and_a_band_for_each_line() -> None:
    line = [(10.0, 0.2, 0.1, 0.3), (20.0, 0.4, 0.3, 1.5)]
    alone = [(10.0, 0.2, math.nan, math.nan), (20.0, 0.4, math.nan, math.nan)]
    svg = plot.draw([plot.Panel("a<b", {"x": line, "y": alone}), plot.Panel("c", {})], x="step", y="R", description="&")
    tree = ElementTree.fromstring(svg)
    texts = [node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a<b", "x", "y", "step", "R", "c: nothing was validated"} <= set(texts)
    assert svg.count("fill-opacity") == 1
    assert "nan" not in svg
    assert plot.ticks(0.0, 9.0) == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_differences_lie_where_the_axis_says_and_intervals_may_be_missing() -> None:
    marks = [forest.Mark(2.0, 1.0, 4.0), forest.Mark(-1.0, math.nan, math.nan)]
    nothing = [forest.Mark(math.nan, math.nan, math.nan)]
    groups = [forest.Group("a<b", [forest.Line("one", marks), forest.Line("none", nothing)])]
    svg = forest.draw_forest(groups, metrics=["R", "M"], x="points", description="&")
    tree = ElementTree.fromstring(svg)
    tag = "{http://www.w3.org/2000/svg}"
    ticks = {node.text: float(node.get("x")) for node in tree.iter(f"{tag}text")}
    assert {"a<b", "one", "none", "R", "M", "points", "0", "+2", "+4"} <= set(ticks)
    (disc,) = tree.findall(f"{tag}circle")
    (square,) = tree.findall(f"{tag}rect")[1:]
    assert float(disc.get("cx")) == pytest.approx(ticks["+2"], abs=0.1)
    assert float(square.get("x")) + 3.3 == pytest.approx(1.5 * ticks["0"] - 0.5 * ticks["+2"], abs=0.2)
    (bar,) = [node.get("d") for node in tree.findall(f"{tag}path") if "H" in node.get("d")]
    assert [float(end.split(" ")[0]) for end in bar.strip("M").split("H")] == pytest.approx(
        [(ticks["0"] + ticks["+2"]) / 2, ticks["+4"]], abs=0.1
    )
    assert "nan" not in svg
    assert forest.draw_forest([], metrics=["R"], x="points", description="").startswith("<svg")


def test_pages_that_are_there_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted((ROOT / "docs/results").glob("*.yaml")):
        if path.with_suffix(".md").exists():
            assert evidence.main(["page", str(path), "--check"]) == 0, capsys.readouterr()


# what is missing ------------------------------------------------------------------------------------------------


def test_everything_is_missing_without_records(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.file.write_text(yaml.safe_dump(made.study, sort_keys=False))
    assert evidence.main(["missing", str(made.file), "--records", str(made.into)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "6 of 6 runs have no record"
    assert out[1] == "  missing: objects, triplet, seed 0"


def test_the_rest_of_a_study_is_what_is_missing_with_what_was_tuned(made: Made) -> None:
    per_arm = {"n_pair": {"losses.0.options.penalty": {"uniform": [0.001, 0.01]}}}
    made.study |= {"tune": {**TUNE, "per_arm": per_arm}, "seeds": 4, "folds": 2}
    made.left_out = {"triplet/seed-[23]", "n_pair/trial-1", "proxy_nca/seed-2"}
    made.failed = {"proxy_nca/seed-3"}
    made.fill()
    found = made.gather()
    rest = made.root / "rest.yaml"
    given = ["missing", str(made.file), "--records", str(made.into), "--write", str(rest)]
    assert evidence.main(given) == 0
    parts = [yaml.safe_load((made.root / f"rest-{number}.yaml").read_text()) for number in (1, 2, 3)]
    wanted = [records.wanted(make_study(part)) for part in parts]
    assert wanted[0] == [("objects", "triplet", 2, 0), ("objects", "triplet", 3, 1)]
    assert wanted[1] == [("objects", "proxy_nca", 2, 0)]
    assert wanted[2] == [("objects", "n_pair", seed, seed % 2) for seed in range(4)]
    assert ["tune" in part for part in parts] == [False, False, True]
    assert parts[2]["tune"]["per_arm"] == per_arm
    plan, whole = Plan(make_study(parts[0])), Plan(make_study(made.study))
    tuned = found.tunings["objects", "triplet"]["settings"]
    assert plan.final("objects", "triplet", 3, 1, {}) == whole.final("objects", "triplet", 3, 1, tuned)
    assert parts[0]["arms"]["triplet"] == {"recipe": "triplet", **tuned}


def test_the_rest_is_gathered_into_the_same_records(made: Made, tmp_path: Path) -> None:
    made.study["tune"] = TUNE
    made.left_out = {"seed-1"}
    made.fill()
    first = made.gather()
    (part,) = missing.rest_of(made.file, first)
    whole, made.study, made.left_out, made.out = made.study, part, set(), tmp_path / "rest"
    made.file = tmp_path / "rest.yaml"
    made.fill()
    second = made.gather()
    assert len(second.runs) == 6
    assert second.tunings == first.tunings
    assert missing.missing(make_study(whole), second) == []


def test_what_is_made_of_a_run_that_is_recorded_has_it_trained_again(made: Made) -> None:
    made.study |= {"compress": {"small": {"of": "n_pair", "method": "pca", "dim": 4}}, "allow": ["embedding_size"]}
    made.left_out, made.failed = {"small/seed-1", "proxy_nca/seed-1"}, {"triplet/seed-0"}
    made.fill()
    found = made.gather()
    assert found.runs["objects", "small", 0, -1]["settings"] == {"of": "n_pair", "method": "pca", "dim": 4}
    assert found.runs["objects", "small", 0, -1]["config"]["compression"]["dim"] == 4
    assert missing.missing(make_study(made.study), found) == [
        ("objects", "proxy_nca", 1, -1),
        ("objects", "small", 1, -1),
    ]
    (part,) = missing.rest_of(made.file, found)
    assert set(records.wanted(make_study(part))) == {
        *(("objects", arm, 1, -1) for arm in ("proxy_nca", "n_pair", "small")),
    }
    other = make_study({**made.study, "compress": {"small": {"of": "n_pair", "method": "lda", "dim": 4}}})
    with pytest.raises(UsageError, match="objects, small, seed 0 is recorded with other settings"):
        missing.missing(other, found)


def test_a_study_that_would_run_something_else_is_refused(made: Made) -> None:
    made.fill()
    study = make_study(made.study)
    with pytest.raises(UsageError, match="can't be a study of their own, because of objects, n_pair, seed 0"):
        missing.check_part(study, study, records.wanted(study)[1:4], None)
    other = make_study({**made.study, "steps": 50})
    with pytest.raises(UsageError, match="would not be trained with the settings"):
        missing.check_part(other, study, records.wanted(study), None)

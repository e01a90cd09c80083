"""Turns what a study found into records that the repository keeps, and records into a page with tables and a plot.

    python benchmarks/evidence.py gather studies/NAME --into docs/results/records    # what has ended, as NAME.jsonl.gz
    python benchmarks/evidence.py page docs/results/PAGE.yaml                        # PAGE.md and its plot
    python benchmarks/evidence.py page docs/results/PAGE.yaml --check                # whether they are fresh
    python benchmarks/evidence.py missing STUDY.yaml                                 # the runs without a record
    python benchmarks/evidence.py missing STUDY.yaml --write REST.yaml               # a study of these alone

`gather` adds to records that are there: a study may be done in parts and on several machines. A finished run that is
recorded is never replaced.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from _evidence_missing import dump, missing, rest_of
from _evidence_page import make_page
from _evidence_records import Evidence, asked, gather, merge, named, read, wanted, write

from accord.errors import AccordError
from accord.recipes.study.config import read_study
from accord.recipes.study.schedule import FAILED, FINISHED

RECORDS = Path(__file__).resolve().parent.parent / "docs/results/records"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    command = commands.add_parser("gather", help="write what a study found, as far as it has ended")
    command.add_argument("study", type=Path, help="the study's folder")
    command.add_argument("--into", type=Path, default=RECORDS, help="folder of the records")
    command = commands.add_parser("page", help="write the page of a page file")
    command.add_argument("page", type=Path)
    command.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is not fresh")
    command = commands.add_parser("missing", help="tell which runs of a study have no record")
    command.add_argument("study", type=Path, help="the study's file")
    command.add_argument("--records", type=Path, default=RECORDS, help="folder of the records")
    command.add_argument("--write", type=Path, help="write a study file of these runs, with the settings already tuned")
    given = parser.parse_args(arguments)
    try:
        return {"gather": _gather, "page": _page, "missing": _missing}[given.command](given)
    except AccordError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _gather(given: argparse.Namespace) -> int:
    found = gather(given.study)
    path = given.into / f"{found.study['study']['name']}.jsonl.gz"
    found = merge(read(path), found) if path.exists() else found
    write(found, path)
    lacks = [key for key in wanted(asked(found)) if key not in found.runs]
    states = [run["state"] for run in found.runs.values()]
    print(f"{path}: {states.count(FINISHED)} runs finished, {states.count(FAILED)} failed, {len(lacks)} missing")
    _tell("missing", map(named, lacks))
    return 0


def _page(given: argparse.Namespace) -> int:
    files = make_page(given.page)
    if given.check:
        stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
        _tell("not fresh", map(str, stale))
        return 1 if stale else 0
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


def _missing(given: argparse.Namespace) -> int:
    study = read_study(given.study)
    path = given.records / f"{study.name}.jsonl.gz"
    evidence: Evidence | None = read(path) if path.exists() else None
    lacks = missing(study, evidence)
    print(f"{len(lacks)} of {len(wanted(study))} runs have no record")
    _tell("missing", map(named, lacks))
    if given.write and lacks:
        parts = rest_of(given.study, evidence)
        for number, raw in enumerate(parts, start=1):
            file = given.write if len(parts) == 1 else given.write.with_stem(f"{given.write.stem}-{number}")
            dump(raw, file)
            print(f"accord study {file} --out studies/{file.stem}")
    return 0


def _tell(word: str, names: Iterable[str]) -> None:
    for name in names:
        print(f"  {word}: {name}")


if __name__ == "__main__":
    sys.exit(main())

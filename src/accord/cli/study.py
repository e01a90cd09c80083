"""`accord study`: many runs from one file, side by side, tuned alike and compared."""

from pathlib import Path
from typing import Any

import typer

from accord.cli.show import print_json, print_table, terminal


def command(
    file: Path = typer.Argument(..., help="Study file, or 'ensemble', which comes with accord; see docs/study.md."),
    data: list[str] = typer.Option([], "--data", "-d", help="Images in place of the study's own. Repeat it."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder of the study. Default: studies/NAME."),
    workers: int | None = typer.Option(None, "--workers", "-w", help="Runs at once. Default: one per processor."),
    again: bool = typer.Option(False, "--again", help="Try the runs that failed once more."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check everything and say what would be run."),
    status: bool = typer.Option(False, "--status", help="Show the results so far; run nothing."),
    as_json: bool = typer.Option(False, "--json", help="Print the results as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Train every arm on every data set with every seed, and compare the arms.

    The same command goes on after a stop; finished runs are never repeated. Exit code 1 if a run failed.
    """
    from accord.errors import UsageError
    from accord.recipes import plan_study, run_study, study_status

    if dry_run and status:
        raise UsageError("--dry-run says what would be, --status what is. Give one of them.")
    if (dry_run or status) and (again or workers is not None):
        raise UsageError("--again and --workers are for running a study. Leave them out.")
    with terminal(quiet=quiet) as watch:
        if dry_run:
            plan = plan_study(file, out=out, data=data, watch=watch)
        elif status:
            results = study_status(file, out=out, data=data)
        else:
            results = run_study(file, out=out, data=data, workers=workers, again=again, watch=watch)
    if dry_run:
        _tell_plan(plan, as_json=as_json)
        return
    _tell(results, as_json=as_json)
    counts = results["counts"]
    if not status and counts["failed"] + counts["blocked"]:
        raise typer.Exit(1)


def _tell_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    arms = [{**arm, "settings": [f"{key}={value}" for key, value in arm["settings"].items()]} for arm in plan["arms"]]
    print_table("arms", [{"name": arm["arm"], **arm} for arm in arms], ("name", "losses", "settings"))
    if plan["compress"]:
        made = [{"name": arm["arm"], **arm, "heads": ", ".join(arm["heads"] or ["all"])} for arm in plan["compress"]]
        print_table("made of their runs", made, ("name", "of", "method", "dim", "heads"))
    print_table(
        "data",
        [{"name": row["data"], **row} for row in plan["data"]],
        ("name", "images", "training_classes", "test_classes"),
    )
    tuned = f", {plan['trials']} trials for each arm on each data set" if plan["trials"] else ""
    seeds = ", ".join(map(str, plan["seeds"]))
    typer.echo(f"\nSeeds {seeds}{tuned}: {plan['runs']} runs in {plan['folder']}. Nothing was run.")


def _tell(results: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    counts = results["counts"]
    title = f"{results['name']}: {counts['finished']} of {counts['runs']} runs finished, {counts['failed']} failed"
    columns = ("data", "name", "R@1", "MAP@R", "validation MAP@R", "each seed", "failed")
    print_table(title, [_row(row) for row in results["table"]], columns)
    for row in results["table"]:
        for run in (run for run in row["seeds"] if run["message"]):
            typer.echo(f"failed: {run['run']}: {run['message']}")
    for pair in results.get("comparison", {}).get("verdicts", []):
        typer.echo(f"{pair['data']}: {pair['first']} against {pair['second']}: {pair['verdict']}")
    if why := results.get("comparison", {}).get("why"):
        typer.echo(f"not compared: {why}")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    seeds = [run["metrics"].get("map@r") for run in row["seeds"] if run["state"] == "finished"]
    return {
        "data": row["data"],
        "name": row["arm"],
        "R@1": _spread(row, "recall@1"),
        "MAP@R": _spread(row, "map@r"),
        "validation MAP@R": _spread(row, "validation map@r"),
        "each seed": ", ".join(f"{100 * seed:.1f}" for seed in seeds),
        "failed": row["failed"] or "",
    }


def _spread(row: dict[str, Any], key: str) -> str:
    """The mean over seeds in percent, and the deviation between them."""
    mean, deviation = row["mean"].get(key), row["deviation"].get(key)
    if mean is None:
        return ""
    return f"{100 * mean:.1f}" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}"

"""`accord compare`: holds methods against each other by their runs, with intervals and verdicts."""

from pathlib import Path
from typing import Any

import typer

from accord.cli.show import print_json, terminal


def command(
    runs: list[Path] | None = typer.Argument(None, help="Run folders; those that differ only in seeds are one method."),
    group: list[str] = typer.Option([], "--group", "-g", help="A method and its runs: NAME=RUN,RUN. Repeat it."),
    metric: str = typer.Option("map@r", "--metric", "-m", help="What is compared: recall@1, r_precision and so on."),
    bar: float = typer.Option(0.5, "--bar", help="Points below which a difference would not matter."),
    draws: int = typer.Option(10_000, "--draws", help="Draws over seeds and classes."),
    seed: int = typer.Option(0, "--seed", help="Seed of the draws."),
    allow: str | None = typer.Option(None, "--allow", help="Differences to allow, such as backbone,steps."),
    against: str | None = typer.Option(None, "--against", help="Compare with these methods only, such as A,B."),
    anyway: bool = typer.Option(False, "--anyway", help="Compare whatever differs; the result is labelled."),
    json_file: Path | None = typer.Option(None, "--json", help="Write everything as JSON; - prints it."),
    html_file: Path | None = typer.Option(None, "--html", help="Write a page with plots of the intervals."),
    verify: Path | None = typer.Option(None, "--verify", help="Compute the figures of this JSON file again."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace files that exist."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Compare methods on classes they have never seen: every seed, intervals over seeds and classes, fixed verdicts.

    Refuses runs that were not made alike (exit code 2). --verify ends with exit code 5 if a figure differs.
    """
    from accord.errors import UsageError
    from accord.recipes import compare_runs
    from accord.reports import render_comparison, write_comparison

    if verify is not None:
        if runs or group or html_file:
            raise UsageError("--verify computes a comparison again from its own file; give no runs beside it.")
        _verify(verify, as_json=json_file is not None, quiet=quiet)
        return
    printed = json_file is not None and str(json_file) == "-"
    files = {"json_file": None if printed else json_file, "html_file": html_file}
    _refuse_to_write([file for file in files.values() if file is not None], overwrite=overwrite)
    with terminal(quiet=quiet) as watch:
        document = compare_runs(
            _methods(runs or [], group),
            metric=metric,
            bar_points=bar,
            draws=draws,
            seed=seed,
            allow=_names(allow),
            against=_names(against),
            anyway=anyway,
            watch=watch,
        )
    written = write_comparison(document, **files)
    if printed:
        print_json(document)
    else:
        typer.echo(render_comparison(document), nl=False)
        for path in written:
            typer.echo(f"Written: {path}")


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _methods(runs: list[Path], groups: list[str]) -> dict[str, list[Path]]:
    """The runs of each method, named by the user or found by their configurations."""
    from accord.errors import UsageError
    from accord.recipes import group_runs

    if runs and groups:
        raise UsageError("Give run folders, or groups of them by --group NAME=RUN,RUN; not both.")
    if not groups:
        if not runs:
            raise UsageError("Say what to compare: accord compare RUN RUN, or --group NAME=RUN,RUN twice.")
        return group_runs(runs)
    methods: dict[str, list[Path]] = {}
    for given in groups:
        name, sign, paths = given.partition("=")
        found = [Path(path) for path in paths.split(",") if path]
        if not sign or not name or not found:
            raise UsageError(f"--group {given}: write it as NAME=RUN,RUN.")
        if name in methods:
            raise UsageError(f"--group {given}: there is a group '{name}' already. List all its runs in one.")
        methods[name] = found
    return methods


def _refuse_to_write(files: list[Path], *, overwrite: bool) -> None:
    """What would only be found out after the last draw, or would cost somebody a file."""
    from accord.errors import UsageError

    for file in files:
        if file.is_dir() or (file.exists() and not overwrite):
            raise UsageError(f"{file} exists already. Give another name{'' if file.is_dir() else ', or --overwrite'}.")
        if not file.parent.is_dir():
            raise UsageError(f"{file}: there is no folder {file.parent}. Make it, or give another.")


def _verify(path: Path, *, as_json: bool, quiet: bool) -> None:
    """Say whether every figure comes out again; exit code 5 if not."""
    import json

    from accord.errors import ArtifactError
    from accord.recipes import verify_comparison

    try:
        document: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} can't be read as JSON: {getattr(error, 'strerror', None) or error}.") from None
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} is no comparison: it holds no JSON object.")
    with terminal(quiet=quiet) as watch:
        unequal = verify_comparison(document, watch=watch)
    if as_json:
        print_json({"file": str(path), "equal": not unequal, "unequal": unequal})
    else:
        typer.echo(f"{path}: every figure comes out again, to the last digit." if not unequal else f"{path} differs:")
        for place in unequal[:20]:
            typer.echo(f"  {place}")
    if unequal:
        raise typer.Exit(ArtifactError.exit_code)

"""`accord evaluate`: judges a finished run anew on its unseen classes."""

from pathlib import Path

import typer

from accord.cli.show import IMPORTS, print_json, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the numbers as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Evaluate a run on the classes it has never seen, and rewrite its index and report."""
    from accord.recipes import evaluate_run, summary

    with terminal(quiet=quiet) as watch:
        report = evaluate_run(run, watch=watch, allow_imports=allow_imports)
    if as_json:
        print_json({"run": str(run), **{key: report[key] for key in ("metrics", "baseline", "counts", "chance")}})
    else:
        typer.echo(summary(report))

"""`accord report`: shows a run's report, or makes it anew."""

from pathlib import Path

import typer

from accord.cli.show import IMPORTS, print_json, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    again: bool = typer.Option(False, "--again", help="Evaluate and draw the report anew."),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print report.json."),
) -> None:
    """Print the headline of a run's report and where the page lies."""
    from accord.recipes import evaluate_run, read_report, summary

    if again:
        with terminal() as watch:
            report = evaluate_run(run, watch=watch, allow_imports=allow_imports)
    else:
        report = read_report(run)
    if as_json:
        print_json(report)
    else:
        typer.echo(summary(report))
        typer.echo(f"\nReport: {run / 'report.html'}")

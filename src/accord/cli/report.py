"""`accord report`: shows a run's report, or makes it anew."""

from pathlib import Path

import typer

from accord.cli.show import print_json, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    again: bool = typer.Option(False, "--again", help="Evaluate and draw the report anew."),
    as_json: bool = typer.Option(False, "--json", help="Print report.json."),
) -> None:
    """Print the headline of a run's report and where the page lies."""
    from accord.recipes import evaluate_run, read_report, summary

    if again:
        with terminal() as watch:
            report = evaluate_run(run, watch=watch)
    else:
        report = read_report(run)
    if as_json:
        print_json(report)
    else:
        typer.echo(summary(report))
        typer.echo(f"\nReport: {run / 'report.html'}")

"""`accord ls`: lists what there is to choose from."""

import typer

from accord.cli.show import print_json, print_table

COLUMNS = {
    "losses": ("name", "family", "summary", "paper"),
    "backbones": ("name", "parameters", "width", "summary"),
}


def command(
    kind: str = typer.Argument(
        ..., help="losses, miners, ensembles, backbones, data, layouts, recipes, metrics or protocols"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print a list of objects as JSON."),
) -> None:
    """List losses, miners, ensembles, backbones, data sets, layouts, recipes, metrics or protocols by name."""
    from accord.recipes import listing

    rows = listing(kind)
    if as_json:
        print_json(rows)
    else:
        print_table(kind, rows, COLUMNS.get(kind, ("name", "summary")))

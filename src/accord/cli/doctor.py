"""`accord doctor`: says what this installation can and can't do."""

import typer

from accord.cli.show import print_json, print_table


def command(as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON.")) -> None:
    """Check Python, packages, devices, pretrained weights and disk. Exit code 6 if something needed is broken."""
    from accord.recipes import examine

    found = examine()
    if as_json:
        print_json(found)
    else:
        print_table("this installation", found, ("check", "state", "detail"))
    if any(row["state"] == "broken" for row in found):
        raise typer.Exit(6)

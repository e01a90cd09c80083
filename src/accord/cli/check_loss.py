"""`accord check-loss`: examines a loss and prints its certificate."""

import typer

from accord.cli.show import print_json


def command(
    name: str = typer.Argument(..., help="A loss of the catalogue, or package.module:factory, which is imported."),
    compiled: bool = typer.Option(False, "--compiled", help="Try torch.compile as well (slower)."),
    as_json: bool = typer.Option(False, "--json", help="Print the certificate as JSON."),
) -> None:
    """Examine a loss: gradients, hostile numbers, odd batches, labels, devices, state. Exit code 1 if it breaks any."""
    from accord.recipes import certify

    certificate = certify(name, compiled=compiled)
    if as_json:
        print_json(certificate.as_json())
    else:
        typer.echo(str(certificate))
    if not certificate.passed:
        raise typer.Exit(1)

"""`accord embed`: writes the embeddings of images to a file."""

from pathlib import Path

import typer

from accord.cli.show import IMPORTS, print_json, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    source: str = typer.Argument(..., help="An image, a folder of images or class folders, or a zip archive."),
    out: Path = typer.Option(..., "--out", "-o", help="File to write: .npy, .safetensors or .csv."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the file if it exists."),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Embed images with a run's model. Beside a .npy file a .json file names the rows."""
    from accord.recipes import embed_source

    with terminal(quiet=quiet) as watch:
        facts = embed_source(run, source, out, watch=watch, overwrite=overwrite, allow_imports=allow_imports)
    if as_json:
        print_json(facts)
    else:
        typer.echo(f"{facts['items']} embeddings of {facts['dim']} numbers in {facts['out']}")

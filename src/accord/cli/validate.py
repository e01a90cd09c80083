"""`accord validate`: looks through a folder of images before anything is trained on it."""

import typer

from accord.cli.show import print_json, terminal


def command(
    source: str = typer.Argument(..., help="A folder or zip with one sub-folder per class, or a built-in data set."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check every image and class: unreadable files, duplicates, classes with one image. Exit code 3 if unfit."""
    from accord.data import printable
    from accord.recipes import validate_source

    with terminal(quiet=as_json) as watch:
        found = validate_source(source, watch)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['images']} images in {found['classes']} classes")
        for problem in found["problems"][:50]:
            where = "" if problem["path"] == "." else f"unreadable: {printable(problem['path'])}: "
            typer.echo(f"  {where}{problem['reason']}")
        for paths in found["duplicates"][:20]:
            typer.echo(f"  duplicates: {' = '.join(map(printable, paths))}")
        for label in found["singletons"][:20]:
            typer.echo(f"  one image only: class {printable(label)}")
        typer.echo("fit to train on" if found["ok"] else "not fit to train on")
    if not found["ok"]:
        raise typer.Exit(3)

"""`accord validate`: looks through images before anything is trained on them."""

from pathlib import Path
from typing import Any

import typer

from accord.cli.show import print_json, terminal


def command(
    source: str = typer.Argument(
        ..., help="A folder, archive or table of images (see `accord ls layouts`), or a built-in data set."
    ),
    layout: str = typer.Option("auto", "--layout", help="How it is read; see `accord ls layouts`."),
    root: str | None = typer.Option(None, "--root", help="Where the paths of a table start. Default: its folder."),
    boxes: bool = typer.Option(False, "--boxes", help="Crop to the boxes of a published data set."),
    group: str = typer.Option("", "--group", help="Groups from the paths: stem, parent, or a regular expression."),
    sha256: str | None = typer.Option(None, "--sha256", help="What the SHA-256 of the archive must be."),
    csv: Path | None = typer.Option(None, "--csv", help="Write the images as a table to this file, too."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the table if it exists."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Check every image and class: unreadable files, duplicates, classes with one image. Exit code 3 if unfit."""
    from accord.recipes import validate_source
    from accord.recipes.config import DataConfig

    with terminal(quiet=as_json) as watch:
        data = DataConfig(source=source, layout=layout, root=root, boxes=boxes, group=group, sha256=sha256)
        found = validate_source(data, watch, csv=csv, overwrite=overwrite)
    if as_json:
        print_json(found)
    else:
        _tell(found)
    if not found["ok"]:
        raise typer.Exit(3)


def _tell(found: dict[str, Any]) -> None:
    from accord.data import printable

    typer.echo(f"{found['images']} images in {found['classes']} classes")
    for name in ("splits", "roles"):
        if found[name]:
            typer.echo(f"  {name}: " + ", ".join(f"{count} {key}" for key, count in found[name].items()))
    if found["groups"]:
        typer.echo(f"  groups: {found['groups']}")
    for note in found["notes"]:
        typer.echo(f"  {printable(note)}")
    for problem in found["problems"][:50]:
        where = "" if problem["path"] == "." else f"unreadable: {printable(problem['path'])}: "
        typer.echo(f"  {where}{problem['reason']}")
    for paths in found["duplicates"][:20]:
        typer.echo(f"  duplicates: {' = '.join(map(printable, paths))}")
    for label in found["singletons"][:20]:
        typer.echo(f"  one image only: class {printable(label)}")
    typer.echo("fit to train on" if found["ok"] else "not fit to train on")

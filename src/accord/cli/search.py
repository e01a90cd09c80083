"""`accord search`: prints and draws the nearest neighbours of an image."""

from pathlib import Path

import typer

from accord.cli.show import IMPORTS, print_json, print_table, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    image: Path = typer.Argument(..., help="The image to look for."),
    k: int = typer.Option(5, "--k", "-k", min=1, help="How many neighbours."),
    gallery: str | None = typer.Option(None, "--gallery", help="Search this folder instead of the run's own images."),
    picture: Path | None = typer.Option(
        None, "--picture", help="Also write the query and its neighbours as one picture (.png)."
    ),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the neighbours as JSON."),
) -> None:
    """Find the images most like this one. A larger score is closer; 1 is the same."""
    from accord.recipes import draw_hits, open_search

    with terminal(quiet=as_json) as watch:
        search = open_search(run, gallery=gallery, watch=watch, allow_imports=allow_imports)
    data = search.read(image)
    hits = search.by_image(data, k, name=str(image))
    if picture is not None:
        draw_hits(search, data, hits, picture)
    if as_json:
        print_json({"query": str(image), "neighbours": [hit._asdict() for hit in hits]})
        return
    rows = [{"rank": rank, **hit._asdict()} for rank, hit in enumerate(hits, 1)]
    print_table(f"nearest to {image}", rows, ("rank", "label", "score", "path"))
    search.draw_in_terminal(data, hits)
    if picture is not None:
        typer.echo(f"Picture: {picture}")

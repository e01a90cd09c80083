"""`accord search`: prints and draws the nearest neighbours of an image."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from accord.cli.show import IMPORTS, print_json, print_table, terminal

if TYPE_CHECKING:
    from accord.recipes import Search
    from accord.types import Hit


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    image: Path = typer.Argument(..., help="The image to look for."),
    k: int = typer.Option(5, "--k", "-k", min=1, help="How many neighbours."),
    gallery: str | None = typer.Option(None, "--gallery", help="Search this folder instead of the run's own images."),
    picture: Path | None = typer.Option(
        None, "--picture", help="Also write the query and its neighbours as one picture (.png)."
    ),
    threshold: str = typer.Option(
        "stored", "--threshold", help='Score below which the answer is "unknown": `accord calibrate` sets it. Or none.'
    ),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the neighbours as JSON."),
) -> None:
    """Find the images most like this one. A larger score is closer; 1 is the same."""
    from accord.recipes import draw_hits, open_search

    with terminal(quiet=as_json) as watch:
        search = open_search(run, gallery=gallery, threshold=threshold, watch=watch, allow_imports=allow_imports)
    data = search.read(image)
    hits = search.by_image(data, k, name=str(image))
    known = search.knows(hits)
    if picture is not None:
        draw_hits(search, data, hits, picture)
    if as_json:
        answer = {"known": known, "threshold": search.threshold, "far": search.far}
        print_json({"query": str(image), **answer, "neighbours": [hit._asdict() for hit in hits]})
        return
    rows = [{"rank": rank, **hit._asdict(), "known": _mark(search, hit)} for rank, hit in enumerate(hits, 1)]
    columns = ("rank", "label", "score", *(("known",) if known is not None else ()), "path")
    print_table(f"nearest to {image}", rows, columns)
    if known is False:
        typer.echo(f"unknown: nothing scores {search.threshold:.4f} or more{_promise(search)}")
    search.draw_in_terminal(data, hits)
    if picture is not None:
        typer.echo(f"Picture: {picture}")


def _mark(search: "Search", hit: "Hit") -> str:
    """What the table says of one hit; nothing without a threshold."""
    return {True: "yes", False: "unknown", None: ""}[search.knows([hit])]


def _promise(search: "Search") -> str:
    return "" if search.far is None else f", the score that {search.far:.2%} of strangers reach at most"

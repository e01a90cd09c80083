"""`accord calibrate`: sets the score below which a search answers "unknown"."""

from pathlib import Path
from typing import Any

import typer

from accord.cli.show import IMPORTS, print_json, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    far: float = typer.Option(0.05, "--far", help="Share of strangers that may be taken for something known."),
    frr: float | None = typer.Option(
        None, "--frr", help='Share of pairs of one class that may be called "different"; between is "unsure".'
    ),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the thresholds as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Set the threshold of "unknown" for a false-accept rate, on the classes held out of training.

    `accord search` and `accord serve` use it from then on. The test classes stay closed: `accord evaluate` tells what
    the threshold does on them.
    """
    from accord.recipes import calibrate_run

    with terminal(quiet=quiet or as_json) as watch:
        found = calibrate_run(run, far=far, frr=frr, watch=watch, allow_imports=allow_imports)
    if as_json:
        print_json({"run": str(run), **found})
        return
    search, pairs = found["search"], found["pairs"]
    gallery = search["gallery"]
    typer.echo(f'search: "unknown" below {search["same_above"]:.4f}, for a gallery of {search["for_images"]} images')
    typer.echo(f"  set on {search['queries']} images of {search['classes']} held-out classes, ", nl=False)
    typer.echo(f"asking {gallery['images']} images of {gallery['classes']} classes")
    for name, said in (
        ("false_accepts", "strangers taken for something known"),
        ("accepted", "known ones accepted"),
        ("identified", "known ones accepted and right"),
    ):
        typer.echo(f"  {_percent(search[name])}  {said}")
    below = "" if pairs["different_below"] is None else f', "different" below {pairs["different_below"]:.4f}'
    typer.echo(f'pairs: "same" from {pairs["same_above"]:.4f}{below}')
    typer.echo(f"  {_percent(pairs['false_accepts'])}  pairs of two classes accepted")
    typer.echo(f"  {_percent(pairs['accepted'])}  pairs of one class accepted")
    for note in found["notes"]:
        typer.echo(note)


def _percent(rate: dict[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['share']:7.2%}  (95 %: {low:.2%} to {high:.2%})"

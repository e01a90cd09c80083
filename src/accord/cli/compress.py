"""`accord compress`: makes one head of a few numbers out of all heads of a finished run."""

from pathlib import Path
from typing import Any

import typer

from accord.cli.show import IMPORTS, print_json, print_table, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder; it stays as it is."),
    dim: int | None = typer.Option(None, "--dim", "-d", help="Numbers per embedding. Default: those of one head."),
    method: str = typer.Option(
        "auto", "--method", "-m", help="auto, pca, whiten, fold, lda, wccn, student, distil or heads."
    ),
    scale: str | None = typer.Option(
        None, "--scale", help="What heads are brought to first: unit, or length or distance, which fold."
    ),
    fit_weights: bool = typer.Option(False, "--fit-weights", help="Fit the heads' weights on the validation classes."),
    heads: str | None = typer.Option(
        None, "--heads", help="Those that are made one, such as trunk or trunk=0.75,n_pair=0.25. Default: all."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder to make. Default: RUN-DIM."),
    seed: int = typer.Option(0, "--seed", help="Seed of the methods that train."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run folder if it exists."),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Compress a run's embedding to fewer numbers, as a run of its own, and judge it beside the first.

    Fitted on training classes, chosen on validation classes (`auto`); the trunk stays as it is.
    """
    from accord.recipes import compress_run, read_heads

    with terminal(quiet=quiet or as_json) as watch:
        found = compress_run(
            run,
            dim=dim,
            method=method,
            scale=scale,
            fit_weights=fit_weights,
            heads=None if heads is None else read_heads(heads),
            out=out,
            overwrite=overwrite,
            seed=seed,
            watch=watch,
            allow_imports=allow_imports,
        )
    if as_json:
        print_json(found)
    else:
        _show(found, run)


def _show(found: dict[str, Any], run: Path) -> None:
    validation = found["validation"] or {}
    columns = ("name", "R@1", "MAP@R", "numbers", "multiply-adds", "parameters")
    judged = {"before": found["original"], "after": found["metrics"]} if found["metrics"] else validation
    where = "unseen classes" if found["metrics"] else "validation classes; the unseen ones were left closed"
    rows = [
        _row(name, judged.get(side), found[side])
        for name, side in (("before", "before"), (f"{found['method']}, scale {found['scale']}", "after"))
    ]
    print_table(f"{found['run']}: {where}", rows, columns)
    if found["retained"] is not None:
        typer.echo(f"It keeps {found['retained']:.1%} of {_kept(found)}.")
    typer.echo("Multiply-adds and parameters are those of the heads, for one image; the trunk's are the same.")
    new = found["run"]
    typer.echo(f"Next:   accord search {new} IMAGE    accord compare {run} {new} --allow embedding_size")


def _row(name: str, scores: dict[str, float] | None, size: dict[str, int]) -> dict[str, Any]:
    told = {"R@1": scores["recall@1"], "MAP@R": scores["map@r"]} if scores else {}
    counts = {key: f"{size[key.replace('-', '_')]:,}" for key in ("numbers", "multiply-adds", "parameters")}
    return {"name": name, **told, **counts}


def _kept(found: dict[str, Any]) -> str:
    """What the share is a share of."""
    if found["method"] == "lda":
        return "the spread of training images, normalised by that within classes"
    if found["method"] == "fold":
        return "the inner products of training images"
    return "the squared distances of training images"

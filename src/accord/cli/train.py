"""`accord train`: images in, a run folder with model, index and report out."""

import json
from pathlib import Path
from typing import Any

import typer

from accord.cli.show import IMPORTS, print_json, terminal


def command(
    source: str | None = typer.Argument(
        None, help="A built-in data set; a folder, archive or table of images. See `accord ls layouts`."
    ),
    out: Path | None = typer.Option(None, "--out", "-o", help="Run folder to make. Default: runs/NAME."),
    relations: Path | None = typer.Option(
        None, "--relations", help="Table of pairs or triplets of its images, in place of classes."
    ),
    recipe: str | None = typer.Option(None, "--recipe", "-r", help="Starting point; see `accord ls recipes`."),
    config: Path | None = typer.Option(None, "--config", "-c", help="YAML file laid over the recipe."),
    settings: list[str] = typer.Option([], "--set", "-s", help="Override one key: training.rates.trunk=1e-4."),
    epochs: float | None = typer.Option(None, "--epochs", help="Passes over the training images, without a time cap."),
    minutes: float | None = typer.Option(None, "--minutes", help="Cap of the estimated training time. Default: 10."),
    size: int | None = typer.Option(None, "--size", help="Input height and width in pixels."),
    seed: int | None = typer.Option(None, "--seed", help="Seed of heads, order and augmentation."),
    resume: Path | None = typer.Option(None, "--resume", help="Go on with this stopped run."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run folder if it exists."),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the report's numbers as JSON."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say nothing until the result."),
) -> None:
    """Train on a folder of images and judge the embedding on classes it has never seen.

    Without options everything is chosen from the data and said aloud.
    """
    from accord.errors import UsageError
    from accord.recipes import read_config, resolve, resume_run, train_run

    with terminal(quiet=quiet) as watch:
        training = {"epochs": epochs, "minutes": minutes, "seed": seed}
        data = {"source": source, "relations": None if relations is None else str(relations)}
        options = _given(data=data, model={"size": size}, training=training)
        if resume is not None:
            if options or config or settings or recipe or out or overwrite:
                raise UsageError("--resume goes on with the run as it was configured; give nothing else beside it.")
            path, report = resume, resume_run(resume, watch=watch, allow_imports=allow_imports)
        else:
            file = {} if config is None else read_config(config)
            resolved = resolve(recipe=recipe, file=file, options=options, settings=settings)
            _refuse_silence(options, file, settings)
            length = next((name for name in ("epochs", "steps") if getattr(resolved.training, name) is not None), None)
            if minutes is not None and length is not None:
                raise UsageError(
                    f"--minutes caps the epochs that are chosen, but training.{length} is given. Give one."
                )
            path = out or _fresh(resolved.data.source)
            if not quiet:
                watch.console.print(
                    f"accord: training recipe '{resolved.recipe}' on {resolved.data.source}", markup=False
                )
            report = train_run(resolved, path, watch=watch, overwrite=overwrite)
    _tell(report, path, as_json=as_json)


def _given(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was given on the command line, by section."""
    given = {name: {key: value for key, value in keys.items() if value is not None} for name, keys in sections.items()}
    return {name: keys for name, keys in given.items() if keys}


def _refuse_silence(options: dict[str, Any], file: dict[str, Any], settings: list[str]) -> None:
    """Images must be named by somebody: nobody should train on the built-in set by accident."""
    from accord.errors import UsageError

    in_file = "source" in (file.get("data") or {})
    given = in_file or "source" in options.get("data", {})
    if not given and not any(setting.startswith("data.source=") for setting in settings):
        raise UsageError("Say what to train on: `accord train objects`, or a folder with one sub-folder per class.")


def _fresh(source: str) -> Path:
    """`runs/NAME`, or the first free `runs/NAME-2`, `-3` …"""
    name = Path(source).stem or "run"
    path, number = Path("runs") / name, 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def _tell(report: dict[str, Any], path: Path, *, as_json: bool) -> None:
    if as_json:
        keys = ("metrics", "baseline", "validation")
        print_json({"run": str(path), **{key: report[key] for key in keys if key in report}})
        return
    if "metrics" not in report:
        typer.echo(
            f"Validation: {json.dumps(report['validation'])}\nThe unseen classes were left closed, as configured."
        )
        typer.echo(f"Next:   accord evaluate {path}")
        return
    from accord.recipes import summary

    typer.echo(summary(report))
    typer.echo(f"\nReport: {path / 'report.html'}")
    typer.echo(f"Next:   accord serve {path}    accord search {path} IMAGE")

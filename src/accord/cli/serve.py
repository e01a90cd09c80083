"""`accord serve`: a page and an HTTP service over a run."""

from pathlib import Path

import typer

from accord.cli.show import IMPORTS, print_json, terminal


def command(
    run: Path = typer.Argument(..., help="Run folder."),
    host: str = typer.Option(
        "127.0.0.1", "--host", help="Address to listen on; anything but this machine needs --token-file."
    ),
    port: int = typer.Option(8000, "--port", "-p", min=0, max=65535, help="Port; 0 takes a free one."),
    gallery: str | None = typer.Option(None, "--gallery", help="Search this folder instead of the run's own images."),
    threshold: str = typer.Option(
        "stored", "--threshold", help='Score below which the answer is "unknown": `accord calibrate` sets it. Or none.'
    ),
    token_file: Path | None = typer.Option(
        None, "--token-file", help="File (mode 0600) with the secret that every request must carry."
    ),
    hosts: list[str] = typer.Option([], "--allow-host", help="Host name under which others reach this; needs a token."),
    allow_imports: bool = typer.Option(False, "--allow-imports", help=IMPORTS),
    as_json: bool = typer.Option(False, "--json", help="Print the address as JSON once it listens."),
) -> None:
    """Serve a page to drop an image on and see its neighbours, with the run's report behind it."""
    from accord.errors import ResourceError
    from accord.recipes import open_search, read_token, report_html

    try:
        from accord.web import Limits, Running, create_app, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "accord":
            raise
        raise ResourceError(f"The page needs {error.name}.\n  Install it: pip install 'accord[serve]'") from None

    with terminal(quiet=as_json) as watch:
        search = open_search(run, gallery=gallery, threshold=threshold, watch=watch, allow_imports=allow_imports)
    limits = Limits()
    search.limit_pixels = limits.megapixels * 1_000_000
    app = create_app(search, report_html=report_html(run), token=read_token(token_file), limits=limits, hosts=hosts)

    def ready(running: Running) -> None:
        if as_json:
            print_json({"address": running.url, "run": str(run)})
        else:
            typer.echo(f"Serving {run} at {running.url}   (Ctrl-C stops)")

    serve(app, host=host, port=port, ready=ready)

"""`accord`: gathers the commands and turns our errors into a message and an exit code."""

import json
import sys
from importlib import import_module

import typer

COMMANDS = ("train", "evaluate", "embed", "search", "serve", "report", "ls", "validate", "doctor")

app = typer.Typer(
    name="accord",
    help="Deep metric learning: images in, an embedding that holds on unseen classes, and a page that shows it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from accord import __version__

        typer.echo(f"accord {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_version, is_eager=True
    ),
) -> None:
    """Deep metric learning: images in, an embedding that holds on unseen classes, and a page that shows it."""


for _name in COMMANDS:
    _module = import_module(f"accord.cli.{_name}")
    app.command(_name)(_module.command)


def run() -> None:
    """Run the command line; our own errors end with their message and exit code, anything else is a bug and shows."""
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        sys.exit(0)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from accord.errors import AccordError

        if not isinstance(error, AccordError):
            raise
        if "--json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}), file=sys.stderr)
        else:
            print(f"accord: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()

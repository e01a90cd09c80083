"""`accord`: gathers the commands and turns our errors into a message and an exit code."""

import json
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from accord.errors import AccordError

NO_MEMORY = ("can't allocate memory", "out of memory")
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
        app(prog_name="accord")
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; there is nobody to tell
        sys.exit(0)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from accord.errors import AccordError

        told = error if isinstance(error, AccordError) else _out_of_memory(error)
        if told is None:
            raise
        if "--json" in sys.argv:
            print(json.dumps({"error": type(told).__name__, "message": str(told)}), file=sys.stderr)
        else:
            print(f"accord: {told}", file=sys.stderr)
        sys.exit(told.exit_code)


def _out_of_memory(error: Exception) -> "AccordError | None":
    """A lack of memory in our words; torch says it as a bare RuntimeError on the CPU."""
    from accord.errors import ResourceError

    if not isinstance(error, MemoryError) and not any(words in str(error) for words in NO_MEMORY):
        return None
    return ResourceError(
        f"There is not enough memory.\n  {(str(error).strip() or 'MemoryError').splitlines()[0]}\n"
        "  Choose smaller pictures (--size), batches (training.classes_per_batch) or embeddings (model.dim)."
    )


if __name__ == "__main__":
    run()

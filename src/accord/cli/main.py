"""`accord`: gathers the commands and turns our errors into a message and an exit code."""

import errno
import json
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from accord.errors import AccordError

INTERRUPTED = 130
NO_MEMORY = ("can't allocate memory", "out of memory")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
COMMANDS = (
    "train",
    "evaluate",
    "compare",
    "study",
    "compress",
    "calibrate",
    "embed",
    "search",
    "serve",
    "report",
    "ls",
    "validate",
    "check-loss",
    "doctor",
)

app = typer.Typer(
    name="accord",
    help="Deep metric learning: images in, an embedding that holds on unseen classes, and a page that shows it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> bool:
    if wanted:
        from accord import __version__

        typer.echo(f"accord {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", callback=_version, is_eager=True
    ),
) -> None:
    """Deep metric learning: images in, an embedding that holds on unseen classes, and a page that shows it."""


for _name in COMMANDS:
    _module = import_module(f"accord.cli.{_name.replace('-', '_')}")
    app.command(_name)(_module.command)


def run() -> None:
    """Run the command line; our own errors end with their message and exit code, anything else is a bug and shows."""
    try:
        # with --json, typer hands its own complaints over, so that they are told as JSON like all others
        sys.exit(app(prog_name="accord", standalone_mode="--json" not in sys.argv) or 0)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _tell("\nInterrupted.")
        # whoever read our output has gone, which is no failure: `accord ls losses | head -1`
        sys.exit(0 if isinstance(end.__context__, BrokenPipeError) else end.code)
    except KeyboardInterrupt:  # typer turns most of them into the exit above
        _tell("\nInterrupted.")
        sys.exit(INTERRUPTED)
    except Exception as error:
        from accord.errors import AccordError

        told = error if isinstance(error, AccordError) else _refusal(error)
        if told is None:
            raise
        as_json = {"error": type(told).__name__, "message": str(told)}
        _tell(json.dumps(as_json) if "--json" in sys.argv else f"accord: {told}")
        sys.exit(told.exit_code)


def _tell(message: str) -> None:
    with suppress(OSError):  # nobody may be listening any more, and the exit code says it too
        print(message, file=sys.stderr, flush=True)


def _refusal(error: Exception) -> "AccordError | None":
    """What typer or the machine refused, in our words: an option, room for output, or memory."""
    from accord.errors import ResourceError, UsageError

    if hasattr(error, "format_message"):  # of typer's exceptions, whichever release they come from
        return UsageError(error.format_message())

    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return ResourceError(f"The output can't be written: {error.strerror}.")
    if isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY):
        return ResourceError(
            f"There is not enough memory.\n  {(str(error).strip() or 'MemoryError').splitlines()[0]}\n"
            "  Choose smaller pictures (--size), batches (training.classes_per_batch) or embeddings (model.dim)."
        )
    return None


if __name__ == "__main__":
    run()

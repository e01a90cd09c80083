"""Looks through a data set before training: what `accord validate` prints."""

from pathlib import Path

from accord.data import BUILTIN, builtin, inspect_folder
from accord.errors import DataError
from accord.recipes.watch import Silence, Watch
from accord.types import Json


def validate_source(source: str, watch: Watch | None = None) -> Json:
    """Images, classes, unreadable files, duplicates and singletons of a built-in set, folder or archive."""
    watch = watch or Silence()
    path = builtin(source).root if source in BUILTIN else Path(source).expanduser()
    if not path.exists():
        raise DataError(f"There is no folder or zip archive at {source}.")
    return inspect_folder(path, progress=lambda done, total: watch.progress("checking images", done, total))

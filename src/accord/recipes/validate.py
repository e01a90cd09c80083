"""Looks through a data set before training: what `accord validate` prints."""

from pathlib import Path

from accord.data import inspect_manifest, manifest_to_csv, no_manifest
from accord.errors import DataError, ResourceError, UsageError
from accord.recipes.config import DataConfig
from accord.recipes.source import find_source
from accord.recipes.watch import Silence, Watch
from accord.types import Json


def validate_source(
    source: str | DataConfig, watch: Watch | None = None, *, csv: Path | None = None, overwrite: bool = False
) -> Json:
    """Images, classes, unreadable files, duplicates and singletons of whatever can be trained on.

    `source` is a path or the name of a built-in set, or a whole `data` section. With `csv` the images are written as a
    table, too, that `accord train` reads; a file that is there is only replaced with `overwrite`.
    """
    watch = watch or Silence()
    config = source if isinstance(source, DataConfig) else DataConfig(source=source)
    if csv is not None and csv.exists() and not overwrite:
        raise UsageError(f"{csv} is there already. Name another file, or say --overwrite.")
    try:
        manifest = find_source(config, watch)
    except UsageError:
        raise
    except DataError as error:
        if not Path(config.source).expanduser().exists():
            raise
        return no_manifest(config.source, error)
    if csv is not None:
        try:
            csv.write_text(manifest_to_csv(manifest), encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as error:
            raise ResourceError(f"{csv} can't be written: {error.strerror}.") from None
        watch.say(f"{csv} names {len(manifest)} images; its paths start at {manifest.root}")
    return inspect_manifest(manifest, progress=lambda done, total: watch.progress("checking images", done, total))

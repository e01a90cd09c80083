"""The fingerprint of every file of a run, and the check that nothing has changed since."""

import os
from pathlib import Path, PurePosixPath

from accord.errors import ArtifactError, UsageError
from accord.runs._disk import TEMPORARY, read_file, remove, sha256, write_atomic
from accord.runs._json import from_sealed, to_sealed
from accord.runs._lock import LOCK
from accord.types import Json

MANIFEST = "manifest.json"
_FORMAT = 1


def inside(folder: Path, name: str) -> Path:
    """Where a file of the run lies; UsageError for a name that leaves the folder, or that the folder itself uses."""
    parts = PurePosixPath(name).parts
    good = parts and not name.startswith("/") and ".." not in parts and "\\" not in name and "\0" not in name
    if not good or parts[-1].endswith(TEMPORARY) or name in {LOCK, MANIFEST}:
        raise UsageError(f"RunFolder: {name!r} can't be the name of a run's file. Use one such as 'index/items.json'.")
    return folder.joinpath(*parts)


def seal(folder: Path) -> None:
    """Write down size and SHA-256 of each file."""
    files = {name: _fingerprint(read_file(folder / name)) for name in _names(folder)}
    write_atomic(folder / MANIFEST, to_sealed({"format": _FORMAT, "files": files}))


def unseal(folder: Path) -> None:
    """Take the fingerprints away before a file changes, so that they never speak of a file they don't know."""
    if (folder / MANIFEST).exists():
        remove(folder / MANIFEST)


def verify(folder: Path) -> list[str]:
    """Compare every file with its fingerprint; returns the names of files that have none.

    Raises ArtifactError naming the first file that is missing or different, or saying that there are no fingerprints.
    """
    files = _files(folder)
    if files is None:
        raise ArtifactError(f"{folder} has no {MANIFEST}: the run has not ended, or was changed since it did.")
    for name in files:
        check_file(folder, name, read_file(inside(folder, name)))
    return [name for name in _names(folder) if name not in files]


def check_file(folder: Path, name: str, data: bytes) -> None:
    """Refuse data that differ from the file's fingerprint; a file without one passes."""
    known = (_files(folder) or {}).get(name)
    if known is not None and known != _fingerprint(data):
        raise ArtifactError(
            f"{folder / name} has been changed since the run ended: size or SHA-256 differ from {MANIFEST}.\n"
            "Restore the file from a copy, or train again."
        )


def _files(folder: Path) -> Json | None:
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # asked this way round, since the owner may unseal between a look and the reading
        return None
    document = from_sealed(data, name=str(path))
    if document.get("format") != _FORMAT:
        raise ArtifactError(f"{path} has format {document.get('format')!r}; this version of accord reads {_FORMAT}.")
    files: Json = document["files"]
    return files


def _names(folder: Path) -> list[str]:
    """Every file below the folder by its name with forward slashes, sorted; links are not followed."""
    found = (Path(root, file) for root, _, files in os.walk(folder) for file in files)
    names = (path.relative_to(folder).as_posix() for path in found if path.is_file() and not path.is_symlink())
    return sorted(name for name in names if name not in {LOCK, MANIFEST} and not name.endswith(TEMPORARY))


def _fingerprint(data: bytes) -> Json:
    return {"bytes": len(data), "sha256": sha256(data)}

"""A run's folder: the only place where a run is written, by one owner at a time."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from accord.errors import ArtifactError, ResourceError, UsageError
from accord.runs import _manifest, _state
from accord.runs._disk import TEMPORARY, disk_trouble, make_folder, read_file, sha256, sweep, sync_folder, write_atomic
from accord.runs._json import from_json, to_json
from accord.runs._lock import LOCK, Lock
from accord.runs._log import LogWriter, read_log
from accord.runs._state import State
from accord.runs._tensors import from_safetensors, to_safetensors
from accord.types import Json

_LOG = "log.jsonl"
_STATE = "state"
_SIGNS = (_LOG, _manifest.MANIFEST, "config.yaml", "model.safetensors")


class RunFolder:
    """The files of one run. Anybody may read; writing needs ownership, which `create` takes and `with` takes and ends.

    Every write is atomic: after a crash each file is either the old one or the new one. Reading a file of a sealed run
    compares it with its fingerprint. Raises ResourceError when the disk is full or another process owns the folder,
    ArtifactError for files that are damaged.

        with RunFolder.create(path) as run:
            run.append_log({"step": 1, "loss": 0.7})
            run.save_state(tensors, {"step": 1})
            run.seal()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock(path)
        self._log: LogWriter | None = None

    @classmethod
    def create(cls, path: Path | str, *, overwrite: bool = False) -> "RunFolder":
        """Make a new run folder and own it. UsageError if something is there already.

        `overwrite` empties the folder first, and only if it is a run's folder: nobody's pictures are ever deleted.
        """
        cls.check_free(path, overwrite=overwrite)
        run = cls(Path(path))
        make_folder(run.path)
        run._lock.acquire()
        try:
            run._empty(overwrite)
        except BaseException:
            run.close()
            raise
        return run

    @staticmethod
    def check_free(path: Path | str, *, overwrite: bool = False) -> None:
        """Raise what `create` would raise, as far as it can be seen without touching anything."""
        path = Path(path)
        with disk_trouble(path, 0):  # a name may be too long, or lie where nobody may look
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is a file, not a folder. Choose another --out.")
            contents = _contents(path)
            above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        if contents and not _is_our_run(path):
            raise UsageError(f"{path} holds files that are no run of accord's. Choose another --out.")
        if contents and not overwrite:
            raise UsageError(
                f"{path} holds a run already. Choose another --out, or replace it by --overwrite; a training that was "
                f"stopped goes on by accord train --resume {path}."
            )
        if not above.is_dir():
            raise UsageError(f"{path} can't be made: {above} is a file, not a folder. Choose another --out.")
        if not os.access(above, os.W_OK | os.X_OK):
            raise ResourceError(f"{path} can't be made: {above} can't be written to. Choose another --out.")

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Open a run folder for reading, or, in a `with` statement, for writing. ArtifactError if it is none."""
        run = cls(Path(path))
        if not _is_run(run.path):
            raise ArtifactError(f"{run.path} is no run folder. Give the folder that `accord train` wrote.")
        return run

    def __enter__(self) -> "RunFolder":
        """Become the owner, and clear away what a killed one left."""
        if not self._lock.held:
            self._lock.acquire()
        try:
            sweep(self.path)
            if (self.path / _LOG).exists():
                self._log = LogWriter(self.path / _LOG)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up ownership; reading goes on working."""
        if self._log is not None:
            self._log.close()
            self._log = None
        self._lock.release()

    def exists(self, name: str) -> bool:
        """Whether the run has a file of this name."""
        return _manifest.inside(self.path, name).is_file()

    def read_bytes(self, name: str) -> bytes:
        """A file's contents, compared with its fingerprint if the run is sealed."""
        data = read_file(_manifest.inside(self.path, name))
        _manifest.check_file(self.path, name, data)
        return data

    def read_text(self, name: str) -> str:
        """A text file's contents."""
        try:
            return self.read_bytes(name).decode()
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{self.path / name} is not a text in UTF-8.") from error

    def read_json(self, name: str) -> Any:
        """A JSON file's contents."""
        return from_json(self.read_bytes(name), name=str(self.path / name))

    def load_tensors(self, name: str) -> tuple[dict[str, Tensor], Json]:
        """The tensors and the metadata that `save_tensors` wrote; a single changed bit is refused, sealed or not."""
        return from_safetensors(self.read_bytes(name), name=str(self.path / name))

    def sha256(self, name: str) -> str:
        """A file's fingerprint, for others to remember which file they belong to."""
        return sha256(self.read_bytes(name))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file as a whole."""
        path = _manifest.inside(self.path, name)
        self._own()
        _manifest.unseal(self.path)
        make_folder(path.parent)
        write_atomic(path, data)

    def write_text(self, name: str, text: str) -> None:
        """Write a text in UTF-8."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: object) -> None:
        """Write JSON; NumericError names a NaN or infinity, which JSON can't hold."""
        self.write_bytes(name, to_json(value, indent=1))

    def save_tensors(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
        """Write named tensors and a little JSON as one safetensors file; equal contents give equal bytes."""
        self.write_bytes(name, to_safetensors(tensors, metadata or {}))

    def drop(self, name: str) -> None:
        """Remove a file or a folder that nobody needs any more; harmless if it is not there."""
        path = _manifest.inside(self.path, name)
        self._own()
        _manifest.unseal(self.path)
        with disk_trouble(path, 0):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def append_log(self, entry: Mapping[str, Any]) -> None:
        """Add an entry to `log.jsonl`; it outlives a crash at once, and a power cut after the next `save_state`."""
        self._writer().append(entry)

    def read_log(self) -> list[Json]:
        """All complete entries of `log.jsonl`, oldest first."""
        return read_log(self.path / _LOG)

    def truncate_log(self, step: int) -> None:
        """Forget the entries after a step, because the run goes on from there."""
        self._writer().truncate(step)

    def save_state(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save a generation under `facts["step"]`; when this returns, it and the log before it outlive a power cut."""
        self._writer().sync()
        _state.save_state(self.path / _STATE, tensors, facts)

    def load_state(self) -> State | None:
        """The newest generation that is whole, with a note if a newer one is not; None if none was saved."""
        return _state.load_state(self.path / _STATE)

    def is_sealed(self) -> bool:
        """Whether the run ended and was not written to since."""
        return (self.path / _manifest.MANIFEST).is_file()

    def seal(self) -> None:
        """Write `manifest.json`: size and SHA-256 of each file. The next write takes it away again."""
        self._own()
        if self._log is not None:
            self._log.sync()
        _manifest.seal(self.path)

    def verify(self) -> list[str]:
        """Compare every file with `manifest.json`; ArtifactError names the first that differs.

        Returns the names of files that were added since.
        """
        return _manifest.verify(self.path)

    def _own(self) -> None:
        if not self._lock.held:
            raise UsageError(
                f"RunFolder: {self.path} is open for reading only. Write inside `with RunFolder.open(path) as run:`."
            )

    def _writer(self) -> LogWriter:
        self._own()
        _manifest.unseal(self.path)
        if self._log is None:
            self._log = LogWriter(self.path / _LOG)
            with disk_trouble(self.path, 0):
                sync_folder(self.path)
        return self._log

    def _empty(self, overwrite: bool) -> None:
        contents = _contents(self.path)
        if contents and not overwrite:
            raise UsageError(f"{self.path} holds a run already: another process was quicker. Choose another --out.")
        for path in contents:
            with disk_trouble(path, 0):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def _contents(folder: Path) -> list[Path]:
    """What lies in a folder, the lock and leftovers aside; nothing if there is no folder."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.name != LOCK and not path.name.endswith(TEMPORARY))


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (LOCK, *_SIGNS))


def _is_our_run(folder: Path) -> bool:
    """Whether a folder may be emptied: other programs write a `config.yaml` too, but not our lock beside it."""
    return (folder / LOCK).is_file() and any((folder / name).is_file() for name in _SIGNS)

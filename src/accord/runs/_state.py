"""Checkpoints in two generations: the newest that can be trusted is always there, however a save ended."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from accord.checks import check_count
from accord.errors import ArtifactError, ResourceError
from accord.runs._disk import make_folder, read_file, remove, sha256, write_atomic
from accord.runs._json import from_sealed, to_sealed
from accord.runs._tensors import from_safetensors, to_safetensors
from accord.types import Json

KEPT = 2
_FORMAT = 1
_DESCRIPTION = re.compile(r"(\d{6,})\.json")


class State(NamedTuple):
    """One generation as it was saved. `note` is empty, or says aloud which newer generation could not be used."""

    step: int
    tensors: dict[str, Tensor]
    facts: Json
    note: str = ""


def save_state(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the generation `facts["step"]`; when this returns, it outlives a power cut.

    Tensors first, then the description with their fingerprint: only the description makes a generation exist. Then all
    but the newest two go, and so do later steps, which belong to a future that was abandoned.
    """
    step = facts.get("step")
    check_count("save_state", 'facts["step"]', step, low=0)
    make_folder(folder)
    name = f"{step:06d}"
    file = _free_name(folder, name)
    data = to_safetensors(tensors, {"step": step})
    description = {"format": _FORMAT, "step": step, "file": file, "sha256": sha256(data), "facts": dict(facts)}
    sealed = to_sealed(description)  # before anything is written: facts may hold what JSON can't
    write_atomic(folder / file, data)
    write_atomic(folder / f"{name}.json", sealed)
    # the state is safe by now; what can't be removed today is tried again at the next save
    with contextlib.suppress(ResourceError):
        _prune(folder, newest=int(name))


def load_state(folder: Path) -> State | None:
    """The newest generation that is whole; None if nothing was ever saved.

    Raises ArtifactError if generations exist and none can be read: starting over must be the user's decision.
    """
    generations = _generations(folder)
    broken: list[str] = []
    for step in generations:
        try:
            state = _read(folder, step)
        except ArtifactError as error:
            broken.append(str(error))
        else:
            return state._replace(note=_note(broken, step)) if broken else state
    if broken:
        reasons = "\n  ".join(broken)
        raise ArtifactError(f"No saved state in {folder} can be trusted.\n  {reasons}\nRestore a copy, or start again.")
    return None


def _read(folder: Path, step: int) -> State:
    name = folder / f"{step:06d}.json"
    description = from_sealed(read_file(name), name=str(name))
    if description.get("format") != _FORMAT:
        raise ArtifactError(f"{name} has format {description.get('format')!r}; this version of accord reads {_FORMAT}.")
    path = folder / str(description["file"])
    data = read_file(path)
    if sha256(data) != description["sha256"]:
        raise ArtifactError(f"{path} is not what was saved: its SHA-256 differs from the one in {name.name}.")
    tensors, _ = from_safetensors(data, name=str(path))
    return State(step, tensors, description["facts"])


def _generations(folder: Path) -> list[int]:
    """Steps with a description, newest first."""
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(found[1]) for name in names if (found := _DESCRIPTION.fullmatch(name))), reverse=True)


def _free_name(folder: Path, name: str) -> str:
    """A file for the tensors that the step's present description does not speak of, if there is one.

    Saving a step again must not touch what the old description promises before the new one is in place.
    """
    usual, other = f"{name}.safetensors", f"{name}-again.safetensors"
    return other if _file_of(folder, name) == usual else usual


def _file_of(folder: Path, name: str) -> str | None:
    try:
        return str(from_sealed(read_file(folder / f"{name}.json"), name=name)["file"])
    except ArtifactError:
        return None


def _prune(folder: Path, newest: int) -> None:
    kept = [step for step in _generations(folder) if step <= newest][:KEPT]
    for step in _generations(folder):
        if step not in kept:
            remove(folder / f"{step:06d}.json")
    described = {_file_of(folder, f"{step:06d}") for step in kept}
    for path in list(folder.glob("*.safetensors")):
        if path.name not in described:
            remove(path)


def _note(broken: list[str], step: int) -> str:
    return f"The newest saved state can't be used; going on from step {step}.\n  " + "\n  ".join(broken)

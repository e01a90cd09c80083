"""Examines an installation: what works, what is missing and what to do about it."""

import importlib.util
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from accord.errors import AccordError
from accord.models import BACKBONES
from accord.runs import packaged_weights

EXTRAS = {
    "fastapi": "accord serve: pip install 'accord[serve]'",
    "pytorch_metric_learning": "foreign losses: pip install 'accord[pml]'",
}
NEEDED = ("numpy", "PIL", "safetensors", "sklearn", "pydantic", "yaml", "typer", "rich", "jaxtyping")


def examine() -> list[dict[str, str]]:
    """One row per check: `check`, `state` (fine, missing or broken) and `detail`."""
    rows = [_row("python", sys.version_info >= (3, 11), platform.python_version())]
    rows.append(_row("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads"))
    rows += [_module(name, needed=True, hint="pip install accord") for name in NEEDED]
    rows += [_module(name, needed=False, hint=hint) for name, hint in EXTRAS.items()]
    rows.append(_device())
    rows.append(_torchvision())
    rows += [_weights(name) for name, info in BACKBONES.items() if info.weights_package]
    free = shutil.disk_usage(".").free
    rows.append(_row("disk", free > 2**30, f"{free / 2**30:.1f} GiB free here"))
    return rows


def _row(check: str, fine: bool, detail: str, *, otherwise: str = "broken") -> dict[str, str]:
    return {"check": check, "state": "fine" if fine else otherwise, "detail": detail}


def _module(name: str, *, needed: bool, hint: str) -> dict[str, str]:
    found = importlib.util.find_spec(name) is not None
    return _row(name, found, "installed" if found else hint, otherwise="broken" if needed else "missing")


def _device() -> dict[str, str]:
    if torch.cuda.is_available():
        return _row("cuda", True, torch.cuda.get_device_name())
    return _row("cuda", False, "none found; everything runs on the CPU", otherwise="missing")


def _torchvision() -> dict[str, str]:
    """Accord does not need torchvision, but one that does not match torch breaks other packages beside it."""
    try:
        found = version("torchvision")
    except PackageNotFoundError:
        return _row("torchvision", True, "not installed, not needed")
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # whatever a mismatched binary raises
        return _row("torchvision", False, f"{found} does not match torch {torch.__version__}: {error}")
    return _row("torchvision", True, f"{found} (not needed)")


def _weights(name: str) -> dict[str, str]:
    try:
        count = sum(tensor.numel() for tensor in packaged_weights(name).values())
    except AccordError as error:
        return _row(name, False, str(error), otherwise="missing")
    return _row(name, True, f"pretrained weights, {count / 1e6:.1f} M numbers")

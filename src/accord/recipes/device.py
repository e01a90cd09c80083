"""Finds the device that a configuration asks for, or says why it can't be had."""

import torch

from accord.errors import ResourceError, UnknownNameError
from accord.recipes.watch import Watch

KINDS = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one, else the CPU; a device that is not here is a ResourceError."""
    kind, _, number = name.partition(":")
    if kind not in KINDS or (number and not number.isdecimal()):
        raise UnknownNameError("device", name, KINDS)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if int(number or 0) >= _count(kind):
        raise ResourceError(
            f"There is no {name} here: torch {torch.__version__} finds {_count(kind)} devices of this kind.\n"
            "  Choose training.device=auto or cpu, or install a torch that was built for your device."
        )
    return torch.device(name)


def device_at_hand(name: str, watch: Watch) -> torch.device:
    """The device a run was trained on where it is here too, else whatever is: the model runs anywhere."""
    try:
        return pick_device(name)
    except ResourceError:
        found = pick_device("auto")
        watch.say(f"the run was trained on {name}, which is not here; using {found}")
        return found


def _count(kind: str) -> int:
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    return int(kind == "cpu" or torch.backends.mps.is_available())

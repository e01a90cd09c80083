"""Everything a training run is, as tensors and JSON, so that it goes on bit-equal from any step."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from accord.checks import check_count, check_finite
from accord.errors import ArtifactError
from accord.training._flatten import flatten, unflatten
from accord.types import Json

_FORMAT = 1
_SHOWN = 5


def training_state(
    model: nn.Module,
    objective: nn.Module | Callable[..., Any],
    optimizer: Optimizer,
    *,
    step: int,
    extra: Json | None = None,
) -> tuple[dict[str, Tensor], Json]:
    """Copy all that decides what comes after `step` steps: weights, buffers, optimiser, loss scale, random numbers.

    `extra` is the caller's own JSON, given back as `facts["extra"]`. The order of the data is not in it, being a
    function of the step. Raises NumericError rather than save weights that are not finite.
    """
    check_count("training_state", "step", step, low=0)
    parts: dict[str, nn.Module | Callable[..., Any]] = {"model": model, "objective": objective}
    for part, module in parts.items():
        for name, parameter in module.named_parameters() if isinstance(module, nn.Module) else ():
            check_finite("training_state", f"{part}.{name}", parameter)
    state = {name: _state_of(part) for name, part in parts.items()}
    state["optimizer"] = optimizer.state_dict()
    state["random"] = {"cpu": torch.get_rng_state(), "cuda": _cuda_random()}
    tensors: dict[str, Tensor] = {}
    structure = {name: flatten(value, name, tensors) for name, value in state.items()}
    facts = {
        "format": _FORMAT,
        "step": step,
        "optimizer": type(optimizer).__name__,
        "environment": _environment(),
        "extra": dict(extra or {}),
        "structure": structure,
    }
    return tensors, facts


def restore(
    model: nn.Module,
    objective: nn.Module | Callable[..., Any],
    optimizer: Optimizer,
    tensors: Mapping[str, Tensor],
    facts: Json,
) -> int:
    """Bring model, objective, optimiser and random numbers back to a saved state; gives the number of the next step.

    Raises ArtifactError, with nothing changed, if the state belongs to another model, objective or optimiser.
    """
    if facts.get("format") != _FORMAT:
        raise ArtifactError(f"restore: the state has format {facts.get('format')!r}; this version of accord reads 1.")
    state = {name: unflatten(value, tensors) for name, value in facts["structure"].items()}
    for name, part in (("model", model), ("objective", objective)):
        _check_tensors(name, state[name], _state_of(part))
    _check_optimizer(facts["optimizer"], state["optimizer"], optimizer)
    for name, part in (("model", model), ("objective", objective)):
        if isinstance(part, nn.Module):
            part.load_state_dict(state[name])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"]["cpu"])
    if state["random"]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random"]["cuda"][: torch.cuda.device_count()])
    return int(facts["step"])


def environment_changes(facts: Json) -> list[str]:
    """What differs here from where a state was saved and may change the last bits; most often nothing."""
    saved, here = facts["environment"], _environment()
    return [f"{name} was {saved[name]} and is now {here[name]}" for name in here if saved.get(name) != here[name]]


def _environment() -> Json:
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads()}


def _cuda_random() -> list[Tensor]:
    return torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _state_of(part: nn.Module | Callable[..., Any]) -> dict[str, Any]:
    """A plain function has no state."""
    return dict(part.state_dict()) if isinstance(part, nn.Module) else {}


def _check_tensors(what: str, saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    names = [*saved, *(name for name in present if name not in saved)]
    differing = [name for name in names if _shape(saved, name) != _shape(present, name)]
    if differing:
        lines = [f"  {name}: saved {_shape(saved, name)}, here {_shape(present, name)}" for name in differing[:_SHOWN]]
        more = [f"  and {len(differing) - _SHOWN} more"] if len(differing) > _SHOWN else []
        raise ArtifactError(
            "\n".join(
                [f"restore: the saved state belongs to another {what}.", *lines, *more, "Resume with its own options."]
            )
        )


def _shape(tensors: Mapping[str, Any], name: str) -> str:
    if name not in tensors:
        return "absent"
    value = tensors[name]
    if not isinstance(value, Tensor):
        return "no tensor"
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"


def _check_optimizer(kind: str, saved: Json, optimizer: Optimizer) -> None:
    groups = optimizer.state_dict()["param_groups"]
    there, here = (_groups(kind, saved["param_groups"]), _groups(type(optimizer).__name__, groups))
    if there != here:
        raise ArtifactError(
            f"restore: the saved state belongs to another optimiser.\n  saved: {there}\n  here:  {here}"
        )


def _groups(kind: str, groups: list[Json]) -> str:
    return f"{kind} of " + ", ".join(f"{group.get('name', 'group')} ({len(group['params'])})" for group in groups)

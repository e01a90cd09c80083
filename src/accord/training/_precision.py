"""Number formats of the forward pass, and the loss scaling that float16 needs."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.optim import Optimizer

from accord.errors import UsageError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SCALER = "grad_scaler"
_FIRST_SCALE = 1024.0


class Arithmetic:
    """Runs the model in a short format and the loss in a long one, and steps the optimiser, scaled where it must be.

    The scaler's state lives in the optimiser's first group, so that it is saved and restored with the optimiser.
    """

    def __init__(self, precision: str, device: torch.device, optimizer: Optimizer) -> None:
        if precision not in _DTYPES:
            raise UsageError(f"train: precision must be one of {', '.join(_DTYPES)}, not {precision!r}.")
        self.device, self._dtype, self._optimizer = device, _DTYPES[precision], optimizer
        self._scaler: torch.amp.GradScaler | None = None
        if precision == "float16":
            self._scaler = torch.amp.GradScaler(device.type, init_scale=_FIRST_SCALE)
            saved = optimizer.param_groups[0].get(_SCALER)
            if saved is not None:
                self._scaler.load_state_dict(saved)

    def outputs(self, model: Callable[[Tensor], Mapping[str, Tensor]], inputs: Tensor) -> dict[str, Tensor]:
        """The model's outputs, brought back to float32 where they were shorter: exponentials and sums need it."""
        with self._autocast():
            outputs = model(inputs)
        return {name: value.float() if value.dtype.itemsize < 4 else value for name, value in outputs.items()}

    def backward(self, loss: Tensor) -> None:
        """Compute true gradients, whatever scale they were computed at."""
        if self._scaler is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)

    def finish(self, *, finite: bool) -> None:
        """Move the weights if the gradients are `finite`; after `backward` only."""
        if self._scaler is None:
            if finite:
                self._optimizer.step()
            return
        if finite:
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.param_groups[0][_SCALER] = self._scaler.state_dict()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=self._dtype, enabled=self._dtype != torch.float32)


def gradient_norm(parameters: Iterable[Tensor], *, clip_norm: float | None) -> Tensor:
    """The length of the whole gradient before it is cut down to `clip_norm`."""
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in moved if parameter.grad is not None])
    if clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(moved, clip_norm, norm)
    return norm

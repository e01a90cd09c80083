"""What to do about a step whose loss or gradient is not finite: undo it, count it, and in the end name the culprit."""

import warnings
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from accord.errors import NumericError
from accord.types import Batch

_SHOWN = 20
_WINDOW = 200
_SHARE = 0.2


class Buffers:
    """Running statistics and memories as they were before the step; a bad batch must not leave traces in them."""

    def __init__(self, *modules: object) -> None:
        parts = {part for module in modules if isinstance(module, nn.Module) for part in module.modules()}
        self._places = [(part, name) for part in parts for name, _ in part.named_buffers(recurse=False)]
        self._saved: list[Tensor] = []

    def remember(self) -> None:
        """Copy them."""
        self._saved = [getattr(part, name).clone() for part, name in self._places]

    def restore(self) -> None:
        """Put the copies back, into the same tensors where they still are the same size."""
        with torch.no_grad():
            for (part, name), saved in zip(self._places, self._saved, strict=True):
                present = getattr(part, name)
                if present.shape == saved.shape and present.dtype == saved.dtype:
                    present.copy_(saved)
                else:
                    setattr(part, name, saved)


class Trouble(NamedTuple):
    """What was not finite in one step, in words, and the items it came from."""

    what: str
    ids: list[int]


class Patience:
    """Counts skipped steps; gives up after `limit` in a row and warns once when many of the last 200 were skipped."""

    def __init__(self, limit: int) -> None:
        self._limit, self._row, self._warned = limit, 0, False
        self._recent: deque[bool] = deque(maxlen=_WINDOW)

    def count(self, step: int, trouble: Trouble | None, cause: NumericError | None = None) -> None:
        """Note how a step went. Raises NumericError after too many bad ones in a row."""
        self._row = 0 if trouble is None else self._row + 1
        self._recent.append(trouble is not None)
        if trouble is not None and self._row >= self._limit:
            raise NumericError(self._message(step, trouble)) from cause
        skipped = sum(self._recent)
        if not self._warned and skipped > _SHARE * _WINDOW:
            self._warned = True
            warnings.warn(
                f"train: {skipped} of the last {len(self._recent)} steps were skipped, since their loss or gradient "
                "was not finite. Lower the rates, clip the gradient, or use float32.",
                RuntimeWarning,
                stacklevel=2,
            )

    def _message(self, step: int, trouble: Trouble) -> str:
        shown = ", ".join(map(str, trouble.ids[:_SHOWN]))
        more = f" and {len(trouble.ids) - _SHOWN} more" if len(trouble.ids) > _SHOWN else ""
        return (
            f"train: {self._row} steps in a row had a loss or gradient that is not finite; the last is step {step}.\n"
            f"  not finite: {trouble.what}\n"
            f"  items:      ids {shown}{more}\n"
            "The weights are those from before these steps. Look at the items, lower the rates, or clip the gradient."
        )


def diagnose(
    batch: Batch,
    outputs: Mapping[str, Tensor],
    loss: Tensor,
    terms: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> Trouble:
    """Name what is not finite, where it arises first, and the items whose embeddings are not; else the whole batch."""
    bad = {name: ~value.detach().isfinite().reshape(len(value), -1).all(1) for name, value in outputs.items()}
    heads = [name for name, rows in bad.items() if bool(rows.any())]
    losses = [name for name, value in terms.items() if not bool(value.isfinite().all())]
    moved = [name for name, value in parameters.items() if value.grad is not None and not _finite(value.grad)]
    what = [f"embeddings ({', '.join(heads)})"] if heads else []
    what += [f"loss terms ({', '.join(losses)})"] if losses else []
    what += ["loss"] if not _finite(loss) and not losses else []
    what += [f"gradient of {moved[0]} and {len(moved) - 1} more parameters"] if moved and not what else []
    rows = (
        torch.stack([bad[name].cpu() for name in heads]).any(0)
        if heads
        else torch.ones_like(batch.ids, dtype=torch.bool)
    )
    return Trouble("; ".join(what) or "the length of the gradient", batch.ids.cpu()[rows.cpu()].tolist())


def _finite(value: Tensor) -> bool:
    return bool(value.detach().isfinite().all())

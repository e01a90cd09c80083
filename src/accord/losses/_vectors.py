"""The vectors of one side of a sweep: normalised where the rule wants it, and the way back for their gradient."""

import torch
from torch import Tensor

from accord.geometry import smallest_norm

COPY_BYTES = 32 * 2**20  # up to this size a side is normalised once; a larger one is scaled block by block


class Vectors:
    """One side of a sweep, (row, dim), in at least single precision; nothing here is followed by autograd.

    With `unit` they are brought to length one: as a copy if it is small, else `scale` says what a product with each of
    them is to be multiplied by, so that a table of a million classes is never copied. `stiff` says that no vector is
    too short to be normalised, so that all lengths are one; it is looked up in main memory only, elsewhere it is False.
    """

    def __init__(self, raw: Tensor, *, unit: bool, tiny: float) -> None:
        self.raw, self.unit, self.stiff = raw, unit, False
        self.values = raw
        self.scale: Tensor | None = None
        self._squares: Tensor | None = None
        if not unit:
            return
        self.length = torch.linalg.vector_norm(raw, dim=1)
        if raw.device.type == "cpu":
            shortest, longest = (end.reshape(1).tolist()[0] for end in self.length.aminmax())
            self.stiff = shortest > tiny and longest < torch.inf
        self.tiny = tiny
        self.inverse = (self.length if self.stiff else self.length.clamp_min(tiny)).reciprocal()
        if raw.numel() * raw.element_size() <= COPY_BYTES:
            self.values = raw * self.inverse[:, None]
        else:
            self.scale = self.inverse

    def __getitem__(self, rows: slice) -> Tensor:
        """The vectors of some rows, normalised."""
        some: Tensor = self.values[rows]
        if self.scale is not None:
            some = some * self.scale[rows, None]
        return some

    def squares(self) -> Tensor:
        """The squared lengths, after normalising."""
        if self._squares is None:
            # a length that has overflown makes its vector zero
            here = self.raw if not self.unit else (self.length * self.inverse).nan_to_num_(0.0)
            self._squares = here.square() if self.unit else here.square().sum(dim=1)
        return self._squares

    def back_(self, gradient: Tensor) -> Tensor:
        """Turn, in place, the gradient by the normalised vectors into the one by the raw ones."""
        if self.unit:
            size = max(1, COPY_BYTES // 8 // max(1, gradient.shape[1] * gradient.element_size()))
            for start in range(0, len(gradient), size):
                here = slice(start, start + size)
                part, unit = gradient[here], self[here]
                along = torch.linalg.vecdot(part, unit)
                if not self.stiff:  # a vector too short to be normalised is only scaled
                    along = along * (self.length[here] > self.tiny)
                part.addcmul_(along[:, None], unit, value=-1).mul_(self.inverse[here, None])
        return gradient


def tiny_length(x: Tensor) -> float:
    """The length below which a vector of x's dtype counts as zero."""
    return smallest_norm(x.dtype)

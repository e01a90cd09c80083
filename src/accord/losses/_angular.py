"""Angular loss: a pair of one class, seen from an item of another, spans an angle below a bound."""

from math import radians, tan
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_batch, check_range
from accord.geometry import full
from accord.losses._angular_walk import Walk
from accord.losses._plan import no_autocast
from accord.losses._settings import settings
from accord.losses._vectors import Vectors, tiny_length
from accord.mining import Groups
from accord.types import Embeddings, Labels, Scalar

FLATTEST = 65.0  # degrees; up to here the sums of exponentials stay normal numbers in single precision


def angular(embeddings: Embeddings, labels: Labels, *, angle: float = 45.0) -> Scalar:
    """Let each pair of one class look small from every item of another class: an angle there of at most `angle`.

    With unit vectors a, p of a class, n of others and t = tan²(angle), a positive pair costs
    log(1 + Σ_n exp(4t (a + p)ᵀn - 2 (1 + t) aᵀp)); the mean over all positive pairs is returned, ≥ 0. Similar
    triangles make it independent of scale, and both ends push every negative. `angle` is in degrees, more than 0 and
    at most 65. A batch without positives or without negatives costs zero and still carries a gradient.

    Wang et al., "Deep metric learning with angular loss", ICCV 2017, the smooth form over a batch; 45° is widely used.
    All three vectors are normalised, negatives too. Each unordered pair counts once. No pairs × batch numbers are kept:
    O(batch² · largest class) time and O(batch · largest class) memory with small classes on processors, otherwise
    O(batch³) time, as matrix products, and O(batch²) memory.
    """
    check_angle("angular", angle)
    check_batch("angular", embeddings, labels)
    return _angular(embeddings, labels, tan(radians(angle)) ** 2)


class Angular(nn.Module):
    """Angular loss with its angle remembered; see `angular`."""

    def __init__(self, *, angle: float = 45.0) -> None:
        super().__init__()
        check_angle("angular", angle)
        self.angle = angle

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return angular(embeddings, labels, angle=self.angle)


def check_angle(who: str, angle: float) -> None:
    """Refuse an angle that is none, or so flat that sums of exponentials would vanish."""
    check_range(who, "angle", angle, low=0, high=FLATTEST, open_low=True)


def _angular(embeddings: Tensor, labels: Labels, t: float) -> Tensor:
    x = full(embeddings)
    if not len(x):
        return x.sum()
    with no_autocast(x.device.type):
        if torch.compiler.is_compiling() or settings().plain:
            return _plainly(x, labels, t, tiny_length(embeddings))
        value: Tensor = _Pairs.apply(x, labels, t, tiny_length(embeddings))  # type: ignore[no-untyped-call]
        return value


def _plainly(x: Tensor, labels: Labels, t: float, tiny: float) -> Tensor:
    """The whole table at once, followed by autograd.

    Σ_n exp(4t aᵀn) exp(4t pᵀn) over the negatives is one product of the table of exponentials with itself.
    """
    x = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(tiny)
    same, scores = labels[:, None] == labels, x @ x.T
    table = torch.where(same, 0, torch.exp(4 * t * (scores - 1)))
    sums = table @ table.T
    alive = same & (sums > 0) & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    costs = F.softplus(torch.where(alive, sums, 1).log() + 8 * t - 2 * (1 + t) * scores)
    return torch.where(alive, costs, 0).sum() / alive.sum().clamp_min(1)


class _Pairs(torch.autograd.Function):
    """The gradient is made with the value, over blocks of negatives, and given away once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, labels: Tensor, t: float, tiny: float) -> Tensor:
        ctx.save_for_backward(x, labels)
        ctx.options = t, tiny
        value, ctx.ready = _walk(x, labels, t, tiny, backwards=ctx.needs_input_grad[0])
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, labels = ctx.saved_tensors
        ready, ctx.ready = ctx.ready, None
        with no_autocast(x.device.type):
            if torch.is_grad_enabled():  # a gradient that has a gradient itself
                value = _plainly(x, labels, *ctx.options)
                (found,) = torch.autograd.grad(value, x, outer[0], create_graph=True)
                return found, None, None, None
            if ready is None:
                ready = _walk(x, labels, *ctx.options, backwards=True)[1]
        return None if ready is None else ready.mul_(outer[0]), None, None, None


def _walk(x: Tensor, labels: Tensor, t: float, tiny: float, *, backwards: bool) -> tuple[Tensor, Tensor | None]:
    """The value and, if wanted, the gradient."""
    ascending, order = labels.sort(stable=True)
    walk = Walk(Vectors(x[order], unit=True, tiny=tiny), Groups(ascending), t)
    value = walk.go()
    return value, torch.empty_like(x).index_copy_(0, order, walk.back()) if backwards else None

"""MagFace: the longer an embedding, the larger its margin, so that length comes to tell the quality of an image."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_count, check_range
from accord.errors import UsageError
from accord.geometry import full
from accord.losses._own_margins import OwnMarginsRule
from accord.losses._shared import class_table, mean
from accord.losses._tables import sweep_table
from accord.types import Embeddings, Labels, Scalar

NAME = "mag_face"


class Lengths(NamedTuple):
    """How MagFace turns lengths, from `shortest` to `longest`, into margins, and what it charges for them."""

    shortest: float = 10.0
    longest: float = 110.0
    smallest: float = 0.45
    largest: float = 0.8
    regularisation: float = 35.0

    def check(self) -> "Lengths":
        """Refuse values that make no sense, alone or together."""
        check_range(NAME, "shortest", self.shortest, low=0, open_low=True)
        check_range(NAME, "longest", self.longest, low=0, open_low=True)
        check_range(NAME, "smallest", self.smallest, low=0, high=1.57)
        check_range(NAME, "largest", self.largest, low=0, high=1.57)
        check_range(NAME, "regularisation", self.regularisation, low=0)
        if self.shortest >= self.longest:
            raise UsageError(f"{NAME}: shortest must be less than longest, not {self.shortest} and {self.longest}.")
        if self.smallest > self.largest:
            raise UsageError(f"{NAME}: smallest must be at most largest, not {self.smallest} and {self.largest}.")
        return self


def mag_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    shortest: float = 10.0,
    longest: float = 110.0,
    smallest: float = 0.45,
    largest: float = 0.8,
    regularisation: float = 35.0,
    scale: float = 64.0,
) -> Scalar:
    """ArcFace whose margin grows with an item's length, and which rewards length: good images become long.

    With a = ‖x‖ kept in [shortest, longest], the margin rises linearly from `smallest` to `largest` radians. Added to
    ArcFace's mean over the batch is the mean of regularisation · (1/a + a/longest²), which falls with length; the
    gradient flows through both. Lengths outside the range are not moved, so a network with short embeddings learns
    nothing about length. The value is > 0; an empty batch costs zero. Labels are class numbers from 0.

    Meng et al., "MagFace", CVPR 2021, with the widely used defaults (there l_a, u_a, l_m, u_m, lambda_g).
    Where angle + margin > π the own logit is as in `arc_face`.
    """
    limits = Lengths(shortest, longest, smallest, largest, regularisation).check()
    return _mag(OwnMarginsRule(NAME, scale), limits, embeddings, labels, weight)


class MagFace(nn.Module):
    """MagFace with a learned vector per class, `weight`, of about unit length; see `mag_face`."""

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        shortest: float = 10.0,
        longest: float = 110.0,
        smallest: float = 0.45,
        largest: float = 0.8,
        regularisation: float = 35.0,
        scale: float = 64.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.limits = Lengths(shortest, longest, smallest, largest, regularisation).check()
        self.rule = OwnMarginsRule(NAME, scale)
        check_count(NAME, "dim", dim)
        self.weight = class_table(NAME, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _mag(self.rule, self.limits, embeddings, labels, self.weight)


def _mag(rule: OwnMarginsRule, limits: Lengths, embeddings: Embeddings, labels: Labels, weight: Tensor) -> Scalar:
    check_batch(NAME, embeddings, labels)
    length = torch.linalg.vector_norm(full(embeddings), dim=1).clamp(limits.shortest, limits.longest)
    slope = (limits.largest - limits.smallest) / (limits.longest - limits.shortest)
    margins = limits.smallest + slope * (length - limits.shortest)
    price = limits.regularisation * mean(1 / length + length / limits.longest**2)
    return sweep_table(rule, embeddings, labels, weight, per_row=(margins,)) + price

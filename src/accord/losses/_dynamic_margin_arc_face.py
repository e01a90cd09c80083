"""ArcFace with dynamic margins: the fewer items a class has, the larger its margin."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_classes, check_count, check_finite, check_range
from accord.errors import UsageError
from accord.geometry import full
from accord.losses._own_margins import OwnMarginsRule
from accord.losses._shared import class_table
from accord.losses._tables import check_table, sweep_table
from accord.types import Embeddings, Labels, Scalar

NAME = "dynamic_margin_arc_face"


@dataclass(frozen=True)
class MarginRange:
    """From which margin, for the largest class, to which, for the smallest, and how steeply with size."""

    smallest: float = 0.05
    largest: float = 0.5
    power: float = 0.25

    def __post_init__(self) -> None:
        check_range(NAME, "smallest", self.smallest, low=0, high=pi / 2)
        check_range(NAME, "largest", self.largest, low=0, high=pi / 2)
        check_range(NAME, "power", self.power, low=0, open_low=True)
        if self.smallest > self.largest:
            raise UsageError(f"{NAME}: smallest must be at most largest, not {self.smallest} and {self.largest}.")

    def margins(self, counts: Float[Tensor, " class"]) -> Float[Tensor, " class"]:
        """The margin of each class."""
        rarity = counts.clamp_min(1) ** -self.power
        low, high = rarity.min(), rarity.max()
        # where all classes are equally large, none is rare
        return self.smallest + (self.largest - self.smallest) * (rarity - low) / (high - low).clamp_min(1e-6)


def dynamic_margin_arc_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    counts: Float[Tensor, " class"],
    *,
    smallest: float = 0.05,
    largest: float = 0.5,
    power: float = 0.25,
    scale: float = 64.0,
) -> Scalar:
    """ArcFace for classes of very different size: a class with few items must win by a larger angle.

    A class with n items (of `counts`, at least 1) has the margin a · n^-power + b, with a and b such that the largest
    class has the margin `smallest` and the smallest class `largest`, in radians; equally large classes all have
    `smallest`. The mean over the batch is returned, ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Ha et al., third place of Google Landmark Recognition 2020 (arXiv 2010.05350), with power 1/4 and margins from 0.05
    to 0.5. Without their sub-centres. Where angle + margin > π the own logit is as in `arc_face`.
    """
    rule, range_ = OwnMarginsRule(NAME, scale), MarginRange(smallest, largest, power)
    return _dynamic(rule, range_, embeddings, labels, weight, counts)


class DynamicMarginArcFace(nn.Module):
    """ArcFace with dynamic margins and a learned vector per class, `weight`; see `dynamic_margin_arc_face`.

    Give `counts`, the number of items of each class of the training set. Without them the items of each class are
    counted in the buffer `counts` as they come while training, one to begin with; margins settle within an epoch, for
    only the ratio of counts matters. A sampler that draws classes evenly hides their sizes: then do give `counts`.
    """

    counts: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        counts: Sequence[int | float] | Tensor | None = None,
        smallest: float = 0.05,
        largest: float = 0.5,
        power: float = 0.25,
        scale: float = 64.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule, self.range = OwnMarginsRule(NAME, scale), MarginRange(smallest, largest, power)
        check_count(NAME, "dim", dim)
        self.weight = class_table(NAME, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)
        self.counting = counts is None
        sizes = torch.ones(classes) if counts is None else torch.as_tensor(counts).float()
        if sizes.shape != (classes,):
            raise UsageError(f"{NAME}: counts must be one number per class ({classes}), not {tuple(sizes.shape)}.")
        check_finite(NAME, "counts", sizes)
        if sizes.device.type == "cpu" and not (sizes >= 0).all():
            raise UsageError(f"{NAME}: counts must be at least 0, not {sizes.min().item():g}.")
        self.register_buffer("counts", sizes.to(self.weight.device, copy=True))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        if self.training and self.counting:
            check_table(NAME, embeddings, labels, self.weight)
            self.counts.index_add_(0, labels.to(torch.int64), torch.ones_like(labels, dtype=self.counts.dtype))
        return _dynamic(self.rule, self.range, embeddings, labels, self.weight, self.counts)


def _dynamic(
    rule: OwnMarginsRule,
    range_: MarginRange,
    embeddings: Embeddings,
    labels: Labels,
    weight: Tensor,
    counts: Tensor,
) -> Scalar:
    # here and not in the sweep: a label out of range would be looked up among the counts first
    check_table(NAME, embeddings, labels, weight)
    check_classes(NAME, labels, len(counts))
    margins = range_.margins(counts.detach().to(full(embeddings).dtype))
    per_row = margins.index_select(0, labels.to(torch.int64))
    return sweep_table(rule, embeddings, labels, weight, per_row=(per_row,))

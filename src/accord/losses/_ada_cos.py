"""AdaCos: softmax over cosines whose sharpness is not tuned but computed, once or batch by batch."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_flag
from accord.errors import UsageError
from accord.geometry import full
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._survey import survey
from accord.losses._tables import check_table, matched, sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_parts
from accord.mining import Block, Measure, Own
from accord.types import Embeddings, Labels, Scalar

LOWEST_SCALE = 0.1


@dataclass(frozen=True)
class AdaCosRule:
    """What one item costs against all class vectors at some scale; see `ada_cos`."""

    name = "ada_cos"
    measure: Measure = "score"
    unit = True

    def costs(self, block: Block, scale: Tensor) -> Tally:
        """The cross-entropy of scale · cosine."""
        own = own_score(block)
        return target_costs(scale * own, block.negatives, scale.expand(len(own), 1))

    def pull(self, block: Block, scale: Tensor) -> Pull:
        """By hand: the softmax less one at the own class; nothing for the scale, which is never learned."""
        own = own_score(block)
        tally, by_target, by_others = target_parts(scale * own, block.negatives, scale.expand(len(own), 1))
        by_own = (by_target * scale)[:, None].expand_as(block.positives)
        return Pull(tally, by_own, by_others, (torch.zeros_like(scale),))


@dataclass(frozen=True)
class _NextScale:
    """Reads off a batch which scale suits it."""

    name = "ada_cos"
    measure: Measure = "score"
    unit = True

    def read(self, block: Block, scale: Tensor) -> Tensor:
        """Of each row: the log-sum of the rivals, and the own cosine."""
        return torch.stack([(scale * block.negatives).logsumexp(dim=1), own_score(block)], dim=1)

    def finish(self, statistics: Tensor, own: Own | None) -> Tensor:
        """The log of the rivals' mean sum by the median own cosine, which counts as at least cos 45°."""
        rivals, cosines = statistics.unbind(dim=1)
        count = len(cosines)
        ascending = cosines.sort().values
        median = (ascending[(count - 1) // 2] + ascending[count // 2]) / 2
        log_mean = rivals.logsumexp(dim=0) - math.log(count)
        return (log_mean / median.clamp_min(0.5**0.5)).clamp_min(LOWEST_SCALE)


def ada_cos(
    embeddings: Embeddings, labels: Labels, weight: Float[Tensor, "class dim"], scale: Scalar | None = None
) -> Scalar:
    """Classify each item by its cosine to a vector per class, at a sharpness that suits the number of classes.

    The mean over the batch of the cross-entropy of scale · cosine, ≥ 0; an empty batch costs zero. Without a `scale` it
    is √2 · log(classes - 1), so at least 3 classes are needed; `next_ada_cos_scale` computes one from a batch. Nothing
    flows into the scale. Labels are class numbers from 0.

    Zhang et al., "AdaCos", CVPR 2019: the fixed scale, and with a given one the dynamic.
    """
    first = first_scale(len(weight))
    now = torch.full_like(weight[0, 0], first) if scale is None else scale
    return sweep_table(AdaCosRule(), embeddings, labels, weight, learned=(full(now.detach()),))


def next_ada_cos_scale(
    embeddings: Embeddings, labels: Labels, weight: Float[Tensor, "class dim"], scale: Scalar
) -> Scalar:
    """The scale that suits a batch, from the one before: log B / cos(min(45°, t)), detached.

    B is the batch's mean of Σ_{j≠y} exp(scale · cos_j), t the median angle to the own class vectors (of an even number,
    where the mean of the two middle cosines points). An empty batch leaves the scale alone. At least 0.1, which the
    paper does not ask for, but without which a batch of far-off vectors could turn the loss around.
    """
    check_table("ada_cos", embeddings, labels, weight)
    if not len(embeddings):
        return scale.detach()
    names = torch.arange(len(weight), device=weight.device)
    rows, columns, (now,), _ = matched(embeddings.detach(), weight.detach(), (scale.detach(),))
    return survey(_NextScale(), rows, labels, keys=columns, key_labels=names, learned=(now,))


class AdaCos(nn.Module):
    """AdaCos with a learned vector per class, `weight`, of about unit length; see `ada_cos`.

    `dynamic=True` computes the scale anew from every batch it is trained on, which costs a second product; the scale is
    kept in the buffer `scale`, and an evaluating module uses it as it is. `dynamic=False` keeps √2 · log(classes - 1).
    """

    scale: Tensor | None

    def __init__(
        self, dim: int, classes: int, *, dynamic: bool = True, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        check_flag("ada_cos", "dynamic", dynamic)
        check_count("ada_cos", "dim", dim)
        self.weight = class_table("ada_cos", dim=dim, classes=classes, spread=dim**-0.5, generator=generator)
        first = torch.full_like(self.weight.detach()[0, 0], first_scale(classes))
        self.register_buffer("scale", first if dynamic else None)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        if self.scale is None:
            return ada_cos(embeddings, labels, self.weight)
        if self.training:
            # a new tensor and not a change of the old one, which a compiled graph would lose
            self.scale = next_ada_cos_scale(embeddings, labels, self.weight, self.scale).to(self.scale.dtype)
        # a copy, for the next batch writes to the buffer, maybe before this one's gradient is wanted
        return ada_cos(embeddings, labels, self.weight, self.scale.clone())


def first_scale(classes: int) -> float:
    """√2 · log(classes - 1); refuses fewer than 3 classes, whose scale would be 0."""
    if classes < 3:
        raise UsageError(f"ada_cos: needs at least 3 classes, not {classes}, for its scale grows as log(classes - 1).")
    return math.sqrt(2) * math.log(classes - 1)

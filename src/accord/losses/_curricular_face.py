"""CurricularFace: ArcFace that turns to hard negatives by and by, as the network learns."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.geometry import full, normalise
from accord.losses._arc_face import widened
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import check_table, sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class CurricularFaceRule:
    """What one item costs against all class vectors at some stage `t`; see `curricular_face`."""

    margin: float = 0.5
    scale: float = 64.0
    name = "curricular_face"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "margin", self.margin, low=0, high=pi / 2)
        check_range(self.name, "scale", self.scale, low=0, open_low=True)

    def costs(self, block: Block, t: Tensor) -> Tally:
        """The cross-entropy with a widened own angle and hard negatives weighted by the stage."""
        target = widened(own_score(block), self.margin)[0]
        hard = block.negatives > target[:, None]
        # an absent negative is never hard, but -inf times 0 is NaN
        cosines = torch.where(hard, block.negatives, 0)
        scores = torch.where(hard, cosines * (t + cosines), block.negatives)
        return target_costs(self.scale * target, scores, self.scale)

    def pull(self, block: Block, t: Tensor) -> Pull:
        """By hand: a softmax, and the slopes of own and hard cosines; nothing for the stage, which is measured."""
        target, slope = widened(own_score(block), self.margin)
        cosines = block.negatives
        hard, higher = cosines > target[:, None], cosines + t
        scores = torch.where(hard, cosines * higher, cosines)
        pull = target_pull(block, self.scale * target, self.scale * slope, scores, self.scale)
        # the derivative of c (t + c), and 1 for a cosine as it is
        pull.negatives.mul_(higher.add_(cosines).masked_fill_(~hard, 1))
        return pull._replace(learned=(torch.zeros_like(t),))


def curricular_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    t: Scalar,
    *,
    margin: float = 0.5,
    scale: float = 64.0,
) -> Scalar:
    """Classify by angle with a margin, where hard negatives count little at first and more as `t` grows.

    The own logit is scale · cos(angle + margin) as in `arc_face`. Another class's is scale · c with c its cosine, or,
    if it is hard, c > cos(angle + margin), scale · c (t + c); that is a jump where c passes the own one. `t` is
    the running mean of the own cosines, about 0 at first and towards 1 later, and nothing flows into it. The
    cross-entropy's mean over the batch is returned, ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Huang et al., "CurricularFace", CVPR 2020, with the widely used defaults.
    """
    rule = CurricularFaceRule(margin, scale)
    check_table(rule.name, embeddings, labels, weight)
    stage = t.detach().to(full(embeddings).dtype)
    return sweep_table(rule, embeddings, labels, weight, learned=(stage,))


class CurricularFace(nn.Module):
    """CurricularFace with a learned vector per class, `weight`, of about unit length; see `curricular_face`.

    The buffer `t`, 0 at first, follows the mean own cosine of the batches it is trained on: each moves it by the share
    `alpha`, before it is used. An evaluating module leaves it.
    """

    t: Tensor

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        alpha: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule, self.alpha = CurricularFaceRule(margin, scale), alpha
        check_range(self.rule.name, "alpha", alpha, low=0, high=1)
        check_count(self.rule.name, "dim", dim)
        self.weight = class_table(self.rule.name, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)
        self.register_buffer("t", torch.zeros_like(self.weight.detach()[0, 0]))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        check_table(self.rule.name, embeddings, labels, self.weight)
        if self.training:
            self._advance(embeddings, labels)
        # a copy, for the next batch writes to the buffer, maybe before this one's gradient is wanted
        stage = self.t.to(full(embeddings).dtype, copy=True)
        return sweep_table(self.rule, embeddings, labels, self.weight, learned=(stage,))

    def _advance(self, embeddings: Embeddings, labels: Labels) -> None:
        """Move `t` towards the batch's mean own cosine."""
        if not len(embeddings):
            return
        with torch.no_grad():
            own = self.weight.index_select(0, labels.to(torch.int64))
            x = normalise(embeddings, dtype=full(embeddings).dtype)
            cosines = (x * normalise(own, dtype=full(own).dtype)).sum(dim=1)
            # a new tensor and not a change of the old one, which a compiled graph would lose
            self.t = self.t.lerp(cosines.mean().to(self.t.dtype), self.alpha)

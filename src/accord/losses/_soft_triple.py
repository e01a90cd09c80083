"""SoftTriple: classification by cosine where a class has several centres, softly chosen for each item."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.losses._centres import by_centre, by_column, centre_spread, check_centres
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._sums import kept_or
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import target_costs, target_parts
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class SoftTripleRule:
    """What one item costs against all centres of all classes; see `soft_triple`."""

    centres: int = 10
    scale: float = 20.0
    gamma: float = 0.1
    tau: float = 0.2
    margin: float = 0.01
    name = "soft_triple"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_count(self.name, "centres", self.centres)
        check_range(self.name, "scale", self.scale, low=0, open_low=True)
        check_range(self.name, "gamma", self.gamma, low=0, open_low=True)
        check_range(self.name, "tau", self.tau, low=0)
        check_range(self.name, "margin", self.margin, low=0, high=2)

    def costs(self, block: Block) -> Tally:
        """The cross-entropy of softly chosen centres, the own class's lowered by the margin."""
        own = self._own(block)[0]
        centres = by_centre(block.negatives, self.centres)
        rival = centres > -torch.inf
        centres = torch.where(rival, centres, 0)
        classes = ((centres / self.gamma).softmax(dim=1) * centres).sum(dim=1)
        classes = torch.where(rival[:, 0], classes, -torch.inf)
        return target_costs(self.scale * (own - self.margin), classes, self.scale)

    def pull(self, block: Block) -> Pull:
        """By hand: a soft choice p of scores s with mean m has the derivatives p (1 + (s - m) / gamma)."""
        own, by_positives = self._own(block)
        centres = by_centre(block.negatives, self.centres)
        chosen = torch.softmax(centres * (1 / self.gamma), dim=1)
        # the own class's columns, all -inf, make NaN here, and only there
        classes = (chosen * centres).sum(dim=1).masked_fill_(centres[:, 0] == -torch.inf, -torch.inf)
        tally, by_target, by_classes = target_parts(self.scale * (own - self.margin), classes, self.scale)
        steep = by_classes / self.gamma
        by_centres = torch.addcmul((by_classes - classes * steep)[:, None], centres, steep[:, None]).mul_(chosen)
        return Pull(tally, by_positives * (self.scale * by_target)[:, None], by_column(by_centres))

    def _own(self, block: Block) -> tuple[Float[Tensor, " row"], Float[Tensor, "row slot"]]:
        """The soft choice among the own centres, and its derivative."""
        lowest = torch.finfo(block.positives.dtype).min
        chosen = kept_or(block.positives / self.gamma, block.kept, lowest).softmax(dim=1)
        scores = kept_or(block.positives, block.kept, 0.0)
        own = (chosen * scores).sum(dim=1)
        return own, chosen.detach() * (1 + (scores - own[:, None]).detach() / self.gamma)


def soft_triple(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "centre dim"],
    *,
    centres: int = 10,
    scale: float = 20.0,
    gamma: float = 0.1,
    tau: float = 0.2,
    margin: float = 0.01,
) -> Scalar:
    """Classify by cosine, but give a class several centres and let each item choose softly among them.

    With c_k an item's cosine with the k-th centre of a class, its score with the class is Σ_k p_k c_k, where p is the
    softmax of c / gamma. An item costs the cross-entropy of scale · score, the own class's score lowered by `margin`
    first; the mean over the batch is taken. To it comes tau · Σ √(2 - 2 cos) / (classes · K · (K - 1)) over the pairs
    of centres of a class, which lets centres that are not needed fall together. Value ≥ 0. An empty batch costs zero,
    without that term too. Rows `centres * c` … `centres * (c + 1) - 1` of `weight` are those of class c; labels are
    class numbers from 0. Centres of different classes are never compared: the term's cost grows with the classes, not
    with their square.

    Qian et al., ICCV 2019, with the paper's scale (λ there), gamma, tau, margin (δ there) and ten centres, as
    reference implementations give them.
    """
    rule = SoftTripleRule(centres, scale, gamma, tau, margin)
    check_centres(rule.name, weight, centres)
    return _soft_triple(rule, embeddings, labels, weight)


def _soft_triple(rule: SoftTripleRule, embeddings: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    value = sweep_table(rule, embeddings, labels, weight, per_class=rule.centres)
    if not len(embeddings) or not rule.tau or rule.centres == 1:
        return value
    return value + rule.tau * centre_spread(weight, rule.centres)


class SoftTriple(nn.Module):
    """SoftTriple with `centres` learned vectors per class, one after another in `weight`, of about unit length.

    See `soft_triple`.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        centres: int = 10,
        scale: float = 20.0,
        gamma: float = 0.1,
        tau: float = 0.2,
        margin: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.rule = SoftTripleRule(centres, scale, gamma, tau, margin)
        check_count("soft_triple", "dim", dim)
        check_count("soft_triple", "classes", classes, low=2)
        self.weight = class_table(
            "soft_triple", dim=dim, classes=classes * centres, spread=dim**-0.5, generator=generator
        )

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _soft_triple(self.rule, embeddings, labels, self.weight)

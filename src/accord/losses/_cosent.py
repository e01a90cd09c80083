"""CoSENT: every positive pair of a batch ranked before every negative one, wherever their items are."""

from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_range
from accord.losses._sums import kept_or, softmax_
from accord.losses._survey import survey
from accord.mining import Block, Measure, Own
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class CoSENTRule:
    """What a row tells of itself, a soft lowest positive and a soft highest negative; see `cosent`."""

    scale: float = 20.0
    name = "cosent"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "scale", self.scale, low=0, open_low=True)

    def read(self, block: Block) -> Tensor:
        """log Σ exp(-scale s) over positives and log Σ exp(scale s) over negatives; -inf where there are none."""
        some, others = block.kept.any(dim=1), block.negative_count > 0
        pulls = kept_or(-self.scale * block.positives, block.kept, -torch.inf)
        pulls = torch.where(some[:, None], pulls, 0).logsumexp(dim=1)
        pushes = torch.where(others[:, None], self.scale * block.negatives, 0).logsumexp(dim=1)
        return torch.stack([torch.where(some, pulls, -torch.inf), torch.where(others, pushes, -torch.inf)], dim=1)

    def unread(self, block: Block, by_statistics: Tensor) -> tuple[Tensor, Tensor]:
        """By hand: a softmax for each side."""
        by_pulls, by_pushes = (by_statistics * self.scale)[:, :, None].unbind(dim=1)
        pulls = softmax_(kept_or(-self.scale * block.positives, block.kept, -torch.inf))[1]
        pushes = softmax_(self.scale * block.negatives)[1]
        return pulls.mul_(-by_pulls), pushes.mul_(by_pushes)

    def finish(self, statistics: Tensor, own: Own | None) -> Tensor:
        """log(1 + Σ Σ), the double sum being a product of two; each pair came twice on both sides."""
        some = statistics.isfinite().any(dim=0)
        pulls, pushes = torch.where(some, statistics, 0).logsumexp(dim=0) - log(2)
        return torch.where(some.all(), F.softplus(pulls + pushes), 0)


def cosent(embeddings: Embeddings, labels: Labels, *, scale: float = 20.0) -> Scalar:
    """Give every pair of one class a higher cosine than every pair of two classes, anchors shared or not.

    With s the cosine, the loss is log(1 + Σ exp(scale (s_kl - s_ij))) over all positive pairs (i, j) and all negative
    pairs (k, l) of the batch, each counted once: one logarithm for the batch, not a mean over items, so that it grows
    with the logarithm of the numbers of pairs. Value ≥ 0. A batch without positives or without negatives costs zero
    and still carries a gradient.

    Su, "CoSENT", 2022, for pairs with graded similarity; here labels grade them into same and different, as AnglE
    (Li & Li, 2023) also uses it. The default scale is the widely used 20. Costs O(batch²) time, O(batch) memory.
    """
    return survey(CoSENTRule(scale), embeddings, labels)


class CoSENT(nn.Module):
    """CoSENT with its options remembered; see `cosent`."""

    def __init__(self, *, scale: float = 20.0) -> None:
        super().__init__()
        self.rule = CoSENTRule(scale)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return survey(self.rule, embeddings, labels)

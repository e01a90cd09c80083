"""The spread-out regulariser: pairs of different classes are to look like random directions."""

import torch.nn.functional as F
from torch import nn

from accord.losses._engine import sweep_all
from accord.losses._pair_means import PairMeanRule
from accord.losses._plan import Member
from accord.types import Embeddings, Labels, Scalar

MOMENTS = Member(PairMeanRule("spread_out", "negative", 1)), Member(PairMeanRule("spread_out", "negative", 2))


def spread_out(embeddings: Embeddings, labels: Labels) -> Scalar:
    """Use the whole sphere: pairs of different classes shall have the cosines of random directions.

    With M1 the mean cosine and M2 the mean squared cosine of all pairs of different classes, the result is M1² +
    max(0, M2 - 1/dim), ≥ 0: random directions have M1 = 0 and M2 = 1/dim. A batch without such pairs costs zero.

    Zhang et al., ICCV 2017 (global orthogonal regularisation); there over sampled pairs, here over all. It is
    added to a loss. Costs O(batch²) time, O(batch) memory.
    """
    first, second = sweep_all(MOMENTS, embeddings, labels).unbind()
    return first.square() + F.relu(second - 1 / max(1, embeddings.shape[1]))


class SpreadOut(nn.Module):
    """The spread-out regulariser; see `spread_out`."""

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The penalty of one batch."""
        return spread_out(embeddings, labels)

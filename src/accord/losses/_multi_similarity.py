"""Multi-similarity loss: informative pairs are mined by comparison, then weighted softly by all the others."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_range
from accord.geometry import cosine
from accord.losses._shared import mean
from accord.mining import all_pairs, pair_masks
from accord.types import Embeddings, Labels, Mask, Scalar


def multi_similarity(
    embeddings: Embeddings,
    labels: Labels,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float | None = 0.1,
) -> Scalar:
    """Weigh each pair by itself and by its rivals around the same anchor.

    With s the cosine, an anchor costs log(1 + Σ_pos exp(-alpha (s - base))) / alpha over its mined positives plus
    log(1 + Σ_neg exp(beta (s - base))) / beta over its mined negatives. Mined are negatives with s + epsilon > the
    lowest positive and positives with s - epsilon < the highest negative; `epsilon=None` keeps all. The mean over all
    anchors is returned, ≥ 0. Anchors without a positive or without a negative cost zero, and so does a batch of such.

    Wang et al., CVPR 2019, with the paper's beta 50; the authors' repository uses 40. Only the anchor
    itself is left out of its positives, not every pair that looks like a copy (s ≥ 1 - 1e-5), as that repository does.
    """
    check_batch("multi_similarity", embeddings, labels)
    _check_options(alpha, beta, base, epsilon)
    scores = cosine(embeddings, embeddings)
    positives, negatives = all_pairs(scores, *pair_masks(labels))
    if epsilon is not None and len(scores):
        hardest_positive = scores.detach().masked_fill(~positives, torch.inf).amin(dim=1, keepdim=True)
        hardest_negative = scores.detach().masked_fill(~negatives, -torch.inf).amax(dim=1, keepdim=True)
        positives = positives & (scores - epsilon < hardest_negative)
        negatives = negatives & (scores + epsilon > hardest_positive)
    pulls = _log_one_plus_sum(-alpha * (scores - base), positives) / alpha
    pushes = _log_one_plus_sum(beta * (scores - base), negatives) / beta
    return mean(pulls + pushes)


class MultiSimilarity(nn.Module):
    """Multi-similarity loss with its options remembered; see `multi_similarity`."""

    def __init__(
        self, *, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, epsilon: float | None = 0.1
    ) -> None:
        super().__init__()
        _check_options(alpha, beta, base, epsilon)
        self.alpha, self.beta, self.base, self.epsilon = alpha, beta, base, epsilon

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return multi_similarity(
            embeddings, labels, alpha=self.alpha, beta=self.beta, base=self.base, epsilon=self.epsilon
        )


def _log_one_plus_sum(x: Float[Tensor, "row column"], kept: Mask) -> Float[Tensor, " row"]:
    """log(1 + Σ exp(x)) over the kept columns; the 1 is a column of its own, so no row is empty."""
    return F.pad(x.masked_fill(~kept, -torch.inf), (1, 0)).logsumexp(dim=1)


def _check_options(alpha: float, beta: float, base: float, epsilon: float | None) -> None:
    check_range("multi_similarity", "alpha", alpha, low=0, open_low=True)
    check_range("multi_similarity", "beta", beta, low=0, open_low=True)
    check_range("multi_similarity", "base", base, low=-1, high=1)
    if epsilon is not None:
        check_range("multi_similarity", "epsilon", epsilon, low=0)

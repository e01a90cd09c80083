"""P2SGrad: cosines to class vectors regressed to one and zero, so that the gradient grows with the angle itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class P2SGradRule:
    """What one item costs against all class vectors; see `p2s_grad`."""

    name = "p2s_grad"
    measure: Measure = "score"
    unit = True

    def costs(self, block: Block) -> Tally:
        """Half the squared distance of the cosines to one and zeros."""
        others = torch.where(block.negatives.isfinite(), block.negatives, 0)
        own = own_score(block)
        costs = (others.square().sum(dim=1) + (1 - own).square()) / 2
        return Tally(costs, torch.ones_like(costs))

    def pull(self, block: Block) -> Pull:
        """By hand: the cosines themselves, less one at the own class."""
        others = block.negatives.masked_fill(block.negatives == block.far, 0)
        own = own_score(block)
        costs = (torch.linalg.vector_norm(others, dim=1).square() + (1 - own).square()) / 2
        return Pull(Tally(costs, torch.ones_like(costs)), block.positives - 1, others)


def p2s_grad(embeddings: Embeddings, labels: Labels, weight: Float[Tensor, "class dim"]) -> Scalar:
    """Bring each item's cosine to its class vector to one and those to all others to zero; nothing to be tuned.

    With c_j the cosine to class vector j and y the own class an item costs ((1 - c_y)² + Σ_{j≠y} c_j²) / 2. The mean
    over the batch is returned, ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Zhang et al., "P2SGrad", CVPR 2019. The paper gives no loss but a gradient: the softmax's probabilities p_j in
    Σ_j (p_j - [j = y]) ∂c_j are replaced by the cosines c_j. This is the function that has this gradient.
    """
    return sweep_table(P2SGradRule(), embeddings, labels, weight)


class P2SGrad(nn.Module):
    """P2SGrad with a learned vector per class, `weight`, of about unit length; see `p2s_grad`."""

    def __init__(self, dim: int, classes: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.rule = P2SGradRule()
        check_count(self.rule.name, "dim", dim)
        self.weight = class_table(self.rule.name, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.weight)

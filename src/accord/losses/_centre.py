"""Centre loss: each item close to the learned centre of its class, whatever the other classes do."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_finite
from accord.geometry import full
from accord.losses._shared import class_table, mean
from accord.losses._tables import check_table
from accord.types import Embeddings, Labels, Scalar


def centre(embeddings: Embeddings, labels: Labels, centres: Float[Tensor, "class dim"]) -> Scalar:
    """Pull items to the centre of their class: half the squared Euclidean distance, averaged over the batch.

    The mean of ‖x - c_y‖² / 2, ≥ 0, of embeddings as they are, not normalised. Nothing pushes classes apart: alone
    it is at its best when all embeddings are one point, so add it, lightly, to a loss that separates (the paper's
    0.003 is a weight on a sum over the batch). An empty batch costs zero. Labels are class numbers from 0. Costs
    O(batch · dim) and a gradient as large as the centres.

    Wen et al., ECCV 2016, eq. 2, there a sum over the batch, here a mean. The paper moves centres by a rule of its
    own, eq. 4: by alpha · Σ (x - c) / (1 + number of items of the class in the batch), whatever the loss's weight.
    Here centres are learned by gradient like everything else: the step of a centre is its rate · Σ (x - c) / batch
    size, so give them a large rate (about the batch size over the items of a class) with plain gradient descent.
    """
    check_table("centre", embeddings, labels, centres)
    check_finite("centre", "the learned vectors", centres)
    x = full(embeddings)
    own = full(centres).index_select(0, labels.to(torch.int64))
    return mean((x - own).square().sum(dim=1)) / 2


class Centre(nn.Module):
    """Centre loss with a learned centre per class, `centres`, drawn from N(0, 1/dim); see `centre`."""

    def __init__(self, dim: int, classes: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        check_count("centre", "dim", dim)
        self.centres = class_table("centre", dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return centre(embeddings, labels, self.centres)

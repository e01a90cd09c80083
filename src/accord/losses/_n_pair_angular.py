"""N-pair loss with angular loss beside it."""

from torch import nn

from accord.checks import check_range
from accord.losses._angular import angular, check_angle
from accord.losses._n_pair import NPair
from accord.types import Embeddings, Labels, Scalar


def n_pair_angular(
    embeddings: Embeddings,
    labels: Labels,
    *,
    angle: float = 45.0,
    weight: float = 2.0,
    penalty: float = 0.005,
    symmetric: bool = False,
) -> Scalar:
    """N-pair loss plus `weight` times angular loss: one compares similarities, the other the shape of triangles.

    Meant for batches of two items per class, which both see alike. Of larger classes N-pair takes the first two rows
    (and refuses a batch in which no class has two), angular all pairs. N-pair's part works on embeddings as they are
    and holds their length by `penalty`, the angular part on unit vectors. Value ≥ 0; an empty batch costs zero.

    Wang et al., ICCV 2017, with N-pair as the partner; weight 2 as widely used. For the parts see `n_pair` and
    `angular`.
    """
    module = NPairAngular(angle=angle, weight=weight, penalty=penalty, symmetric=symmetric)
    value: Scalar = module(embeddings, labels)
    return value


class NPairAngular(nn.Module):
    """N-pair loss plus angular loss with their options remembered; see `n_pair_angular`."""

    def __init__(
        self, *, angle: float = 45.0, weight: float = 2.0, penalty: float = 0.005, symmetric: bool = False
    ) -> None:
        super().__init__()
        check_range("n_pair_angular", "weight", weight, low=0)
        check_angle("n_pair_angular", angle)
        self.angle, self.weight = angle, weight
        self.n_pair = NPair(penalty=penalty, symmetric=symmetric)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        pairs: Scalar = self.n_pair(embeddings, labels)
        return pairs + self.weight * angular(embeddings, labels, angle=self.angle)

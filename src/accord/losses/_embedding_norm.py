"""A regulariser that keeps embeddings short: their mean squared length."""

from torch import nn

from accord.checks import check_batch
from accord.geometry import full
from accord.types import Embeddings, Labels, Scalar


def embedding_norm(embeddings: Embeddings, labels: Labels) -> Scalar:
    """Keep embeddings short: the mean of their squared Euclidean lengths.

    Value ≥ 0; labels play no part, and an empty batch costs zero. It goes beside a loss on inner products, which could
    otherwise be lowered by growing; a loss that normalises its embeddings gains nothing by it but short vectors.

    Sohn, NIPS 2016, where it steadies the N-pair loss; there it is summed over the pairs and weighted.
    """
    check_batch("embedding_norm", embeddings, labels)
    x = full(embeddings)
    return x.square().sum() / max(1, len(x))


class EmbeddingNorm(nn.Module):
    """The mean squared length of embeddings; see `embedding_norm`."""

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The penalty of one batch."""
        return embedding_norm(embeddings, labels)

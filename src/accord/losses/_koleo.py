"""The KoLeo regulariser: no two embeddings close together, by the entropy of nearest-neighbour distances."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from accord.checks import check_batch, check_range
from accord.geometry import full, inner, normalise, row_blocks, smallest_norm
from accord.losses._settings import Settings, settings
from accord.types import Embeddings, Labels, Scalar


def koleo(embeddings: Embeddings, labels: Labels, *, epsilon: float = 1e-6) -> Scalar:
    """Spread unit-length embeddings evenly over the sphere: push each from its nearest neighbour, whatever its class.

    The result is -mean log max(d, epsilon), d being the Euclidean distance of an item to the nearest other item of the
    batch; of several equally near ones one is taken. The value may be negative, down to -log 2. Labels play no part.
    Items nearer than `epsilon`, such as equal ones, cost -log epsilon each and are not moved: the direction between
    them is mere rounding. In float16 `epsilon` is at least 0.004, for very short embeddings would have an infinite
    gradient. A batch of one item or none costs zero.

    Sablayrolles et al., ICLR 2019 (arXiv 1806.03198): a differential entropy as estimated by Kozachenko and
    Leonenko, without its constants; `epsilon` is ours. Costs O(batch²) time, O(batch) memory.
    """
    check_range("koleo", "epsilon", epsilon, low=1e-15, high=2, open_high=True)
    check_batch("koleo", embeddings, labels)
    x = normalise(embeddings, dtype=full(embeddings).dtype)
    if len(x) < 2:
        return 0 * full(embeddings).sum()
    # a gradient is at most the inverse of the distance times that of the length, and must fit the embeddings' dtype
    nearest = 2 / (torch.finfo(embeddings.dtype).max * smallest_norm(embeddings.dtype))
    # from the difference itself: products of unit vectors lose the digits of a small distance
    squares = (x - x[_nearest(x.detach())]).square().sum(dim=1)
    return -squares.clamp_min(max(epsilon, nearest) ** 2).log().mean() / 2


@torch.no_grad()
def _nearest(x: Float[Tensor, "item dim"]) -> Int[Tensor, " item"]:
    """The row nearest to each row, other than itself; found in blocks of rows."""
    lengths, found = x.square().sum(dim=1), []
    budget = Settings().block_bytes if torch.compiler.is_compiling() else settings().block_bytes
    for rows in row_blocks(len(x), len(x), budget_bytes=budget, itemsize=x.element_size()):
        distances = inner(x[rows], x).mul_(-2).add_(lengths)  # but for each row's own squared length
        distances.diagonal(rows.start).fill_(torch.inf)
        found.append(distances.argmin(dim=1))
    return torch.cat(found)


class Koleo(nn.Module):
    """KoLeo with its option remembered; see `koleo`."""

    def __init__(self, *, epsilon: float = 1e-6) -> None:
        super().__init__()
        check_range("koleo", "epsilon", epsilon, low=1e-15, high=2, open_high=True)
        self.epsilon = epsilon

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The penalty of one batch."""
        return koleo(embeddings, labels, epsilon=self.epsilon)

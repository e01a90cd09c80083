"""Distance-weighted sampling: negatives from near and far alike, although most lie at one distance."""

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from accord.checks import check_count, check_range
from accord.errors import UsageError
from accord.mining._block import Block
from accord.mining._miner import squares
from accord.mining._noise import uniform


@dataclass(frozen=True)
class DistanceWeighted:
    """Draw one negative per positive of a row, as likely to be near as to be far.

    Points on a sphere of many dimensions are nearly all √2 apart, so negatives drawn evenly teach nothing. Here one at
    distance d is drawn with probability in proportion to 1/q(d), with q the density of distances between random points
    on the sphere, log q(d) = (n - 2) log d + (n - 3)/2 · log(1 - d²/4) for n dimensions. Distances below `cutoff` count
    as `cutoff`, so that no single near (perhaps mislabelled) negative is always drawn; beyond `reach` none is drawn,
    for there the margin loss is zero. A row whose negatives all lie beyond keeps its positives and no negative; rows
    without a positive or without a negative keep nothing. Needs unit vectors.

    Draws are independent; a negative drawn for two positives of a row is kept once, as a row's negatives are a set.
    `dim` is n; inside `Mined` or `CrossBatchMemory` it may be left out, and `draw`, which numbers the batches, is
    counted and saved there. The same `draw` chooses the same from the same values, however rows are cut into blocks.

    Wu et al., "Sampling Matters in Deep Embedding Learning", ICCV 2017, section 4; cutoff .5 is the paper's, 1.4 a
    widely used default.
    """

    dim: int | None = None
    cutoff: float = 0.5
    reach: float = 1.4
    draw: int | Tensor = field(default=0, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.dim is not None:
            check_count("DistanceWeighted", "dim", self.dim, low=2)
        check_range("DistanceWeighted", "cutoff", self.cutoff, low=0, high=2, open_low=True, open_high=True)
        check_range("DistanceWeighted", "reach", self.reach, low=self.cutoff, high=2, open_low=True)

    def bound(self, draw: int | Tensor, dim: int) -> "DistanceWeighted":
        """For one batch."""
        return replace(self, draw=draw, dim=self.dim or max(2, dim))

    def __call__(self, block: Block) -> Block:
        """All positives, and the negatives that were drawn."""
        if not block.unit:
            raise UsageError("DistanceWeighted: its density is that of unit vectors, so the loss must normalise.")
        weights = self._weights(squares(block)[1].detach())
        share = weights.cumsum(dim=1)
        # the how-manieth positive, and not its slot: slots differ between devices
        place = block.kept.cumsum(dim=1)
        lot = uniform(self.draw, row_numbers(block), place).to(share.dtype) * share[:, -1:]
        found = torch.searchsorted(share, lot.contiguous(), right=True)
        # where there is no positive, nothing is drawn: an extra column takes it
        found = found.where(block.kept, share.shape[1])
        drawn = torch.zeros_like(block.negatives, dtype=torch.bool)
        drawn = F.pad(drawn, (0, 1)).scatter_(1, found, True)[:, :-1]
        return block.only(block.whole[:, None], drawn & (weights > 0))

    def _weights(self, squared: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
        """1/q of each distance relative to the row's largest, 0 beyond reach."""
        if self.dim is None:
            raise UsageError("DistanceWeighted: give dim=, the width of the embeddings, or use it inside Mined.")
        bounded = squared.clamp(self.cutoff**2, 4 - 1e-6)
        density = (self.dim - 2) / 2 * bounded.log() + (self.dim - 3) / 2 * torch.log1p(-bounded / 4)
        heat = torch.where(squared < self.reach**2, -density, -torch.inf)
        top = heat.amax(dim=1, keepdim=True)
        return (heat - torch.where(top.isfinite(), top, 0)).exp()


def row_numbers(block: Block) -> Int[Tensor, " row"]:
    """The rows' numbers in the whole batch."""
    first = block.rows.start or 0
    return torch.arange(first, first + len(block.kept), device=block.kept.device)

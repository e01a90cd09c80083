"""The mining rules: from similarities and masks of a block of rows to the positives and negatives worth learning from.

Each is a pure function of one block of rows, looks at values only (no gradient passes) and never waits for the device.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from accord.types import Mask

Block = Float[Tensor, "row column"]


def all_pairs(similarities: Block, positives: Mask, negatives: Mask) -> tuple[Mask, Mask]:
    """Keep every pair of the rows that have both a positive and a negative; `similarities` are not looked at."""
    whole = positives.any(dim=1, keepdim=True) & negatives.any(dim=1, keepdim=True)
    return positives & whole, negatives & whole


def batch_hard(similarities: Block, positives: Mask, negatives: Mask) -> tuple[Mask, Mask]:
    """Keep each row's farthest positive and closest negative (Hermans et al. 2017, "batch hard").

    Among equals the first column is kept. Rows without a positive or without a negative keep nothing.
    """
    if not similarities.numel():
        return positives, negatives
    positives, negatives = all_pairs(similarities, positives, negatives)
    columns = torch.arange(similarities.shape[1], device=similarities.device)
    farthest = similarities.masked_fill(~positives, torch.inf).argmin(dim=1, keepdim=True)
    closest = similarities.masked_fill(~negatives, -torch.inf).argmax(dim=1, keepdim=True)
    return positives & (columns == farthest), negatives & (columns == closest)


def semi_hard(similarities: Block, positives: Mask, negatives: Mask) -> Int[Tensor, "row column"]:
    """For each positive pair, the column of its semi-hard negative (Schroff et al., "FaceNet", CVPR 2015, section 3.2).

    That is the closest negative of the row that is strictly farther than the positive. Where no negative is farther
    (all violate), it is the farthest one, the nearest there is to a semi-hard choice: the closest would invite the
    collapse the paper warns of. Meaningful where `positives` holds and the row has a negative; elsewhere any column.
    The paper does not say what to do without a semi-hard negative; and it also bounds them by the margin, which the
    hinge of the loss does anyway. Costs a sort of each row, never batch × batch × batch.
    """
    ascending, order = similarities.detach().masked_fill(~negatives, torch.inf).sort(dim=1)
    farther = torch.searchsorted(ascending, similarities.detach().contiguous())
    # the last of the farther ones is the closest; without any, place 0 holds the farthest negative
    return order.gather(1, (farther - 1).clamp_min(0))

"""Triplets as row numbers, for losses of other libraries that ask for them."""

import torch
from torch import Tensor

from accord.checks import check_batch
from accord.errors import UnknownNameError
from accord.geometry import cosine
from accord.mining._masks import pair_masks
from accord.mining._rules import all_pairs, batch_hard, semi_hard
from accord.types import Embeddings, Labels, Mask, Triplets

TRIPLET_RULES = ("all", "batch_hard", "semi_hard")


def triplets(embeddings: Embeddings, labels: Labels, *, kind: str = "semi_hard") -> Triplets:
    """Choose triplets of a batch by cosine similarity: anchor, one of its class, one of another.

    `kind` is `all`, `batch_hard` (one per anchor) or `semi_hard` (one per ordered positive pair); the rules are those
    of this room. A batch without triplets gives empty tensors. Waits for the device, as their number must be known.
    """
    check_batch("triplets", embeddings, labels)
    if kind not in TRIPLET_RULES:
        raise UnknownNameError("kind of triplet", kind, TRIPLET_RULES)
    similarities = cosine(embeddings.detach(), embeddings.detach())
    positives, negatives = pair_masks(labels)
    if kind == "semi_hard":
        return _one_negative_each(similarities, positives, negatives)
    rule = all_pairs if kind == "all" else batch_hard
    positives, negatives = rule(similarities, positives, negatives)
    anchors, chosen = positives.nonzero(as_tuple=True)
    pairs, others = negatives[anchors].nonzero(as_tuple=True)
    return Triplets(anchors[pairs], chosen[pairs], others)


def _one_negative_each(similarities: Tensor, positives: Mask, negatives: Mask) -> Triplets:
    columns = semi_hard(similarities, positives, negatives)
    anchors, chosen = all_pairs(similarities, positives, negatives)[0].nonzero(as_tuple=True)
    return Triplets(anchors, chosen, columns[anchors, chosen].to(torch.int64))

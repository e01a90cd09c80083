"""N-pair loss: each anchor recognises its own positive among the positives of all other classes in the batch."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from accord.checks import check_batch, check_finite, check_range, describe
from accord.errors import BatchError
from accord.geometry import full, inner
from accord.losses._shared import mean_where
from accord.types import Embeddings, Labels, Scalar

Side = Float[Tensor, "pair dim"]


def n_pair(anchors: Side, positives: Side, *, penalty: float = 0.005, symmetric: bool = False) -> Scalar:
    """Tell each anchor's positive from the positives of all other pairs, by inner product.

    Row i of `anchors` and of `positives` are two items of one class, and every pair is of another class. The result is
    mean_i log(1 + Σ_{j≠i} exp(aᵢᵀpⱼ - aᵢᵀpᵢ)) + penalty · (mean‖a‖² + mean‖p‖²), ≥ 0. `symmetric=True` averages it
    with the same loss the other way round. One pair costs its penalty only, no pair costs zero.

    Sohn, NIPS 2016, N-pair-mc with its L2 regularisation of the embeddings. As published they are *not* normalised;
    keep it so. Sources disagree on the penalty's weight (0.0005 to 0.02 in our terms); the default is 0.25 × 0.02.
    """
    check_range("n_pair", "penalty", penalty, low=0)
    if anchors.shape != positives.shape or anchors.device != positives.device:
        raise BatchError(
            "n_pair: anchors and positives must match row by row.\n"
            f"  anchors:   {describe(anchors)}\n  positives: {describe(positives)}"
        )
    check_finite("n_pair", "anchors", anchors)
    check_finite("n_pair", "positives", positives)
    whole = torch.ones(len(anchors), dtype=torch.bool, device=anchors.device)
    return _recognise(full(anchors), full(positives), whole, penalty, symmetric)


class NPair(nn.Module):
    """N-pair loss on a labelled batch: the first row of a class is the anchor, its second the positive; see `n_pair`.

    Further rows of a class and classes with one row are left out, so a sampler with 2 items per class wastes nothing.
    The value does not depend on the order of the classes, but on which row of a class comes first. A batch in which no
    class has two rows is refused with a BatchError; an empty one costs zero.
    """

    def __init__(self, *, penalty: float = 0.005, symmetric: bool = False) -> None:
        super().__init__()
        check_range("n_pair", "penalty", penalty, low=0)
        self.penalty, self.symmetric = penalty, symmetric

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        check_batch("n_pair", embeddings, labels)
        if not len(embeddings):
            return full(embeddings).sum()
        partners, has_partner = _second_rows(labels)
        _check_pairs(labels, has_partner)
        x = full(embeddings)
        return _recognise(x, x[partners], has_partner, self.penalty, self.symmetric)


def _second_rows(labels: Labels) -> tuple[Tensor, Bool[Tensor, " item"]]:
    """For each row the second row of its class, and which rows are the first of a class that has a second.

    Fixed shapes, so that nothing waits for the device: rows that are no anchor stay, and are masked later.
    """
    same = labels[:, None] == labels
    place = same.tril(-1).sum(dim=1)
    seconds = same & (place == 1)
    return seconds.to(torch.uint8).argmax(dim=1), (place == 0) & seconds.any(dim=1)


def _check_pairs(labels: Labels, has_partner: Tensor) -> None:
    if labels.device.type != "cpu" or torch.compiler.is_compiling() or bool(has_partner.any()):
        return
    raise BatchError(
        "n_pair: a batch needs a class with two rows, but all its labels differ.\n"
        f"  labels: {describe(labels)}\nDraw at least 2 items per class."
    )


def _recognise(anchors: Side, positives: Side, whole: Tensor, penalty: float, symmetric: bool) -> Scalar:
    """The loss over the rows that are whole pairs; the others are neither anchors nor choices."""
    scores = inner(anchors, positives)
    right = scores.diagonal()
    choices = scores.masked_fill(~(whole & whole[:, None]), -torch.inf)
    costs = choices.logsumexp(dim=1) - right
    if symmetric:
        costs = (costs + choices.logsumexp(dim=0) - right) / 2
    return mean_where(costs + penalty * (anchors.square() + positives.square()).sum(dim=1), whole)

"""Dynamic soft margin: the hardest triplets, each weighted by how hard it is among those of the batches before."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from accord.checks import check_batch, check_count, check_range
from accord.errors import UsageError
from accord.geometry import full, normalise
from accord.losses._engine import sweep
from accord.losses._rule import Tally
from accord.losses._shared import mean_where
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

NAME = "dynamic_soft_margin"
WIDEST = 2.0  # no two unit vectors are farther apart


class _Hardest:
    """A rule for the row engine that costs nothing and remembers each row's hardest triplet."""

    name = NAME
    measure: Measure = "score"
    unit = True

    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def costs(self, block: Block) -> Tally:
        """Remember the columns of the farthest positive and of the closest negative, and whether there are both."""
        positives = torch.where(block.kept, block.positives, torch.inf).argmin(dim=1, keepdim=True)
        assert block.groups is not None
        chosen = block.groups.own(block.rows).chosen
        if chosen is not None:  # else a slot is a column
            positives = chosen.gather(1, positives)
        self.found.append(torch.stack([positives[:, 0], block.negatives.argmax(dim=1), block.whole.long()], dim=1))
        return Tally(torch.zeros_like(block.negatives[:, 0]), None)


def dynamic_soft_margin(embeddings: Embeddings, labels: Labels, histogram: Float[Tensor, " bin"]) -> Scalar:
    """Ask of the hardest triplets that the negative be farther than the positive; the harder, the more one counts.

    Each item that has both is the anchor of one triplet: its farthest positive and its closest negative in the batch,
    a gap d = d(a,p) - d(a,n) apart, in Euclidean distances of unit vectors, so -2 ≤ d ≤ 2. The loss is the mean of
    F(d) · d, where F(d) in [0, 1] is the share of earlier gaps below d, a constant for the gradient: a triplet harder
    than all counts fully, one easier than all not at all, and no margin is to be chosen. The loss is at least -2 and
    mostly negative once classes are apart. A batch without triplets costs zero and still carries a gradient.

    `histogram` says how often gaps fell into each of its bins, which divide [-2, 2] evenly; only its shape counts, not
    its sum. Inside a bin F grows linearly. All zeros mean that nothing is known, and F(d) = (d + 2) / 4.
    `next_dynamic_soft_margin_histogram` moves it on. One product of the embeddings, none for the gradient: O(batch² ·
    dim) time, and O(batch · dim) memory, for the gaps are taken from the picked vectors themselves.

    Zhang & Rusinkiewicz, "Learning Local Descriptors With a CDF-Based Dynamic Soft Margin", ICCV 2019: from its
    abstract the weight, by the cumulative distribution of the triplets' signed distances to the decision boundary,
    updated as training goes. Not checked against the text: that the weight multiplies d as it stands, without a factor;
    that a gap counts wholly in one bin; F inside a bin; that nothing flows through F; the first batch. Chosen here: the
    paper trains on pairs of patches, whereas classes of any size need a positive, so each item is an anchor with its
    farthest one; a pair thus gives two triplets, each with the closest negative of its own end.
    """
    return _cost(*_gaps(embeddings, labels), histogram)


def next_dynamic_soft_margin_histogram(
    embeddings: Embeddings, labels: Labels, histogram: Float[Tensor, " bin"], *, momentum: float = 0.01
) -> Float[Tensor, " bin"]:
    """The histogram after one more batch: (1 - momentum) · old + momentum · the batch's own, of sum 1, detached.

    After all zeros it is the batch's own; a batch without triplets leaves it alone.
    """
    check_range(NAME, "momentum", momentum, low=0, high=1)
    return _moved(*_gaps(embeddings, labels), histogram, momentum)


class DynamicSoftMargin(nn.Module):
    """Dynamic soft margin with its histogram, a buffer that is saved with the state; see `dynamic_soft_margin`.

    A batch it is trained on joins the `histogram` with the share `momentum` before it is weighed, the first wholly; an
    evaluating module leaves it. 10 bins and 0.01 are widely used defaults, not checked against the paper.
    """

    histogram: Tensor

    def __init__(self, *, bins: int = 10, momentum: float = 0.01) -> None:
        super().__init__()
        check_count(NAME, "bins", bins, high=10_000)
        check_range(NAME, "momentum", momentum, low=0, high=1)
        self.momentum = momentum
        self.register_buffer("histogram", torch.zeros(bins))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        gaps, kept = _gaps(embeddings, labels)
        if self.training:
            # a new tensor and not a change of the old one, which a compiled graph would lose
            self.histogram = _moved(gaps, kept, self.histogram, self.momentum)
        return _cost(gaps, kept, self.histogram)


def _gaps(embeddings: Tensor, labels: Tensor) -> tuple[Float[Tensor, " row"], Bool[Tensor, " row"]]:
    """How much farther each item's farthest positive is than its closest negative, and which items have both."""
    check_batch(NAME, embeddings, labels)
    rule = _Hardest()
    sweep(rule, embeddings.detach(), labels)
    positives, negatives, whole = torch.cat([labels.new_zeros(0, 3, dtype=torch.int64), *rule.found]).unbind(dim=1)
    x = normalise(embeddings, dtype=full(embeddings).dtype)
    return _apart(x, x.index_select(0, positives)) - _apart(x, x.index_select(0, negatives)), whole > 0


def _apart(x: Tensor, y: Tensor) -> Float[Tensor, " row"]:
    """The distance of each row to its partner."""
    squares = (x - y).square().sum(dim=1)
    # the input of the root is masked, not its output: 0 · inf in the backward pass would be NaN
    return torch.where(squares > 0, squares, 1).sqrt() * (squares > 0)


def _cost(gaps: Tensor, kept: Tensor, histogram: Tensor) -> Scalar:
    """The mean of gaps weighted by their place in the distribution."""
    shares = _shares(histogram.to(gaps.dtype))
    places, bins = _places(gaps, len(shares))
    weights = (shares.cumsum(dim=0) - shares)[bins] + (places - bins) * shares[bins]
    return mean_where(weights.detach() * gaps, kept)


def _moved(gaps: Tensor, kept: Tensor, histogram: Tensor, momentum: float) -> Tensor:
    """The histogram with those gaps in it."""
    before = histogram.detach().to(gaps.dtype)
    bins = _places(gaps, _count(before))[1]
    # whole numbers, whose sum is the same in any order
    here = torch.zeros_like(before).index_add(0, bins, kept.to(before.dtype))
    total = here.sum()
    here = here / total.clamp_min(1)
    after = torch.where(before.sum() > 0, _shares(before).lerp(here, momentum), here)
    return torch.where(total > 0, after, before).to(histogram.dtype)


def _shares(histogram: Tensor) -> Tensor:
    """The histogram with sum 1; the even one where it is empty."""
    total = histogram.sum()
    known = total > 0
    return torch.where(known, histogram / torch.where(known, total, 1), 1 / _count(histogram))


def _places(gaps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where gaps lie, in units of bins, and in which."""
    places = ((gaps.detach() + WIDEST) * (count / (2 * WIDEST))).clamp(0, count)
    return places, places.long().clamp_max(count - 1)


def _count(histogram: Tensor) -> int:
    if histogram.ndim != 1 or not len(histogram):
        raise UsageError(f"{NAME}: histogram must have one axis and a bin, not the shape {tuple(histogram.shape)}.")
    return len(histogram)

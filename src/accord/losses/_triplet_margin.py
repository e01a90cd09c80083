"""Triplet margin loss: an item closer to its own class than to others, by a margin, over mined triplets."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.checks import check_batch, check_flag, check_range
from accord.errors import UnknownNameError, UsageError
from accord.geometry import full, normalise
from accord.losses._engine import run, sweep, who_belongs
from accord.losses._plan import Member
from accord.losses._row_loss import RowLoss, hooked
from accord.losses._rule import Pull, Tally
from accord.losses._triplet_picks import Others, gaps, pick
from accord.losses._triplet_sets import Sums, by_slots, few_slots, hinges_sorted, softly
from accord.losses._work import autograd_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Mining = Literal["semi_hard", "batch_hard", "all", "hard", "all_semi_hard"]
Margin = float | Literal["soft"]


@dataclass(frozen=True)
class TripletMarginRule:
    """What one row of distances costs; see `triplet_margin`."""

    margin: Margin = 0.2
    mining: Mining = "semi_hard"
    squared: bool = True
    unit: bool = True
    violating_only: bool = False
    swap: bool = False
    band: float | None = None
    name = "triplet_margin"
    slotted = True

    def __post_init__(self) -> None:
        flags = {"squared": self.squared, "normalised": self.unit, "swap": self.swap}
        for name, value in {**flags, "violating_only": self.violating_only}.items():
            check_flag(self.name, name, value)
        if self.mining not in get_args(Mining):
            raise UnknownNameError("mining of triplet_margin", self.mining, get_args(Mining))
        if self.margin == "soft" and self.mining == "all_semi_hard":
            raise UsageError("triplet_margin: mining='all_semi_hard' ends at the margin; give a number, not 'soft'.")
        if self.margin != "soft":
            check_range(self.name, "margin", self.margin, low=0)
        if self.band is not None:
            if self.mining != "all_semi_hard":
                raise UsageError(
                    f"triplet_margin: band says how far mining='all_semi_hard' reaches; it goes with no other, and "
                    f"mining is '{self.mining}'."
                )
            check_range(self.name, "band", self.band, low=0, open_low=True)
        if self.swap and self.mining not in ("semi_hard", "batch_hard"):
            raise UsageError(
                f"triplet_margin: swap=True compares the positive and the negative of single triplets; it goes with "
                f"mining='semi_hard' or 'batch_hard', not with '{self.mining}'."
            )

    @property
    def measure(self) -> Measure:
        """Squared distances or their roots."""
        return "squared" if self.squared else "euclidean"

    @property
    def tables(self) -> int:
        """Whether tables with a third axis are made, which want small blocks."""
        in_sets = self.mining not in ("semi_hard", "batch_hard")
        return int((in_sets and self.margin == "soft") or (self.swap and self.mining == "semi_hard"))

    def costs(self, block: Block, *vectors: Tensor) -> Tally:
        """The hinge, or its soft form, over the mined triplets."""
        if self.mining == "semi_hard" or self.mining == "batch_hard":
            picks = pick(block, self.mining)
            others = Others(picks, *vectors, squared=self.squared).distances if self.swap else None
            return self._single(gaps(block, picks, others), picks.kept)
        if self.margin == "soft":
            return self._tally(softly(block, self.mining))
        return self._tally(hinges_sorted(block, self.mining, self.margin, self._reach))

    def pull(self, block: Block, *vectors: Tensor) -> Pull:
        """By hand: one or none for each triplet, or the logistic function of its gap."""
        if self.mining == "semi_hard" or self.mining == "batch_hard":
            return self._single_pull(block, vectors)
        if not few_slots(block):
            return autograd_pull(self, block, ())
        margin = None if self.margin == "soft" else self.margin
        sums, by_positives, by_negatives = by_slots(block, self.mining, margin, self._reach)
        return Pull(self._tally(sums), by_positives, by_negatives)

    @property
    def _reach(self) -> float:
        """How far behind its positive a semi-hard negative may lie; other sets have no such end."""
        if self.band is not None:
            return self.band
        return 0.0 if self.margin == "soft" else self.margin

    def _tally(self, sums: Sums) -> Tally:
        return Tally(sums.costs, sums.violating if self.violating_only else sums.mined)

    def _single(self, gaps_: Tensor, kept: Tensor) -> Tally:
        costs = F.softplus(gaps_) if self.margin == "soft" else F.relu(gaps_ + self.margin)
        costs = torch.where(kept, costs, 0)
        return Tally(costs.sum(dim=1), (costs > 0 if self.violating_only else kept).sum(dim=1))

    def _single_pull(self, block: Block, vectors: tuple[Tensor, ...]) -> Pull:
        assert self.mining == "semi_hard" or self.mining == "batch_hard"
        picks = pick(block, self.mining)
        others = Others(picks, *vectors, squared=self.squared) if self.swap else None
        gaps_ = gaps(block, picks, None if others is None else others.distances)
        slopes = gaps_.sigmoid() if self.margin == "soft" else (gaps_ + self.margin > 0).to(gaps_.dtype)
        slopes = slopes * picks.kept
        by_positives = torch.zeros_like(block.positives).scatter_(1, picks.slots, slopes)
        learned: tuple[Tensor, ...] = ()
        pushes = -slopes
        if others is not None:
            swapped = others.distances < block.negatives.gather(1, picks.columns)
            learned = (others.back(torch.where(swapped, pushes, 0), vectors[0]),)
            pushes = pushes.masked_fill(swapped, 0)
        by_negatives = torch.zeros_like(block.negatives).scatter_add_(1, picks.columns, pushes)
        return Pull(self._single(gaps_, picks.kept), by_positives, by_negatives, learned)


def triplet_margin(
    embeddings: Embeddings,
    labels: Labels,
    *,
    margin: Margin = 0.2,
    mining: Mining = "semi_hard",
    squared: bool = True,
    normalised: bool = True,
    violating_only: bool = False,
    swap: bool = False,
    band: float | None = None,
) -> Scalar:
    """Ask that an item lies closer to one of its class than to one of another, by `margin`.

    A triplet (anchor, positive, negative) costs max(0, d(a,p) - d(a,n) + margin), or log(1 + exp(d(a,p) - d(a,n)))
    with `margin="soft"`. The result is the mean over the mined triplets, ≥ 0; `violating_only` averages over those
    that cost something. d is the squared Euclidean distance of unit-length embeddings; `squared=False` takes the root,
    `normalised=False` leaves lengths alone. A batch without triplets costs zero and still carries a gradient.

    Which triplets: `semi_hard`, for each ordered positive pair the closest negative strictly farther than the
    positive, or, where none is farther, the farthest negative; `batch_hard`, each anchor's farthest positive and
    closest negative; `all`; `hard`, those whose negative is no farther than the positive; `all_semi_hard`, those whose
    negative is farther, but by no more than `band`, by default the margin. None of them writes triplets down:
    O(batch² · positives) time or a sort of each row, O(batch) memory. The soft margin over a set stays exact, at an
    exponential per triplet.

    `swap` takes the smaller of d(a,n) and d(p,n) for the negative's distance, after mining; for single triplets only.

    Schroff et al., "FaceNet", CVPR 2015, eq. 1–3, margin 0.2: our default, with a mean for its sum and the fallback,
    which it does not specify. Hermans et al. 2017: `mining="batch_hard", squared=False, normalised=False`, `"soft"`
    optional; their BA variant is `all`, BA≠0 is `all` with `violating_only`. Balntas et al., BMVC 2016: `swap`.
    Zabihzadeh et al., arXiv 2107.01130: `margin=1, mining="all_semi_hard", band=0.1, squared=False`, whose gradient is
    that of a margin of 0.1.
    """
    rule = TripletMarginRule(margin, mining, squared, normalised, violating_only, swap, band)
    return _swept(rule, embeddings, labels)


class TripletMargin(RowLoss):
    """Triplet margin loss with its options remembered; see `triplet_margin`."""

    def __init__(
        self,
        *,
        margin: Margin = 0.2,
        mining: Mining = "semi_hard",
        squared: bool = True,
        normalised: bool = True,
        violating_only: bool = False,
        swap: bool = False,
        band: float | None = None,
    ) -> None:
        super().__init__()
        self.rule = TripletMarginRule(margin, mining, squared, normalised, violating_only, swap, band)

    @property
    def shareable(self) -> bool:
        """With `swap` the rule needs the vectors themselves."""
        own = type(self).forward is TripletMargin.forward
        return own and not hooked(self) and not getattr(self.rule, "swap", False)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _swept(self.rule, embeddings, labels)


def _swept(rule: Any, embeddings: Tensor, labels: Tensor) -> Scalar:
    """The sweep; with `swap` the rule is handed all vectors, and which columns a row's slots are."""
    if not rule.swap or not len(embeddings):
        return sweep(rule, embeddings, labels)
    check_batch(rule.name, embeddings, labels)
    beside = getattr(rule, "beside", None)  # a memory's
    keys, key_labels = (None, None) if beside is None else beside(embeddings, labels)
    groups = who_belongs(rule, labels, key_labels, None if keys is None else True)
    columns = embeddings if keys is None else keys
    vectors = normalise(columns, dtype=full(columns).dtype) if rule.unit else full(columns)
    chosen = groups.own(slice(None)).chosen
    if chosen is None:  # then there is a slot for each column
        chosen = torch.arange(len(columns), device=labels.device).expand(len(labels), -1)
    # a view, so that in a second derivative the vectors don't descend from the rows beside them
    return run([Member(rule, (vectors,), (chosen,))], embeddings.view_as(embeddings), groups, keys)

"""Signal-to-noise loss: contrastive, with the variance of a pair's difference relative to its anchor's for distance."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.checks import check_batch, check_range
from accord.errors import UnknownNameError, UsageError
from accord.geometry import full, smallest_norm
from accord.losses._engine import sweep
from accord.losses._rule import Pull, Rule, Tally
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar

Average = Literal["pairs", "kinds"]
FAINT = 1e-6  # an anchor with less than this share of the batch's mean signal is none


@dataclass(frozen=True)
class SignalToNoiseRule:
    """What one row of squared distances costs, given the anchor's signal; see `signal_to_noise`."""

    positive_margin: float = 0.0
    negative_margin: float = 1.0
    average: Average = "kinds"
    name = "signal_to_noise"
    measure: Measure = "squared"
    unit = False

    def __post_init__(self) -> None:
        check_range(self.name, "positive_margin", self.positive_margin, low=0)
        check_range(self.name, "negative_margin", self.negative_margin, low=0, open_low=True)
        if self.average not in get_args(Average):
            raise UnknownNameError("average of signal_to_noise", self.average, get_args(Average))

    def costs(self, block: Block, signal: Tensor) -> Tally:
        """Hinges on noise by signal; a row without signal costs nothing."""
        scale = self._scale(signal)[:, None]
        pulls = F.relu(torch.where(block.kept, block.positives * scale - self.positive_margin, 0))
        apart = block.negatives < block.far
        ratios = torch.where(apart, block.negatives, 0) * scale
        pushes = F.relu(torch.where(apart, self.negative_margin - ratios, 0))
        by_pull, by_push, counts = self._shares(block, signal)
        return Tally(pulls.sum(dim=1) * by_pull + pushes.sum(dim=1) * by_push, counts)

    def pull(self, block: Block, signal: Tensor) -> Pull:
        """By hand: ±1/signal for each hinge that costs something, and minus all ratios by the signal for the latter."""
        scale = self._scale(signal)
        pulls = torch.where(block.kept, block.positives * scale[:, None] - self.positive_margin, 0).clamp_min_(0)
        pushes = torch.mul(block.negatives, -scale[:, None]).add_(self.negative_margin).relu_()
        by_pull, by_push, counts = self._shares(block, signal)
        pull, push = pulls.sum(dim=1), pushes.sum(dim=1)
        # a hinge that costs c has the ratio margin ± c
        ratios = by_pull * (pull + self.positive_margin * pulls.sign_().sum(dim=1))
        ratios -= by_push * (self.negative_margin * pushes.sign_().sum(dim=1) - push)
        by_positives, by_negatives = (by_pull * scale)[:, None], (-by_push * scale)[:, None]
        tally = Tally(pull * by_pull + push * by_push, counts)
        return Pull(tally, pulls.mul_(by_positives), pushes.mul_(by_negatives), (-ratios * scale,))

    def _scale(self, signal: Tensor) -> Tensor:
        """1 / signal; rows without signal, which count nothing, get 1."""
        return torch.where(signal > 0, signal, 1).reciprocal()

    def _shares(self, block: Block, signal: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """What a pull and a push are multiplied by, and what their sum is divided by."""
        heard = (signal > 0).to(block.negatives.dtype)
        if self.average == "pairs":
            return heard, heard, block.positive_count + block.negative_count
        if block.totals is None:
            raise UsageError("signal_to_noise: average='kinds' can't be mined, for it counts all pairs; use 'pairs'.")
        positives, negatives = (heard / total.clamp_min(1) for total in block.totals)
        return positives, negatives, None


def signal_to_noise(
    embeddings: Embeddings,
    labels: Labels,
    *,
    positive_margin: float = 0.0,
    negative_margin: float = 1.0,
    average: Average = "kinds",
    penalty: float = 0.005,
) -> Scalar:
    """Pull and push pairs by how much noise the other item is on the signal of the anchor.

    An embedding's values are samples of a signal: for anchor a and other item b, d = var(a - b) / var(a) over the
    axes, ≥ 0, and about 2 for unrelated items. Pairs of one class cost max(0, d - positive_margin), others max(0,
    negative_margin - d). The result is the mean over positive pairs plus the mean over negative ones
    (`average="pairs"`: the mean over all), plus `penalty` · mean |Σ a|, which draws each embedding's mean to zero, ≥ 0.
    d ignores the length of embeddings and is not symmetric; the penalty is neither, so don't normalise. A constant
    embedding, or one with less than a millionth of the batch's mean variance, has no signal: as an anchor it costs 0.

    Yuan et al., CVPR 2019, contrastive form with its zero-mean regulariser. The defaults are widely used
    ones, the penalty that of a public reference implementation. Not invariant to a rotation of embeddings. Costs
    O(batch²) time, O(batch) memory.
    """
    check_range("signal_to_noise", "penalty", penalty, low=0)
    return _around(SignalToNoiseRule(positive_margin, negative_margin, average), embeddings, labels, penalty)


def _around(rule: Rule, embeddings: Embeddings, labels: Labels, penalty: float) -> Scalar:
    """The sweep with the signal of each anchor, and the penalty."""
    check_batch("signal_to_noise", embeddings, labels)
    signals, signal = _signals(full(embeddings), smallest_norm(embeddings.dtype))
    value = sweep(rule, signals, labels, per_row=(signal,))
    return value + penalty * full(embeddings).sum(dim=1).abs().sum() / max(1, len(labels)) if penalty else value


def _signals(x: Embeddings, tiny: float) -> tuple[Tensor, Tensor]:
    """The rows less their own means, and their squared lengths: variances up to a factor, 0 if too faint to divide by.

    All are divided by the batch's largest number, which changes no ratio but keeps squares in range.
    """
    size = torch.linalg.vector_norm(x.detach(), ord=torch.inf) if x.numel() else x.new_ones(())
    size = size.clamp_min(tiny)
    x = x / size
    x = x - x.sum(dim=1, keepdim=True) / max(1, x.shape[1])
    signal = x.square().sum(dim=1)
    floor = torch.maximum(FAINT * signal.detach().sum() / max(1, len(x)), (tiny / size).square())
    return x, torch.where(signal > floor, signal, 0)


class SignalToNoise(nn.Module):
    """Signal-to-noise loss with its options remembered; see `signal_to_noise`."""

    def __init__(
        self,
        *,
        positive_margin: float = 0.0,
        negative_margin: float = 1.0,
        average: Average = "kinds",
        penalty: float = 0.005,
    ) -> None:
        super().__init__()
        check_range("signal_to_noise", "penalty", penalty, low=0)
        self.rule, self.penalty = SignalToNoiseRule(positive_margin, negative_margin, average), penalty

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return _around(self.rule, embeddings, labels, self.penalty)

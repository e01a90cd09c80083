"""Normalised softmax: classification by cosine to a learned vector per class, sharpened by a temperature."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.losses._rule import Pull, Tally
from accord.losses._shared import class_table
from accord.losses._tables import sweep_table
from accord.losses._target_softmax import own_score, target_costs, target_pull
from accord.mining import Block, Measure
from accord.types import Embeddings, Labels, Scalar


@dataclass(frozen=True)
class NormalisedSoftmaxRule:
    """What one item costs against all classes; see `normalised_softmax`."""

    temperature: float = 0.05
    name = "normalised_softmax"
    measure: Measure = "score"
    unit = True

    def __post_init__(self) -> None:
        check_range(self.name, "temperature", self.temperature, low=0, open_low=True)

    def costs(self, block: Block) -> Tally:
        """The cross-entropy of cosines by temperature."""
        scale = 1 / self.temperature
        return target_costs(scale * own_score(block), block.negatives, scale)

    def pull(self, block: Block) -> Pull:
        """By hand: a softmax."""
        scale = 1 / self.temperature
        return target_pull(block, scale * own_score(block), scale, block.negatives, scale)


def normalised_softmax(
    embeddings: Embeddings, labels: Labels, weight: Float[Tensor, "class dim"], *, temperature: float = 0.05
) -> Scalar:
    """Classify each item by its cosine to a vector per class: the cross-entropy of cos / temperature.

    The mean over the batch, ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Zhai & Wu, "Classification is a strong baseline for deep metric learning", BMVC 2019; temperature 0.05 is the widely
    used default. Their layer normalisation belongs to the network's head, and their sub-sampling of classes to the
    sampler.
    """
    return sweep_table(NormalisedSoftmaxRule(temperature), embeddings, labels, weight)


class NormalisedSoftmax(nn.Module):
    """Normalised softmax with a learned vector per class, `weight`, of about unit length; see `normalised_softmax`."""

    def __init__(
        self, dim: int, classes: int, *, temperature: float = 0.05, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.rule = NormalisedSoftmaxRule(temperature)
        check_count("normalised_softmax", "dim", dim)
        self.weight = class_table("normalised_softmax", dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return sweep_table(self.rule, embeddings, labels, self.weight)

"""Normalised softmax: classification by cosine to a learned vector per class, sharpened by a temperature."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_batch, check_classes, check_count, check_range
from accord.errors import UsageError
from accord.geometry import cosine
from accord.losses._shared import class_table, mean
from accord.types import Embeddings, Labels, Scalar


def normalised_softmax(
    embeddings: Embeddings, labels: Labels, weight: Float[Tensor, "class dim"], *, temperature: float = 0.05
) -> Scalar:
    """Classify each item by its cosine to a vector per class: the cross-entropy of cos / temperature.

    The mean over the batch, ≥ 0; an empty batch costs zero. Labels are class numbers from 0.

    Zhai & Wu, "Classification is a strong baseline for deep metric learning", BMVC 2019, temperature 0.05. Their layer
    normalisation belongs to the network's head, and their sub-sampling of classes to the sampler.
    """
    check_batch("normalised_softmax", embeddings, labels)
    check_range("normalised_softmax", "temperature", temperature, low=0, open_low=True)
    if len(weight) < 2:
        raise UsageError(f"normalised_softmax: needs the weights of at least 2 classes, not {len(weight)}.")
    check_classes("normalised_softmax", labels, len(weight))
    logits = cosine(embeddings, weight) / temperature
    own = labels[:, None] == torch.arange(len(weight), device=labels.device)
    return mean(logits.logsumexp(dim=1) - torch.where(own, logits, 0).sum(dim=1))


class NormalisedSoftmax(nn.Module):
    """Normalised softmax with a learned vector per class, `weight`, of about unit length; see `normalised_softmax`."""

    def __init__(
        self, dim: int, classes: int, *, temperature: float = 0.05, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        check_range("normalised_softmax", "temperature", temperature, low=0, open_low=True)
        check_count("normalised_softmax", "dim", dim)
        self.temperature = temperature
        self.weight = class_table("normalised_softmax", dim=dim, classes=classes, spread=dim**-0.5, generator=generator)

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        return normalised_softmax(embeddings, labels, self.weight, temperature=self.temperature)

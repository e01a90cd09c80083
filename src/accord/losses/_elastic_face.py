"""ElasticFace: ArcFace or CosFace with a margin drawn anew for every item, which leaves classes room to differ."""

from math import pi

import torch
from jaxtyping import Float
from torch import Tensor, nn

from accord.checks import check_count, check_range
from accord.geometry import full
from accord.losses._own_margins import MarginOn, OwnMarginsRule
from accord.losses._shared import class_table
from accord.losses._tables import check_table, sweep_table
from accord.types import Embeddings, Labels, Scalar

NAME = "elastic_face"


def elastic_face(
    embeddings: Embeddings,
    labels: Labels,
    weight: Float[Tensor, "class dim"],
    *,
    margin: float = 0.5,
    deviation: float = 0.0125,
    scale: float = 64.0,
    margin_on: MarginOn = "angle",
    generator: torch.Generator | None = None,
) -> Scalar:
    """Classify by angle, or by cosine, with a margin of about `margin` that differs from item to item by chance.

    Each item draws its margin m from N(margin, deviation²). The own logit is scale · cos(angle + m), or with
    `margin_on="cosine"` scale · (cos angle - m), the others scale · cos angle. The cross-entropy's mean over the batch
    is returned, ≥ 0; an empty batch costs zero. Margins are drawn from `generator`; without one nothing is drawn, and
    all are equal to `margin`. Labels are class numbers from 0.

    Boutros et al., "ElasticFace", CVPR workshops 2022: ElasticFace-Arc, and -Cos, for which margins around 0.35 are
    usual; widely used defaults. Without the variant that hands larger margins to harder items. Where angle + m > π
    the own logit is as in `arc_face`.
    """
    _check(margin, deviation)
    rule = OwnMarginsRule(NAME, scale, margin_on)
    return _elastic(rule, embeddings, labels, weight, margin, deviation, generator)


class ElasticFace(nn.Module):
    """ElasticFace with a learned vector per class, `weight`, of about unit length; see `elastic_face`.

    Margins are drawn while training, by a generator of its own that is part of `state_dict()`, so that a resumed run
    draws what an uninterrupted one would have; an evaluating module uses `margin` itself.
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        *,
        margin: float = 0.5,
        deviation: float = 0.0125,
        scale: float = 64.0,
        margin_on: MarginOn = "angle",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check(margin, deviation)
        check_count(NAME, "dim", dim)
        self.rule = OwnMarginsRule(NAME, scale, margin_on)
        self.margin, self.deviation = margin, deviation
        self.weight = class_table(NAME, dim=dim, classes=classes, spread=dim**-0.5, generator=generator)
        source = generator or torch.Generator().manual_seed(0)
        seed = torch.randint(2**62, (1,), generator=source, device=source.device)
        self.draws = torch.Generator().manual_seed(int(seed))

    def forward(self, embeddings: Embeddings, labels: Labels) -> Scalar:
        """The loss of one batch."""
        draws = self.draws if self.training else None
        return _elastic(self.rule, embeddings, labels, self.weight, self.margin, self.deviation, draws)

    def get_extra_state(self) -> Tensor:
        """Where the generator of margins stands. Not a buffer: it stays in main memory, whatever the device."""
        return self.draws.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Put the generator of margins there."""
        self.draws.set_state(state.cpu())


def _check(margin: float, deviation: float) -> None:
    check_range(NAME, "margin", margin, low=0, high=pi / 2)
    check_range(NAME, "deviation", deviation, low=0)


def _elastic(
    rule: OwnMarginsRule,
    embeddings: Embeddings,
    labels: Labels,
    weight: Tensor,
    margin: float,
    deviation: float,
    generator: torch.Generator | None,
) -> Scalar:
    # here and not in the sweep: a batch that is refused draws no margins
    check_table(NAME, embeddings, labels, weight)
    x = full(embeddings)
    margins = torch.full((len(x),), margin, dtype=x.dtype, device=x.device)
    if generator is not None:
        drawn = torch.randn(len(x), generator=generator, device=generator.device)
        margins = margins + deviation * drawn.to(x.device, x.dtype, non_blocking=True)
    return sweep_table(rule, embeddings, labels, weight, per_row=(margins,))

"""Losses that weigh pairs, as cases of the shared promises."""

from accord.losses import BinomialDeviance, Circle, Margin, Sigmoid, SignalToNoise, TupletMargin
from conformance import CLASSES, Case

PAIRS = {"empty_without_positives": False, "empty_without_negatives": False}
DETACHED = "weights count as constants in the gradient, as in the paper"
NOISE = {**PAIRS, "rotation": False}

CASES = (
    Case("circle", Circle, gradcheck=DETACHED, differentiable_twice=False),
    Case("circle differentiated", lambda: Circle(detach=False)),
    Case("circle differentiated for faces", lambda: Circle(detach=False, margin=0.25, gamma=256.0)),
    Case("margin", Margin, **PAIRS),
    Case("margin by triplets", lambda: Margin(average="triplets")),
    Case("margin per class", lambda: Margin(classes=CLASSES, nu=0.1), learns_classes=True, **PAIRS),
    Case("binomial deviance", BinomialDeviance),
    Case("binomial deviance steep", lambda: BinomialDeviance(alpha=50.0, margin=0.3, negative_cost=2.0)),
    Case("signal to noise", lambda: SignalToNoise(negative_margin=2.0), scaling=False, **NOISE),
    Case("signal to noise by pairs", lambda: SignalToNoise(average="pairs", penalty=0.0, positive_margin=0.5), **NOISE),
    Case("tuplet margin", TupletMargin),
    Case("tuplet margin with variance", lambda: TupletMargin(variance=0.5, margin_degrees=10.0), **PAIRS),
    Case("sigmoid", Sigmoid, **PAIRS),
    Case("sigmoid steep", lambda: Sigmoid(scale=64.0, bias=-30.0), **PAIRS),
)

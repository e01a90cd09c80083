"""Regularisers as cases of the shared promises."""

from accord.losses import CentreDecorrelation, EmbeddingNorm, Koleo, SpreadOut, VarianceCovariance
from conformance import Case

ALWAYS = {"empty_without_positives": False, "empty_without_negatives": False}
AXES = {**ALWAYS, "scaling": False, "rotation": False, "translation": True}
CENTRES = {"empty_without_positives": False}

CASES = (
    Case("embedding norm", EmbeddingNorm, scaling=False, **ALWAYS),
    Case("koleo", Koleo, **ALWAYS),
    Case("centre decorrelation", CentreDecorrelation, **CENTRES),
    Case("centre decorrelation over all", lambda: CentreDecorrelation(over="all"), **CENTRES),
    Case("variance and covariance", VarianceCovariance, **AXES),
    Case("covariance alone", lambda: VarianceCovariance(variance=0.0, target=0.5), **AXES),
    Case("spread out", SpreadOut, empty_without_positives=False),
)

"""Losses of the classification family as cases of the shared promises.

Those that keep statistics are examined as they evaluate, with their state frozen; that they train is tested beside
their formulas.
"""

from torch import nn

from accord.losses import (
    AdaCos,
    AdaFace,
    Centre,
    CircleClasses,
    CurricularFace,
    DynamicMarginArcFace,
    ElasticFace,
    LargeMarginSoftmax,
    MagFace,
    P2SGrad,
    SmoothedCrossEntropy,
    SphereFace,
)
from conformance import CLASSES, DIM, Case

TABLE = {"empty_without_positives": False, "empty_without_negatives": False, "learns_classes": True}
LENGTHS = {**TABLE, "scaling": False}
DETACHED = "the paces count as constants in the gradient, as in the paper"
MEASURED = "an item's quality is measured, and nothing flows into it"


def frozen(objective: nn.Module) -> nn.Module:
    return objective.eval()


CASES = (
    Case("smoothed cross-entropy", lambda: SmoothedCrossEntropy(DIM, CLASSES), **LENGTHS),
    Case("smoothed, others", lambda: SmoothedCrossEntropy(DIM, CLASSES, spread="others"), **LENGTHS),
    Case("unsmoothed cross-entropy", lambda: SmoothedCrossEntropy(DIM, CLASSES, smoothing=0.0), **LENGTHS),
    Case("centre", lambda: Centre(DIM, CLASSES), translation=True, **LENGTHS),
    Case("sphere face", lambda: SphereFace(DIM, CLASSES), **LENGTHS),
    Case("sphere face annealed", lambda: SphereFace(DIM, CLASSES, margin=3, annealing=5.0), **LENGTHS),
    Case("large-margin softmax", lambda: LargeMarginSoftmax(DIM, CLASSES), **LENGTHS),
    Case("large-margin softmax annealed", lambda: LargeMarginSoftmax(DIM, CLASSES, margin=2, annealing=1.0), **LENGTHS),
    Case("ada cos", lambda: frozen(AdaCos(DIM, CLASSES)), **TABLE),
    Case("ada cos fixed", lambda: AdaCos(DIM, CLASSES, dynamic=False), **TABLE),
    Case("ada face", lambda: frozen(AdaFace(DIM, CLASSES)), gradcheck=MEASURED, **LENGTHS),
    Case("ada face whatever the quality", lambda: frozen(AdaFace(DIM, CLASSES, h=0.0)), **TABLE),
    Case("curricular face", lambda: frozen(CurricularFace(DIM, CLASSES)), **TABLE),
    Case("mag face", lambda: MagFace(DIM, CLASSES, shortest=0.5, longest=2.0), **LENGTHS),
    Case("elastic face", lambda: frozen(ElasticFace(DIM, CLASSES)), **TABLE),
    Case("elastic face on cosines", lambda: frozen(ElasticFace(DIM, CLASSES, margin_on="cosine")), **TABLE),
    Case("dynamic-margin arc face", lambda: DynamicMarginArcFace(DIM, CLASSES, counts=[1, 2, 5, 9, 9]), **TABLE),
    Case("dynamic-margin arc face, counting", lambda: frozen(DynamicMarginArcFace(DIM, CLASSES)), **TABLE),
    Case(
        "circle of classes",
        lambda: CircleClasses(DIM, CLASSES, gamma=10.0),
        gradcheck=DETACHED,
        differentiable_twice=False,
        **TABLE,
    ),
    Case("p2s grad", lambda: P2SGrad(DIM, CLASSES), **TABLE),
)

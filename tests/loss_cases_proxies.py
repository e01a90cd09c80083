"""Losses against learned proxies and class vectors, in every configuration worth a row, for the shared promises."""

from accord.losses import (
    ArcFace,
    CosFace,
    NormalisedSoftmax,
    ProxyAnchor,
    ProxyNCA,
    ProxyNCAPlusPlus,
    ProxyTriplet,
    SoftTriple,
    SubCentreArcFace,
)
from conformance import CLASSES, DIM, Case

TABLE = {"empty_without_positives": False, "empty_without_negatives": False, "learns_classes": True}

CASES: tuple[Case, ...] = (
    Case("proxy-nca", lambda: ProxyNCA(DIM, CLASSES), **TABLE),
    Case("proxy-nca included", lambda: ProxyNCA(DIM, CLASSES, positive="included", scale=2.0), **TABLE),
    Case("proxy-nca++", lambda: ProxyNCAPlusPlus(DIM, CLASSES), **TABLE),
    Case("proxy-triplet", lambda: ProxyTriplet(DIM, CLASSES), **TABLE),
    Case("proxy-anchor", lambda: ProxyAnchor(DIM, CLASSES), **TABLE),
    Case("soft-triple", lambda: SoftTriple(DIM, CLASSES), **TABLE),
    Case("soft-triple, three centres", lambda: SoftTriple(DIM, CLASSES, centres=3, tau=0.0, gamma=1.0), **TABLE),
    Case("soft-triple, one centre", lambda: SoftTriple(DIM, CLASSES, centres=1), **TABLE),
    Case("normalised softmax", lambda: NormalisedSoftmax(DIM, CLASSES), **TABLE),
    Case("cos-face", lambda: CosFace(DIM, CLASSES), **TABLE),
    Case("arc-face", lambda: ArcFace(DIM, CLASSES), **TABLE),
    Case("arc-face, gentle", lambda: ArcFace(DIM, CLASSES, margin=0.2, scale=8.0), **TABLE),
    Case("sub-centre arc-face", lambda: SubCentreArcFace(DIM, CLASSES), **TABLE),
    Case("sub-centre arc-face, one centre", lambda: SubCentreArcFace(DIM, CLASSES, centres=1), **TABLE),
)

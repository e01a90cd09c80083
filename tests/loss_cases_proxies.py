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

DYNAMIC = {"learns_classes": True}

CASES: tuple[Case, ...] = (
    Case("proxy-nca", lambda: ProxyNCA(DIM, CLASSES), **TABLE),
    Case("proxy-nca included", lambda: ProxyNCA(DIM, CLASSES, positive="included", scale=2.0), **TABLE),
    Case(
        "proxy-nca smoothed", lambda: ProxyNCA(DIM, CLASSES, positive="included", scale=3**0.5, smoothing=0.1), **TABLE
    ),
    Case(
        "proxy-nca smoothed, two each",
        lambda: ProxyNCA(DIM, CLASSES, positive="included", smoothing=0.3, proxies_per_class=2),
        **TABLE,
    ),
    Case("proxy-nca++", lambda: ProxyNCAPlusPlus(DIM, CLASSES), **TABLE),
    Case("proxy-triplet", lambda: ProxyTriplet(DIM, CLASSES), **TABLE),
    Case("proxy-nca, two each", lambda: ProxyNCA(DIM, CLASSES, proxies_per_class=2, scale=1.0), **TABLE),
    Case("proxy-nca, shared", lambda: ProxyNCA(DIM, CLASSES, proxies_per_class=0.5), **TABLE),
    Case("proxy-nca, dynamic", lambda: ProxyNCA(DIM, CLASSES, assignment="dynamic", proxies_per_class=3), **DYNAMIC),
    Case(
        "proxy-nca included, dynamic",
        lambda: ProxyNCA(DIM, CLASSES, assignment="dynamic", positive="included", proxies_per_class=0.6, init="sphere"),
        **DYNAMIC,
    ),
    Case("proxy-nca++, two each", lambda: ProxyNCAPlusPlus(DIM, CLASSES, proxies_per_class=2), **TABLE),
    Case("proxy-nca++, dynamic", lambda: ProxyNCAPlusPlus(DIM, CLASSES, assignment="dynamic"), **DYNAMIC),
    Case("proxy-triplet, two each", lambda: ProxyTriplet(DIM, CLASSES, proxies_per_class=2), **TABLE),
    Case("proxy-triplet, dynamic", lambda: ProxyTriplet(DIM, CLASSES, assignment="dynamic"), **DYNAMIC),
    Case("proxy-anchor", lambda: ProxyAnchor(DIM, CLASSES), **TABLE),
    Case("proxy-anchor, shared", lambda: ProxyAnchor(DIM, CLASSES, proxies_per_class=0.5), **TABLE),
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

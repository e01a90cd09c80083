"""Every loss, in every configuration worth a row, keeps the shared promises."""

import pytest

from accord.losses import (
    Contrastive,
    MultiSimilarity,
    NormalisedSoftmax,
    NPair,
    ProxyNCA,
    SmoothedCrossEntropy,
    TripletMargin,
)
from accord.recipes.catalog import LOSSES
from conformance import CLASSES, DIM, PROMISES, Case

PAIRS = {"empty_without_positives": False, "empty_without_negatives": False}
TABLE = {**PAIRS, "learns_classes": True}
N_PAIR = {**PAIRS, "scaling": False, "row_order": False, "refuses_without_positives": True}

CASES = (
    Case("contrastive", lambda: Contrastive(margin=1.5), **PAIRS),
    Case("contrastive linear", lambda: Contrastive(hinge="linear", margin=1.5), **PAIRS),
    Case("contrastive by kinds", lambda: Contrastive(average="kinds", margin=1.5), **PAIRS),
    Case("triplet semi-hard", TripletMargin),
    Case("triplet semi-hard soft", lambda: TripletMargin(margin="soft", squared=False)),
    Case("triplet batch-hard", lambda: TripletMargin(mining="batch_hard")),
    Case(
        "triplet batch-hard soft, as Hermans",
        lambda: TripletMargin(mining="batch_hard", margin="soft", squared=False, normalised=False),
        scaling=False,
    ),
    Case("triplet all", lambda: TripletMargin(mining="all", squared=False)),
    Case("triplet all violating", lambda: TripletMargin(mining="all", violating_only=True)),
    Case("n-pair", NPair, **N_PAIR),
    Case("n-pair symmetric", lambda: NPair(symmetric=True), **N_PAIR),
    Case("proxy-nca", lambda: ProxyNCA(DIM, CLASSES), **TABLE),
    Case("proxy-nca included", lambda: ProxyNCA(DIM, CLASSES, positive="included", scale=2.0), **TABLE),
    Case("smoothed cross-entropy", lambda: SmoothedCrossEntropy(DIM, CLASSES), scaling=False, **TABLE),
    Case("smoothed, others", lambda: SmoothedCrossEntropy(DIM, CLASSES, spread="others"), scaling=False, **TABLE),
    Case("multi-similarity", MultiSimilarity),
    Case("multi-similarity unmined", lambda: MultiSimilarity(epsilon=None, beta=40.0)),
    Case("normalised softmax", lambda: NormalisedSoftmax(DIM, CLASSES), **TABLE),
)


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_keeps_the_shared_promise(case: Case, promise: str) -> None:
    PROMISES[promise](case)


def test_every_loss_of_the_catalogue_is_a_case() -> None:
    covered = {type(case.make()).__name__ for case in CASES}
    assert covered >= {info.path.rpartition(".")[2] for info in LOSSES.values()}

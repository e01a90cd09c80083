"""Every loss, in every configuration worth a row, keeps the shared promises."""

from dataclasses import replace

import pytest

import loss_cases_classes
import loss_cases_lists
import loss_cases_pairs
import loss_cases_proxies
import loss_cases_regularisers
import loss_cases_tuples
import loss_cases_weighted
from accord.recipes.catalog.losses import LOSSES
from conformance import PROMISES, Case

CASES = (
    *loss_cases_pairs.CASES,
    *loss_cases_tuples.CASES,
    *loss_cases_weighted.CASES,
    *loss_cases_lists.CASES,
    *loss_cases_proxies.CASES,
    *loss_cases_classes.CASES,
    *loss_cases_regularisers.CASES,
)

FIRST = {type(case.make()): case.name for case in reversed(CASES)}.values()  # of each loss; it gets the most batches


@pytest.mark.parametrize("promise", PROMISES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_keeps_the_shared_promise(case: Case, promise: str) -> None:
    PROMISES[promise](replace(case, generated=500) if case.name in FIRST else case)


def test_every_loss_of_the_catalogue_is_a_case() -> None:
    covered = {type(case.make()).__name__ for case in CASES}
    assert covered >= {info.path.rpartition(".")[2] for info in LOSSES.values()}


def test_names_of_cases_tell_them_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)

"""Every loss, in every configuration worth a row, keeps the shared promises; the costly ones are in the file beside."""

import pytest

from accord.recipes.catalog.losses import LOSSES
from conformance import COSTLY, PROMISES, Case
from loss_cases import CASES


@pytest.mark.parametrize("promise", sorted(PROMISES.keys() - set(COSTLY)))
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_keeps_the_shared_promise(case: Case, promise: str) -> None:
    PROMISES[promise](case)


def test_every_loss_of_the_catalogue_is_a_case() -> None:
    covered = {type(case.make()).__name__ for case in CASES}
    assert covered >= {info.path.rpartition(".")[2] for info in LOSSES.values()}


def test_names_of_cases_tell_them_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES)

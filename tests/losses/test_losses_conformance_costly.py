"""Every loss keeps the promises that take hundreds of calls; apart, as counting lines would take as long again."""

from dataclasses import replace

import pytest

from conformance import COSTLY, PROMISES, Case
from loss_cases import CASES

FIRST = {type(case.make()): case.name for case in reversed(CASES)}.values()  # of each loss; it gets the most batches


@pytest.mark.parametrize("promise", COSTLY)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_keeps_the_shared_promise(case: Case, promise: str) -> None:
    PROMISES[promise](replace(case, generated=500) if case.name in FIRST else case)

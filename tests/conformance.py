"""The promises every loss keeps, for tests: drive them with a table of cases.

A case says how to make a loss for DIM-dimensional embeddings of CLASSES classes and what it declares about itself.
Each promise is a function of a case; `PROMISES` lists them by name. `pytest.mark.parametrize` does the rest.
The promises themselves are those of `accord.losses.check_loss`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from accord.losses import _promises, _subject
from accord.losses._subject import NotApplicable, Subject, close, generator

DIM, CLASSES, ITEMS = 6, 5, 15

__all__ = [
    "CLASSES",
    "COMPILED",
    "DIM",
    "ITEMS",
    "PROMISES",
    "Case",
    "batch",
    "close",
    "generator",
    "run",
    "without_shape_checks",
]


@dataclass(frozen=True)
class Case:
    """One loss in one configuration, and what it declares."""

    name: str
    make: Callable[[], nn.Module]
    generated: int = 100  # batches drawn to hurt
    scaling: bool = True  # the value ignores the length of embeddings
    rotation: bool = True  # the value ignores a common rotation of embeddings and learned classes
    row_order: bool = True  # the value ignores the order of rows; otherwise only the order of classes
    learns_classes: bool = False  # has a parameter per class, so labels have a range
    empty_without_positives: bool = True  # all labels different: nothing to compare
    empty_without_negatives: bool = True  # all labels equal: nothing to compare
    refuses_without_positives: bool = False
    translation: bool | None = None  # the value ignores a common shift; None: nothing is declared
    stateful: bool = False  # a value depends on the batches before
    gradcheck: str = ""  # why the gradient is not that of the value (weights detached by the paper, say)
    differentiable_twice: bool = True
    exempt: Mapping[str, str] = field(default_factory=dict)  # promise: why it is not kept; it must really fail

    @property
    def exemptions(self) -> dict[str, str]:
        """Promises that must fail, with the reason."""
        found = dict(self.exempt)
        if self.gradcheck:
            found["has_the_gradient_of_its_value"] = self.gradcheck
        if not self.differentiable_twice:
            found["has_a_second_derivative"] = self.gradcheck or "not differentiable twice"
        return found

    @property
    def subject(self) -> Subject:
        """What `accord.losses` examines."""
        known = {part.name for part in fields(Subject)} & {part.name for part in fields(Case)}
        declared = {name: getattr(self, name) for name in known}
        return Subject(**declared, dim=DIM, classes=CLASSES, ours=True)


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Unit-size random embeddings, three items of each class, classes interleaved."""
    return Subject("batch", nn.Identity, DIM, CLASSES).batch(seed, dtype)


def run(case: Case, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of a fresh loss; both must be finite."""
    return _subject.run(case.subject, embeddings, labels)


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """Turn the tests' annotation checks off: our own doorway answers, and a call costs half."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


MISFITS = ("refuses_labels_of_another_kind", "takes_or_refuses_lists_and_arrays", "takes_every_integer_label")
COSTLY = ("stays_finite_on_any_batch", "has_the_gradient_of_its_value")  # hundreds of calls; all others check shapes


def _for_cases(name: str, promise: _promises.Promise) -> Callable[[Case], None]:
    def holds(case: Case) -> None:
        if reason := case.exemptions.get(name):
            with pytest.raises(Exception):  # noqa: B017, PT011
                promise(case.subject)
            assert reason
            return
        try:
            promise(case.subject)
        except NotApplicable:
            return

    def holds_unchecked(case: Case) -> None:
        with without_shape_checks():
            holds(case)

    return holds_unchecked if name in (*MISFITS, *COSTLY) else holds


PROMISES = {name: _for_cases(name, promise) for name, promise in _promises.PROMISES.items()}
COMPILED = {name: _for_cases(name, promise) for name, promise in _promises.COMPILED.items()}

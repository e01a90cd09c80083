"""A loss under examination: how to make it afresh, what is known of it, and what one evaluation of it yields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from accord.errors import AccordError

Objective = Callable[[Tensor, Tensor], Tensor]
ITEMS = 15
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Broken(AssertionError):  # noqa: N818
    """A promise that is not kept, with what was seen; `facts` go into the certificate all the same."""

    def __init__(self, detail: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.facts = dict(facts or {})


class NotApplicable(Exception):  # noqa: N818
    """A promise that says nothing about this loss."""


class Kept(NamedTuple):
    """A promise that is kept, with what was seen."""

    detail: str = ""
    facts: Mapping[str, Any] = {}


class Outcome(NamedTuple):
    """One evaluation: the value, and the gradient by the embeddings."""

    value: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Subject:
    """A loss with what is known of it. Where a declaration is None nothing is asserted, only found out.

    `make` gives a fresh objective of the same first state. `ours` holds it to more than others can know: our messages,
    our dtypes, and one value from the row engine, plain autograd and a compiled graph.
    """

    name: str
    make: Callable[[], Objective]
    dim: int = 6
    classes: int = 5
    ours: bool = False
    generated: int = 500  # batches drawn to hurt
    learns_classes: bool = False
    stateful: bool = False  # a value depends on the batches before
    dtypes: tuple[torch.dtype, ...] = DTYPES  # of embeddings it takes; the others are complained of once
    scaling: bool | None = None  # the value ignores the length of embeddings
    rotation: bool | None = None  # … a common rotation of embeddings and learned classes
    translation: bool | None = None  # … a common shift of them
    row_order: bool | None = None  # … the order of rows; otherwise only the order of classes
    empty_without_positives: bool | None = None  # costs nothing when all labels differ
    empty_without_negatives: bool | None = None  # costs nothing when all labels are equal
    refuses_without_positives: bool | None = None

    def fresh(self, dtype: torch.dtype = torch.float64) -> Objective:
        """A new objective, its parameters in double precision for double embeddings and in single for all others."""
        objective = self.make()
        if isinstance(objective, nn.Module):
            return objective.to(torch.float64 if dtype == torch.float64 else torch.float32)
        return objective

    def batch(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Unit-size random embeddings, three items each of up to five classes, classes interleaved."""
        embeddings = torch.randn(ITEMS, self.dim, generator=generator(seed), dtype=torch.float64) / self.dim**0.5
        return embeddings.to(dtype).requires_grad_(), torch.arange(ITEMS) % min(self.classes, 5)

    def class_vectors(self, objective: Objective) -> Tensor | None:
        """A learned (class, dim) table of the objective, if it has one that is easily told."""
        for parameter in parameters(objective).values():
            if (table := self.as_table(parameter)) is not None:
                return table
        return None

    def as_table(self, parameter: Tensor) -> Tensor | None:
        """A learned tensor as (row, dim), if it has an axis of embeddings and one other."""
        if parameter.ndim != 2 or self.dim not in parameter.shape:
            return None
        return parameter.detach() if parameter.shape[1] == self.dim else parameter.detach().T


def generator(seed: int = 0) -> torch.Generator:
    """A source of random numbers of one's own."""
    return torch.Generator().manual_seed(seed)


def parameters(objective: Objective) -> dict[str, nn.Parameter]:
    """What the objective learns, by name."""
    return dict(objective.named_parameters()) if isinstance(objective, nn.Module) else {}


def run(subject: Subject, embeddings: Tensor, labels: Tensor, objective: Objective | None = None) -> Outcome:
    """Value and gradient of a fresh objective; whatever is not a finite, connected scalar breaks the promise."""
    objective = objective or subject.fresh(embeddings.dtype)
    embeddings = embeddings.detach().requires_grad_()
    torch.manual_seed(0)
    value = objective(embeddings, labels)
    _sound(value)
    value.backward()  # type: ignore[no-untyped-call]
    if embeddings.grad is None:
        raise Broken("the value has no gradient by the embeddings")
    _finite("the gradient of the embeddings", embeddings.grad)
    for name, parameter in parameters(objective).items():
        if parameter.grad is not None:
            _finite(f"the gradient of {name}", parameter.grad)
        elif subject.ours:
            raise Broken(f"{name} gets no gradient")
    return Outcome(value.detach(), embeddings.grad)


def _sound(value: object) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise Broken(f"the value is no scalar tensor but {type(value).__name__}")
    _finite("the value", value)
    if not value.requires_grad:
        raise Broken("the value carries no gradient")


def _finite(what: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise Broken(f"{what} is not finite")


def close(left: Tensor, right: Tensor, what: str = "value", tolerance: float = 1e-9) -> None:
    """Both within `tolerance`, absolute and relative."""
    if left.shape != right.shape:
        raise Broken(f"{what}: shape {tuple(left.shape)} instead of {tuple(right.shape)}")
    if not torch.allclose(left.double(), right.double(), rtol=tolerance, atol=tolerance):
        if left.numel() == 1:
            raise Broken(f"{what}: {left.item():.9g} instead of {right.item():.9g}")
        raise Broken(f"{what} differs by up to {(left.double() - right.double()).abs().max().item():.2g}")


def need(holds: bool, detail: str) -> None:
    """Break the promise unless it holds."""
    if not holds:
        raise Broken(detail)


def refused(
    call: Callable[[], object], words: tuple[str, ...] = (), *, ours: bool = False, what: str = "a wrong batch"
) -> None:
    """The call must end with an error that a user can act on (ValueError, TypeError or ArithmeticError).

    Its message must hold all `words`; with `ours` it must be one of accord's errors.
    """
    try:
        call()
    except (AccordError, ValueError, TypeError, ArithmeticError) as error:
        need(not ours or isinstance(error, AccordError), f"{what} ends in {type(error).__name__}: {headline(error)}")
        missing = [word for word in words if word not in str(error)]
        need(not missing, f"refuses {what} without naming {', '.join(missing)}: {headline(error)}")
    except Exception as error:
        _unnamed(what, error)
    else:
        raise Broken(f"takes {what} without a word")


def _unnamed(what: str, error: Exception) -> NoReturn:
    raise Broken(f"{what} ends in {type(error).__name__}: {headline(error)}") from error


def headline(error: BaseException) -> str:
    """The first line of an error's message, shortened."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0][:160]


def dtype_name(dtype: torch.dtype) -> str:
    """How people call a dtype."""
    return str(dtype).removeprefix("torch.")

"""Examines any loss, ours or another's, and writes its certificate: which promises it keeps, what it ignores."""

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from accord.errors import PromiseError, UnknownNameError, UsageError
from accord.losses._invariances import discover
from accord.losses._promises import COMPILED, DECLARED, PROMISES, Promise, group_of
from accord.losses._subject import Broken, Kept, NotApplicable, Objective, Subject, headline, parameters, run

Verdict = Literal["kept", "broken", "exempt", "not applicable"]
MARKS: dict[str, str] = {"kept": "✓", "broken": "✗", "exempt": "–", "not applicable": " "}


class Row(NamedTuple):
    """One promise and what became of it."""

    promise: str
    group: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class Certificate:
    """What an examination of a loss found; `str()` is a table, `as_json()` plain data.

    `facts` says what the loss ignores (`invariances`), the dtypes it takes, how many of the generated batches end
    finite, and whether it learns classes or remembers batches.
    """

    name: str
    rows: tuple[Row, ...]
    facts: Mapping[str, Any]

    @property
    def broken(self) -> tuple[Row, ...]:
        """The promises that are not kept."""
        return tuple(row for row in self.rows if row.verdict == "broken")

    @property
    def passed(self) -> bool:
        """Whether every promise is kept, exempt or not applicable."""
        return not self.broken

    def as_json(self) -> dict[str, Any]:
        """The certificate as plain data."""
        rows = [row._asdict() for row in self.rows]
        return {"name": self.name, "passed": self.passed, "facts": dict(self.facts), "promises": rows}

    def __str__(self) -> str:
        lines = [f"{self.name}: {self._sum()}"]
        for name, fact in self.facts.items():
            lines.append(f"  {name}: {', '.join(fact) or 'none' if isinstance(fact, list) else _plain(fact)}")
        width = max((len(row.promise) for row in self.rows), default=0)
        group = ""
        for row in self.rows:
            if row.group != group:
                group = row.group
                lines.append(group)
            lines.append(f"  {MARKS[row.verdict]} {row.promise.replace('_', ' '):{width}}  {_remark(row)}".rstrip())
        return "\n".join(lines)

    def _sum(self) -> str:
        verdicts = [row.verdict for row in self.rows]
        parts = [f"{verdicts.count(kind)} {kind}" for kind in MARKS if kind in verdicts]
        return f"{'passed' if self.passed else 'not passed'} ({', '.join(parts)})"


def _remark(row: Row) -> str:
    return row.detail if row.verdict in ("kept", "broken") else f"{row.verdict}: {row.detail}"


def _plain(fact: object) -> str:
    return {True: "yes", False: "no"}.get(fact, str(fact)) if isinstance(fact, bool) else str(fact)


def check_loss(
    objective: Objective,
    *,
    dim: int = 6,
    classes: int = 5,
    learns_classes: bool | None = None,
    exempt: Mapping[str, str] | None = None,
    compiled: bool = False,
    strict: bool = True,
    name: str | None = None,
    show: Callable[[str], object] | None = print,
) -> Certificate:
    """Examine any callable `(embeddings, labels) -> scalar`, ours or another's; show and return its certificate.

    Every promise is tried on tiny batches in a few seconds: right gradients of first and second order, finite values on
    500 hostile batches, all dtypes, bad labels refused by name, no waiting for a device, state that returns, and more.
    What cannot be demanded of a loss whose intent is unknown (that it ignores the length of embeddings, say) is found
    out and reported under `facts`.

    `dim` and `classes` are what the objective was made for, if it learns something; whether it has a vector per class
    is guessed from its parameters unless `learns_classes` says so. `exempt` maps promises to reasons; an exempt promise
    that is kept all the same counts as broken, so no exemption outlives its cause. `compiled` adds `torch.compile`
    (slow). With `strict` a broken promise raises PromiseError, whose `certificate` has the whole story.
    The objective is copied, never changed, and the global random state is put back.

        >>> from accord.losses import Contrastive, check_loss
        >>> check_loss(Contrastive(), show=None).passed
        True
    """
    known = [*PROMISES, *COMPILED]
    for wrong in set(exempt or {}) - set(known):
        raise UnknownNameError("promise", wrong, known)
    subject = _subject(objective, name or _name(objective), dim, classes, learns_classes)
    promises = {promise: call for promise, call in PROMISES.items() if promise not in DECLARED}
    if compiled:
        promises |= COMPILED
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        certificate = examine(subject, promises, exempt or {})
    if show is not None:
        show(str(certificate))
    if strict and not certificate.passed:
        said = "\n".join(f"  {row.promise}: {row.detail}" for row in certificate.broken)
        raise PromiseError(f"{certificate.name} breaks {len(certificate.broken)} promises:\n{said}", certificate)
    return certificate


def examine(subject: Subject, promises: Mapping[str, Promise], exempt: Mapping[str, str]) -> Certificate:
    """The certificate of a subject, whose invariances are found out first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _answers(subject)
        subject = discover(subject)
        ignores = {
            "length": subject.scaling,
            "rotation": subject.rotation,
            "translation": subject.translation,
            "row order": subject.row_order,
        }
        facts: dict[str, Any] = {"invariances": [kind for kind, found in ignores.items() if found]}
        facts |= {"learns classes": subject.learns_classes, "remembers batches": subject.stateful}
        rows = tuple(_judge(subject, promise, call, exempt.get(promise), facts) for promise, call in promises.items())
    return Certificate(subject.name, rows, facts)


def _judge(subject: Subject, name: str, promise: Promise, reason: str | None, facts: dict[str, Any]) -> Row:
    verdict: Verdict = "kept"
    try:
        kept = promise(subject) or Kept()
        detail = kept.detail
        facts |= kept.facts
    except NotApplicable as error:
        verdict, detail = "not applicable", str(error)
    except Broken as error:
        verdict, detail = "broken", str(error)
        facts |= error.facts
    except Exception as error:  # another's code may raise anything; that too is an answer
        verdict, detail = "broken", f"{type(error).__name__}: {headline(error)}"
    if reason is not None:
        verdict, detail = ("exempt", reason) if verdict == "broken" else ("broken", f"exempt ({reason}), yet {verdict}")
    return Row(name, group_of(name), verdict, detail)


def _answers(subject: Subject) -> None:
    """Refuse to examine what can't take even a usual batch: then `dim` or `classes` are wrong, most likely."""
    embeddings, labels = subject.batch()
    try:
        run(subject, embeddings, labels)
    except Broken:
        return
    except Exception as error:
        raise UsageError(
            f"check_loss: {subject.name} can't take a usual batch of {len(labels)} embeddings in float64: "
            f"{type(error).__name__}: {headline(error)}\n"
            f"If it learns something, give dim= and classes= as it was made (now {subject.dim}, {subject.classes})."
        ) from error


def _subject(objective: Objective, name: str, dim: int, classes: int, learns_classes: bool | None) -> Subject:
    if not callable(objective):
        raise UsageError(f"check_loss: a loss is called with (embeddings, labels), but {objective!r} can't be called.")
    if classes < 2 or dim < 2:
        raise UsageError(f"check_loss: dim and classes must be at least 2, not {dim} and {classes}.")
    if learns_classes is None:
        learns_classes = _has_classes(objective, dim, classes)
    made = partial(copy.deepcopy, objective) if isinstance(objective, nn.Module) else lambda: objective
    ours = _home(objective).startswith("accord.")
    return Subject(name, made, dim, classes, ours=ours, learns_classes=learns_classes)


def _has_classes(objective: Objective, dim: int, classes: int) -> bool:
    """Whether a parameter has an entry per class, or some vectors per class."""
    shapes = [tuple(parameter.shape) for parameter in parameters(objective).values()]
    if (classes,) in shapes:
        return True
    tables = [sorted(shape, key=lambda size: size != dim) for shape in shapes if len(shape) > 1 and dim in shape]
    return any(not size % classes for _, *rest in tables for size in rest)


def _home(objective: object) -> str:
    while isinstance(objective, partial):
        objective = objective.func
    plain = getattr(objective, "__module__", None)
    return f"{plain or type(objective).__module__}."


def _name(objective: object) -> str:
    while isinstance(objective, partial):
        objective = objective.func
    return str(getattr(objective, "__name__", type(objective).__name__))

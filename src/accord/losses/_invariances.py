"""What a loss ignores, found out by trying: the length, rotation, shift or order of embeddings."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from accord.losses._subject import DTYPES, Objective, Subject, close, generator, parameters, run

KINDS = ("scaling", "rotation", "translation")


def invariant(subject: Subject, kind: str) -> bool:
    """Whether the value stays when embeddings are scaled, or rotated or shifted together with learned classes."""
    embeddings, labels = subject.batch()
    objective, x = subject.fresh(), embeddings.detach()
    before = run(subject, x, labels).value
    if kind == "scaling":
        return _same(run(subject, 3 * x, labels).value, before)
    turn = torch.eye(subject.dim, dtype=x.dtype)
    shift = torch.zeros(subject.dim, dtype=x.dtype)
    if kind == "rotation":
        turn = torch.linalg.qr(torch.randn(turn.shape, generator=generator(1), dtype=x.dtype))[0]
    else:
        shift = torch.randn(shift.shape, generator=generator(1), dtype=x.dtype)
    _move_classes(subject, objective, turn, shift)
    return _same(run(subject, x @ turn + shift, labels, objective).value, before)


def _move_classes(subject: Subject, objective: Objective, turn: Tensor, shift: Tensor) -> None:
    with torch.no_grad():
        for parameter in parameters(objective).values():
            if parameter.ndim >= 2 and parameter.shape[-1] == subject.dim:
                parameter.copy_(parameter @ turn + shift)
            elif parameter.ndim == 2 and parameter.shape[0] == subject.dim:
                parameter.copy_((parameter.T @ turn + shift).T)


def _same(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left, right, rtol=1e-9, atol=1e-12)


def orders(labels: Tensor, *, rows: bool) -> list[Tensor]:
    """Three shuffles of the rows, or of the classes only, which keep the order inside each."""
    found = []
    for seed in range(3):
        source = generator(seed)
        shuffled = torch.randperm(len(labels), generator=source)
        if not rows:
            classes = torch.randperm(int(labels.max()) + 1, generator=source)
            shuffled = torch.argsort(classes[labels], stable=True)
        found.append(shuffled)
    return found


def discover(subject: Subject) -> Subject:
    """The subject with its invariances, and whether it remembers batches, found out by trying."""
    found: dict[str, Any] = {kind: _tries(subject, kind) for kind in KINDS}
    taken = tuple(dtype for dtype in DTYPES if _takes(subject, dtype))
    return replace(
        subject, **found, dtypes=taken or DTYPES, row_order=_ignores_rows(subject), stateful=_remembers(subject)
    )


def _tries(subject: Subject, kind: str) -> bool:
    try:
        return invariant(subject, kind)
    except Exception:  # whatever it is, a promise will name it
        return False


def _takes(subject: Subject, dtype: torch.dtype) -> bool:
    try:
        run(subject, *subject.batch(dtype=dtype))
    except Exception:  # a promise will name it
        return False
    return True


def _ignores_rows(subject: Subject) -> bool:
    embeddings, labels = subject.batch()
    try:
        before = run(subject, embeddings, labels).value
        for order in orders(labels, rows=True):
            close(run(subject, embeddings[order], labels[order]).value, before)
    except Exception:
        return False
    return True


def _remembers(subject: Subject) -> bool:
    objective = subject.fresh()
    (first, labels), second = subject.batch(), subject.batch(1)[0]
    try:
        before = run(subject, second, labels).value
        run(subject, first, labels, objective)
        return not _same(run(subject, second, labels, objective).value, before)
    except Exception:
        return False

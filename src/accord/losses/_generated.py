"""Batches drawn to hurt: duplicates, zeros, antipodes, class vectors, extreme lengths, odd labels."""

from typing import NamedTuple

import torch
from torch import Tensor

from accord.losses._subject import Broken, Subject, dtype_name, generator, headline, run

ROWS = ("usual", "usual", "duplicate", "zero", "antipode", "class vector", "tiny", "huge", "one-hot", "largest")
LABELS = ("balanced", "one class", "all distinct", "any", "huge")


class Generated(NamedTuple):
    """One batch, and in words what is in it."""

    embeddings: Tensor
    labels: Tensor
    words: str


def generated(subject: Subject, source: torch.Generator, number: int, table: Tensor | None) -> Generated:
    """The next batch of the source: 2 to 12 rows; dtypes take turns. `table` are learned class vectors."""
    dtype = subject.dtypes[number % len(subject.dtypes)]
    count = _whole(source, 2, 13)
    kinds = [ROWS[_whole(source, 0, len(ROWS))] for _ in range(count)]
    labels, words = _labels(subject, source, count, LABELS[_whole(source, 0, len(LABELS))])
    rows = _rows(subject, source, kinds, labels, dtype, table)
    return Generated(rows, labels, f"{dtype_name(dtype)}; labels {words}; rows {', '.join(kinds)}")


def _whole(source: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high, (), generator=source))


def _rows(
    subject: Subject,
    source: torch.Generator,
    kinds: list[str],
    labels: Tensor,
    dtype: torch.dtype,
    table: Tensor | None,
) -> Tensor:
    rows: Tensor = torch.randn(len(kinds), subject.dim, generator=source, dtype=torch.float64) / subject.dim**0.5
    # a loss that uses lengths may overflow at the largest number; one that ignores them must not
    largest = torch.finfo(dtype).max / 2 if subject.scaling else 1e4
    for place, kind in enumerate(kinds):
        if kind in ("duplicate", "antipode"):
            rows[place] = rows[_whole(source, 0, len(kinds))] * (1 if kind == "duplicate" else -1)
        elif kind == "zero":
            rows[place] = 0
        elif kind == "class vector" and table is not None:
            sign = 2 * _whole(source, 0, 2) - 1
            rows[place] = sign * table[int(labels[place]) % len(table)].double()
        elif kind in ("tiny", "huge"):
            rows[place] *= 1e-8 if kind == "tiny" else 1e8
        elif kind == "one-hot":
            rows[place] = torch.eye(subject.dim, dtype=rows.dtype)[_whole(source, 0, subject.dim)]
        elif kind == "largest":
            rows[place] = largest * rows[place].sign()
    # and its gradient, true as it is, need not fit into half precision once rows are many times their usual length
    edge = torch.finfo(dtype).max if subject.scaling or dtype != torch.float16 else 16.0
    return rows.clamp(-edge, edge).to(dtype)


def _labels(subject: Subject, source: torch.Generator, count: int, kind: str) -> tuple[Tensor, str]:
    numbers = torch.randint(0, 3, (count,), generator=source)
    if kind == "balanced":
        return torch.arange(count) % min(3, subject.classes), kind
    if kind == "one class":
        return torch.full((count,), _whole(source, 0, min(3, subject.classes))), kind
    if kind == "all distinct":
        return (torch.arange(count) % subject.classes, kind) if subject.learns_classes else (torch.arange(count), kind)
    if kind == "huge" and not subject.learns_classes:
        return numbers * (2**53 + 1) - 2**40, kind
    return numbers % subject.classes, "any"


def count_finite(subject: Subject) -> tuple[int, int, str | None]:
    """How many of the generated batches end finite, how many are rightly refused, and the first fault."""
    source, finite, refused = generator(), 0, 0
    table = subject.class_vectors(subject.fresh())
    fault: str | None = None
    for number in range(subject.generated):
        case = generated(subject, source, number, table)
        pairless = len(set(case.labels.tolist())) == len(case.labels)
        try:
            run(subject, case.embeddings, case.labels)
        except Exception as error:
            if isinstance(error, ValueError) and pairless and subject.refuses_without_positives is not False:
                refused += 1
                continue
            what = "" if isinstance(error, Broken) else f"{type(error).__name__}: "
            fault = fault or f"case {number} ({case.words}): {what}{headline(error)}"
        else:
            finite += 1
    return finite, refused, fault

"""Sweeps against a learned table of classes: each item against all classes, or each class against all items."""

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.checks import check_batch, check_classes, check_finite, describe
from accord.errors import BatchError, UsageError
from accord.geometry import full
from accord.losses._engine import run
from accord.losses._plan import Member, nothing_from
from accord.losses._rule import Rule
from accord.losses._settings import settings
from accord.mining import Groups, TableGroups
from accord.types import Embeddings, Labels, Scalar


def sweep_table(
    rule: Rule,
    embeddings: Embeddings,
    labels: Labels,
    table: Tensor,
    *,
    per_class: int = 1,
    learned: Sequence[Tensor] = (),
    per_row: Sequence[Tensor] = (),
) -> Scalar:
    """The loss of a rule whose rows are items and whose columns are the rows of `table`, `per_class` for each class.

    The table is never normalised as a whole copy when it is large, and no items × classes numbers are kept. Of double
    and single precision the wider is used, and each gradient comes back in its own.
    """
    check_table(rule.name, embeddings, labels, table, per_class)
    check_finite(rule.name, "the learned vectors", table)
    embeddings, table, learned, per_row = matched(embeddings, table, learned, per_row)
    groups = TableGroups(labels, len(table) // per_class, per_class=per_class)
    return run([Member(rule, tuple(learned), tuple(per_row))], embeddings, groups, table)


def sweep_classes(
    rule: Rule,
    embeddings: Embeddings,
    labels: Labels,
    table: Tensor,
    *,
    learned: Sequence[Tensor] = (),
) -> Scalar:
    """The loss of a rule whose rows are the classes of `table` and whose columns are the items of the batch."""
    check_table(rule.name, embeddings, labels, table)
    check_finite(rule.name, "the learned vectors", table)
    embeddings, table, learned, _ = matched(embeddings, table, learned)
    if not len(embeddings):
        return nothing_from([embeddings, table, *learned])
    names = torch.arange(len(table), device=table.device)
    groups = Groups(names, labels.to(torch.int64), dense_up_to=settings().dense_up_to)
    return run([Member(rule, tuple(learned))], table, groups, embeddings)


def check_table(who: str, embeddings: Tensor, labels: Tensor, table: Tensor, per_class: int = 1) -> None:
    """Refuse a batch, or a table of learned classes that does not fit it, before a label is looked up in the table.

    The table's numbers are not looked at: it may be large, and the sweep does so once.
    """
    check_batch(who, embeddings, labels)
    if not isinstance(table, Tensor) or table.ndim != 2 or not table.is_floating_point():
        raise BatchError(f"{who}: the learned classes must be a (class, dim) tensor.\n  classes: {describe(table)}")
    classes = len(table) // per_class
    if classes < 2:
        raise UsageError(f"{who}: needs the vectors of at least 2 classes, not {classes}.")
    check_classes(who, labels, classes)
    if table.shape[1] != embeddings.shape[1] or table.device != embeddings.device:
        raise BatchError(
            f"{who}: embeddings must have the width of the learned classes and be on their device.\n"
            f"  embeddings: {describe(embeddings)}\n  classes:    {describe(table)}"
        )


def matched(
    embeddings: Tensor, table: Tensor, learned: Sequence[Tensor], per_row: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]]:
    """All in the wider dtype, where one is in double and one in single precision."""
    if full(embeddings).dtype == full(table).dtype:
        return embeddings, table, learned, per_row
    dtype = torch.promote_types(embeddings.dtype, table.dtype)
    wide, beside = [tensor.to(dtype) for tensor in learned], [tensor.to(dtype) for tensor in per_row]
    return embeddings.to(dtype), table.to(dtype), wide, beside

"""Promises about what the value ignores: order, length, rotation and shift of embeddings, and the names of classes."""

import torch

from accord.losses._invariances import invariant, orders
from accord.losses._subject import Kept, NotApplicable, Subject, close, need, run


def ignores_the_order_of_the_batch(subject: Subject) -> Kept:
    """Value and gradient do not change with the order of rows, or, where that is declared, of classes."""
    embeddings, labels = subject.batch()
    before = run(subject, embeddings, labels)
    for order in orders(labels, rows=subject.row_order is not False):
        after = run(subject, embeddings[order], labels[order])
        close(after.value, before.value, "value in another order")
        close(after.gradient, before.gradient[order], "gradient in another order")
    return Kept("" if subject.row_order is not False else "of classes only: which row of a class comes first counts")


def ignores_scaling_if_declared(subject: Subject) -> None:
    """The value ignores the length of embeddings, if that is declared, and only then."""
    _as_declared(subject, "scaling", subject.scaling)


def ignores_a_rotation_if_declared(subject: Subject) -> None:
    """The value ignores a common rotation of embeddings and learned classes, if that is declared, and only then."""
    _as_declared(subject, "rotation", subject.rotation)


def ignores_a_shift_if_declared(subject: Subject) -> None:
    """The value ignores a common shift of embeddings and learned classes, if that is declared, and only then."""
    _as_declared(subject, "translation", subject.translation)


def _as_declared(subject: Subject, kind: str, declared: bool | None) -> None:
    if declared is None:
        raise NotApplicable(f"nothing is declared about {kind}")
    found = invariant(subject, kind)
    need(found == declared, f"{kind} {'leaves' if found else 'changes'} the value, against what is declared")


def ignores_the_names_of_classes(subject: Subject) -> None:
    """Other numbers for the same classes, also huge or negative ones, leave value and gradient."""
    if subject.learns_classes:
        raise NotApplicable("labels number learned classes")
    embeddings, labels = subject.batch()
    before = run(subject, embeddings, labels)
    for names in ([4, 2, 0, 1, 3], [10**12, -7, 2**53 + 1, 2**53, 0]):
        after = run(subject, embeddings, torch.tensor(names)[labels])
        close(after.value, before.value, f"value with classes called {names}")
        close(after.gradient, before.gradient, f"gradient with classes called {names}")

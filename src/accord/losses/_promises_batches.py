"""Promises about what is handed over: degenerate batches, labels of every kind, and wrong ones refused by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from accord.losses._subject import ITEMS, Broken, Kept, Subject, close, dtype_name, headline, need, refused, run

INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def stands_a_batch_without_positives(subject: Subject) -> Kept:
    """A batch whose labels all differ costs a connected zero, or what is declared, or is refused by name."""
    count = min(subject.classes, 5)
    embeddings, labels = subject.batch()[0][:count], torch.arange(count)
    if subject.refuses_without_positives:
        refused(lambda: subject.fresh()(embeddings, labels), ("two rows",), ours=subject.ours)
        return Kept("refuses it")
    return _degenerate(subject, embeddings, labels, subject.empty_without_positives)


def stands_a_batch_without_negatives(subject: Subject) -> Kept:
    """A batch of one class costs a connected zero, or what is declared, or is refused by name."""
    embeddings, labels = subject.batch()
    return _degenerate(subject, embeddings, torch.ones_like(labels), subject.empty_without_negatives)


def stands_an_empty_batch(subject: Subject) -> Kept:
    """A batch of no rows costs a connected zero, or is refused by name."""
    return _degenerate(subject, torch.zeros(0, subject.dim), torch.zeros(0, dtype=torch.int64), True)


def stands_a_batch_of_one(subject: Subject) -> Kept:
    """A batch of one row ends finite, or is refused by name."""
    embeddings, labels = subject.batch()
    return _degenerate(subject, embeddings[:1], labels[:1], None)


def _degenerate(subject: Subject, embeddings: Tensor, labels: Tensor, empty: bool | None) -> Kept:
    """What such a batch costs; a ValueError will do unless it is declared that there is none."""
    try:
        value, gradient = run(subject, embeddings, labels)
    except ValueError as error:
        if subject.refuses_without_positives is False:
            raise
        return Kept(f"refuses it: {headline(error)}")
    nothing = bool(value == 0)
    if empty is not None:
        need(nothing == empty, f"costs {value.item():.6g}, against what is declared")
    need(not nothing or not bool(gradient.any()), "costs 0, but with a gradient")
    need(gradient.shape == embeddings.shape, f"the gradient has shape {tuple(gradient.shape)}")
    return Kept(f"costs {value.item():.4g}")


def _call(subject: Subject, embeddings: Tensor, labels: Any) -> Callable[[], object]:
    return lambda: subject.fresh()(embeddings, labels)


def takes_every_integer_label(subject: Subject) -> None:
    """int8, int16, int32, int64 and uint8 labels give one value."""
    embeddings, labels = subject.batch()
    expected = run(subject, embeddings, labels).value
    faults = []
    for dtype in INTEGERS:
        try:
            close(run(subject, embeddings, labels.to(dtype)).value, expected, tolerance=0.0)
        except Exception as error:
            faults.append(f"{dtype_name(dtype)}: {type(error).__name__}: {headline(error)}")
    if faults:
        raise Broken("; ".join(faults))


def refuses_labels_of_another_kind(subject: Subject) -> None:
    """Floating, boolean, two-axis, one-hot and too few labels are refused by name."""
    embeddings, labels = subject.batch()
    embeddings = embeddings.detach()
    one_hot = nn.functional.one_hot(labels)
    wrong = (
        ("floating labels", labels.double(), ("labels must be integers", "(15,)")),
        ("boolean labels", labels.bool(), ("labels must be integers", "(15,)")),
        ("labels with two axes", labels[:, None], ("one axis",)),
        ("one-hot labels", one_hot, ("one axis",)),
        ("a label too few", labels[1:], ("one entry per embedding", f"{tuple(embeddings.shape)}", "(14,)")),
    )
    for what, given, words in wrong:
        call = _call(subject, embeddings, given)
        refused(call, words if subject.ours else (), ours=subject.ours, what=what)


def takes_or_refuses_lists_and_arrays(subject: Subject) -> Kept:
    """Labels as a list or an array give the same value, or are refused by name; ours refuses them."""
    embeddings, labels = subject.batch()
    expected, said = run(subject, embeddings, labels).value, []
    given: Any
    for what, given in (("a list", labels.tolist()), ("an array", labels.numpy())):
        try:
            value = subject.fresh()(embeddings.detach(), given)
        except (ValueError, TypeError) as error:
            need(not subject.ours or "must be tensors" in str(error), f"{what}: {headline(error)}")
            said.append(f"refuses {what}")
        except Exception as error:
            raise Broken(f"{what} ends in {type(error).__name__}: {headline(error)}") from error
        else:
            need(not subject.ours, f"takes {what}, which ours refuses")
            close(value, expected, f"value with {what}")
            said.append(f"takes {what}")
    return Kept(", ".join(said))


def refuses_labels_out_of_range(subject: Subject) -> None:
    """A label that no learned class has is refused by name; without learned classes every number will do."""
    embeddings, labels = subject.batch()
    for wrong in (-1, subject.classes, 10**12):
        changed = labels.clone()
        changed[3] = wrong
        if subject.learns_classes:
            call = _call(subject, embeddings.detach(), changed)
            words = (f"0 … {subject.classes - 1}, but 1 of {ITEMS} do not: {wrong}",) if subject.ours else ()
            refused(call, words, ours=subject.ours, what=f"label {wrong} of {subject.classes} classes")
        else:
            run(subject, embeddings, changed)


def names_the_row_that_is_not_finite(subject: Subject) -> None:
    """An embedding with NaN or infinity is refused, and the message names its row."""
    for value in (torch.nan, torch.inf, -torch.inf):
        embeddings, labels = subject.batch()
        wrong = embeddings.detach().clone()
        wrong[7, 2 % subject.dim] = value
        words = ("1 of 15 rows are not: 7",) if subject.ours else ("7",)
        refused(_call(subject, wrong, labels), words, ours=subject.ours, what=f"an embedding with {value}")


def leaves_what_it_is_given(subject: Subject) -> None:
    """Embeddings, labels, the global random state and the default dtype are as before."""
    embeddings, labels = subject.batch()
    embeddings = embeddings.detach().requires_grad_()
    rows, names = embeddings.detach().clone(), labels.clone()
    torch.manual_seed(0)
    before, dtype = torch.get_rng_state(), torch.get_default_dtype()
    subject.fresh()(embeddings, labels).backward()  # type: ignore[no-untyped-call]
    need(torch.equal(rows, embeddings) and torch.equal(names, labels), "writes into the batch")
    need(torch.get_default_dtype() == dtype, "changes the default dtype")
    need(torch.equal(torch.get_rng_state(), before), "draws from the global random state")


def repeats_itself(subject: Subject) -> None:
    """The same batch gives the same bits from the same state, value and gradient."""
    embeddings, labels = subject.batch(dtype=torch.float32)
    first, second = run(subject, embeddings, labels), run(subject, embeddings, labels)
    need(torch.equal(first.value, second.value), "the value differs from one evaluation to the next")
    need(torch.equal(first.gradient, second.gradient), "the gradient differs from one evaluation to the next")

"""Promises about the machine: no waiting for a device, precision under autocast, state that returns, one engine."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from accord.losses._settings import row_engine
from accord.losses._subject import Broken, NotApplicable, Subject, close, generator, need, parameters, run

WAITING = {
    "_local_scalar_dense": "asks for a number (.item(), bool(…), float(…))",
    "is_nonzero": "asks for a truth",
    "equal": "asks whether tensors are equal",
    "nonzero": "lists places (nonzero, a mask as index)",
    "masked_select": "selects by a mask",
    "unique_dim": "lists unique rows",
    "unique_consecutive": "lists unique values",
    "unique_dim_consecutive": "lists unique rows",
    "_unique": "lists unique values",
    "_unique2": "lists unique values",
    "bincount": "counts values",
    "repeat_interleave": "repeats by a tensor of counts",
}


class _Waits(Exception):  # noqa: N818
    pass


class Unwaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, an operation whose result's size or meaning the processor must wait for raises."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let all other operations pass."""
        name = func._schema.name.removeprefix("aten::")
        if name in WAITING and not (name == "repeat_interleave" and func._overloadname == "self_int"):
            raise _Waits(WAITING[name])
        places = args[1] if name.startswith("index") and len(args) > 1 else ()
        if isinstance(places, list | tuple) and any(_is_mask(place) for place in places):
            raise _Waits("indexes by a mask")
        return func(*args, **(kwargs or {}))


def _is_mask(place: object) -> bool:
    return isinstance(place, Tensor) and place.dtype in (torch.bool, torch.uint8)


def never_waits_for_the_device(subject: Subject) -> None:
    """It works on `meta` tensors, which have no values: whoever asks for one, or for a count of rows, gets an error."""
    objective, (embeddings, labels) = subject.fresh(), subject.batch()
    if isinstance(objective, nn.Module):
        objective = objective.to("meta")
    try:
        value = objective(embeddings.detach().to("meta").requires_grad_(), labels.to("meta"))
        value.backward()
    except Exception as error:
        words = " ".join(str(error).split())[:120]
        raise Broken(f"on meta tensors: {type(error).__name__}: {words}") from error
    need(value.numel() == 1, f"on meta tensors: shape {tuple(value.shape)}")


def asks_for_no_value(subject: Subject) -> None:
    """No operation of its forward and backward pass makes an accelerator's queue run dry."""
    objective, (embeddings, labels) = subject.fresh(), subject.batch()
    try:
        with Unwaiting():  # type: ignore[no-untyped-call]
            objective(embeddings, labels).backward()  # type: ignore[no-untyped-call]
    except _Waits as waits:
        raise Broken(str(waits)) from waits


def keeps_its_precision_under_autocast(subject: Subject) -> None:
    """In an autocast region the value is what it is outside."""
    embeddings, labels = subject.batch(dtype=torch.float32)
    outside = run(subject, embeddings, labels).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run(subject, embeddings, labels).value
    close(inside, outside, "value under autocast", 0.0 if subject.ours else 1e-3)


def returns_from_its_state(subject: Subject) -> None:
    """A new objective that loads the state of a used one goes on as that would."""
    first, second = subject.fresh(), subject.fresh()
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        raise NotApplicable("it is no module, so it has no state")
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(5), dtype=parameter.dtype))
    for seed in (1, 2):
        embeddings, labels = subject.batch(seed)
        torch.manual_seed(0)
        first(embeddings, labels)
    second.load_state_dict(first.state_dict())
    embeddings, labels = subject.batch(3)
    for _ in range(2):
        before, after = run(subject, embeddings, labels, first), run(subject, embeddings, labels, second)
        need(torch.equal(before.value, after.value), f"{after.value.item():.6g} instead of {before.value.item():.6g}")


def _lopsided(subject: Subject) -> tuple[Tensor, Tensor]:
    """Forty rows: three in five of one class, the rest of small classes and, where they can be, lone ones."""
    labels = torch.zeros(40, dtype=torch.int64)
    labels[24:] = torch.arange(16) % 4 + 1
    labels[36:] = torch.arange(4) + 5
    if subject.learns_classes:
        labels = labels % subject.classes
    order = torch.randperm(40, generator=generator(2))
    embeddings = torch.randn(40, subject.dim, generator=generator(3), dtype=torch.float64) / subject.dim**0.5
    return embeddings, labels[order]


def has_the_gradient_of_plain_autograd(subject: Subject) -> None:
    """The row engine, with gradients by hand and in small blocks, gives what plain autograd gives in one piece."""
    if not subject.ours:
        raise NotApplicable("it does not use the row engine")
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        for what, (embeddings, labels) in (("balanced", subject.batch()), ("lopsided", _lopsided(subject))):
            x = embeddings.detach().to(dtype)
            slow = _within(lambda: row_engine(plain=True), subject, x, labels)
            for name, context in (("whole", row_engine), ("in blocks", lambda: row_engine(block_bytes=1000))):
                fast = _within(context, subject, x, labels)
                for part, expected in slow.items():
                    scale = expected.abs().max().clamp_min(1).item()
                    close(fast[part] / scale, expected / scale, f"{part} of a {what} batch, {name}", tolerance)


def _within(
    context: Callable[[], AbstractContextManager[None]], subject: Subject, embeddings: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Value and all gradients inside a setting of the row engine."""
    objective = subject.fresh(embeddings.dtype)
    with context():
        value, gradient = run(subject, embeddings, labels, objective)
    learned = {name: parameter.grad for name, parameter in parameters(objective).items()}
    known = {f"gradient of {name}": gradient for name, gradient in learned.items() if gradient is not None}
    return {"value": value, "gradient": gradient, **known}


def does_not_depend_on_block_size(subject: Subject) -> None:
    """Blocks of one row, of some rows and of all give one value, up to rounding."""
    if not subject.ours:
        raise NotApplicable("it does not use the row engine")
    embeddings, labels = _lopsided(subject)
    values = []
    for size in (1, 3_000, 2**24):
        with row_engine(block_bytes=size):
            values.append(run(subject, embeddings, labels).value)
    for value in values[1:]:
        close(value, values[0], "value with another block size", 1e-12)


def compiles_into_one_graph(subject: Subject) -> None:
    """`torch.compile(fullgraph=True)` finds no break and gives the same value and gradient."""
    embeddings, labels = subject.batch()
    before = run(subject, embeddings, labels)
    torch._dynamo.reset()
    compiled = torch.compile(subject.fresh(), fullgraph=True, backend="aot_eager")
    x = embeddings.detach().requires_grad_()
    try:
        value: Tensor = compiled(x, labels)
        value.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise Broken(f"{type(error).__name__}: {words}") from error
    assert x.grad is not None
    close(value.detach(), before.value, "value of the compiled graph")
    close(x.grad, before.gradient, "gradient of the compiled graph")

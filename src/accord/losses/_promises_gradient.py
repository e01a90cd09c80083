"""Promises about gradients: true to the value, also of second order, in every way of asking, and good to learn by."""

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError, gradcheck

from accord.losses._subject import Broken, Kept, Objective, Subject, close, need, parameters, run


def teaches_embeddings_and_parameters(subject: Subject) -> None:
    """Embeddings and every parameter get a gradient that is not zero."""
    objective, (embeddings, labels) = subject.fresh(), subject.batch()
    objective(embeddings, labels).backward()  # type: ignore[no-untyped-call]
    learned: dict[str, Tensor] = {"embeddings": embeddings, **parameters(objective)}
    idle = [name for name, tensor in learned.items() if tensor.grad is None or not bool(tensor.grad.any())]
    need(not idle, f"no gradient for {', '.join(idle)}")


def has_the_gradient_of_its_value(subject: Subject) -> None:
    """Autograd's gradient is that of finite differences of the value, in float64 (gradcheck)."""
    embeddings, labels = subject.batch()
    learned = {name: tensor.detach().requires_grad_() for name, tensor in parameters(subject.fresh()).items()}

    def value(x: Tensor, *tensors: Tensor) -> Tensor:
        return _with(subject.fresh(), dict(zip(learned, tensors, strict=True)), x, labels)

    inputs = (embeddings, *learned.values())
    # many numbers are checked along random directions, not one by one
    many = sum(tensor.numel() for tensor in inputs) > 400
    try:
        gradcheck(value, inputs, fast_mode=many)
    except GradcheckError as error:
        words = " ".join(str(error).split())
        raise Broken(f"gradcheck: {words[:160]}") from error


def has_a_second_derivative(subject: Subject) -> None:
    """A Hessian-vector product is the finite difference of gradients, in float64."""
    embeddings, labels = subject.batch()
    learned = {name: tensor.detach() for name, tensor in parameters(subject.fresh()).items()}
    start = [embeddings.detach(), *learned.values()]
    source = torch.Generator().manual_seed(1)
    way = [torch.randn(tensor.shape, generator=source, dtype=tensor.dtype) for tensor in start]

    def gradients(step: float, *, again: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        at = [(tensor + step * move).requires_grad_() for tensor, move in zip(start, way, strict=True)]
        value = _with(subject.fresh(), dict(zip(learned, at[1:], strict=True)), at[0], labels)
        return at, list(torch.autograd.grad(value, at, create_graph=again, materialize_grads=True))

    step = 1e-5
    at, first = gradients(0.0, again=True)
    along = torch.stack([(gradient * move).sum() for gradient, move in zip(first, way, strict=True)]).sum()
    exact = [torch.zeros_like(tensor) for tensor in at]
    if along.requires_grad:
        exact = list(torch.autograd.grad(along, at, materialize_grads=True))
    ups, downs = gradients(step)[1], gradients(-step)[1]
    names = ["embeddings", *learned]
    for name, left, right in zip(names, first, gradients(0.0)[1], strict=True):
        close(left.detach(), right, f"gradient of {name} with create_graph=True", 1e-7)
    for name, found, up, down in zip(names, exact, ups, downs, strict=True):
        slow = (up - down) / (2 * step)
        worst = (found - slow).abs().max().item()
        need(worst <= 1e-4 * (1 + slow.abs().max().item()), f"second derivative of {name} is off by {worst:.2g}")


def _with(objective: Objective, state: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(0)
    if isinstance(objective, nn.Module):
        found: Tensor = torch.func.functional_call(objective, state, (embeddings, labels))
    else:
        found = objective(embeddings, labels)
    return found.reshape(())


def passes_the_outer_gradient_on(subject: Subject) -> None:
    """Three times the loss has three times the gradient, and a second backward pass finds the same as the first."""
    embeddings, labels = subject.batch()
    before = run(subject, embeddings, labels).gradient
    objective, x = subject.fresh(), embeddings.detach().requires_grad_()
    torch.manual_seed(0)
    value = 3 * objective(x, labels)
    for _ in range(2):
        (after,) = torch.autograd.grad(value, x, retain_graph=True)
        close(after, 3 * before, "gradient of three times the loss", 1e-7)


def teaches_each_part_alone(subject: Subject) -> None:
    """With frozen parameters embeddings learn as before, and parameters as before with frozen embeddings."""
    embeddings, labels = subject.batch()
    objective = subject.fresh()
    whole = run(subject, embeddings, labels, objective).gradient
    frozen = subject.fresh()
    for parameter in parameters(frozen).values():
        parameter.requires_grad_(False)
    x = embeddings.detach().requires_grad_()
    torch.manual_seed(0)
    frozen(x, labels).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    close(x.grad, whole, "gradient of embeddings with frozen parameters")
    if not parameters(objective):
        return
    other = subject.fresh()
    torch.manual_seed(0)
    other(embeddings.detach(), labels).backward()  # type: ignore[no-untyped-call]
    for name, parameter in parameters(other).items():
        before = parameters(objective)[name].grad
        if before is not None:
            need(parameter.grad is not None, f"{name} gets no gradient with frozen embeddings")
            assert parameter.grad is not None
            close(parameter.grad, before, f"gradient of {name} with frozen embeddings")


def has_the_same_value_without_gradients(subject: Subject) -> None:
    """Under `torch.no_grad()` and `torch.inference_mode()` the value stays."""
    embeddings, labels = subject.batch()
    expected = run(subject, embeddings, labels).value
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            torch.manual_seed(0)
            close(subject.fresh()(embeddings.detach(), labels), expected, "value without gradients", 1e-12)


def trains_two_steps(subject: Subject) -> Kept:
    """Two steps of gradient descent work and lower the value."""
    for rate in (1e-3, 1e-5, 1e-7):
        values = _descend(subject, rate)
        if values[2] < values[1] < values[0]:
            return Kept()
        if subject.stateful:
            return Kept("earlier batches count, so only that steps can be taken")
    shown = " → ".join(f"{value:.6g}" for value in values)
    raise Broken(f"two steps of gradient descent do not lower the value: {shown}")


def _descend(subject: Subject, rate: float) -> list[float]:
    objective, (embeddings, labels) = subject.fresh(), subject.batch()
    optimizer = torch.optim.SGD([embeddings, *parameters(objective).values()], lr=rate)
    values = []
    for _ in range(3):
        optimizer.zero_grad()
        torch.manual_seed(0)
        value = objective(embeddings, labels)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        values.append(value.item())
    return values

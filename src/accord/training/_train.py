"""The training loop: it yields one Step after another and leaves every decision to whoever asked for it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from accord.checks import check_count, check_range, describe
from accord.errors import BatchError, NumericError, UsageError
from accord.training._groups import LOSS_WEIGHTS, STUDENT
from accord.training._nonfinite import Buffers, Patience, diagnose
from accord.training._precision import Arithmetic, gradient_norm
from accord.types import Batch, Relations, Step

Batches = Callable[[int], Batch]
Outputs = Callable[[Tensor], Mapping[str, Tensor]]


def train(
    model: nn.Module,
    objective: Callable[..., Any],
    batches: Batches,
    optimizer: Optimizer,
    *,
    steps: int,
    first: int = 0,
    steps_per_epoch: int,
    schedule: Callable[[int], float] | None = None,
    clip_norm: float | None = None,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    patience_nonfinite: int = 10,
    on_empty: str = "refuse",
) -> Iterator[Step]:
    """Train from step `first` up to step `steps`, yielding after each what it did; steps count from 0.

    `batches(n)` gives the batch of step n and `schedule(n)` the factor on each group's "initial_lr", so a run goes on
    from any step. `model.outputs(inputs)` gives one tensor per head; of a single head the objective gets the tensor
    itself. Beside it, it gets the batch's labels, or its pairs or triplets where it has some. The loss is computed in
    float32 or longer, whatever the `precision` of the model.

    A step whose loss or gradient is not finite is undone (weights, optimiser and buffers stay bit-equal) and yielded
    with `skipped`; `patience_nonfinite` in a row raise NumericError naming the items. A batch with fewer than two
    classes raises BatchError, or is skipped with `on_empty="skip"`; so does one without a gradient in which no class
    has two items, which `on_empty="skip"` lets pass. An optimiser that lacks a parameter of the
    objective is refused, for it would never learn. The gradients of groups called "loss_weights" and "student" are
    neither measured nor cut down by `clip_norm`. The model is put into training mode whenever it is not: the caller may
    have evaluated in between. Modules in evaluation mode below a model in training mode stay so.
    """
    check_count("train", "steps", steps, low=0)
    check_count("train", "first", first, low=0)
    check_count("train", "steps_per_epoch", steps_per_epoch)
    check_count("train", "patience_nonfinite", patience_nonfinite)
    if clip_norm is not None:
        check_range("train", "clip_norm", clip_norm, low=0.0, open_low=True)
    if on_empty not in {"refuse", "skip"}:
        raise UsageError(f"train: on_empty must be 'refuse' or 'skip', not {on_empty!r}.")
    _check_optimised(objective, optimizer)
    arithmetic = Arithmetic(precision, torch.device(device), optimizer)
    loop = _Loop(
        model, objective, optimizer, arithmetic, Patience(patience_nonfinite), clip_norm, skip_empty=on_empty == "skip"
    )
    # a generator of its own, so that wrong options are told at the call and not at the first step
    return (loop.step(number, number // steps_per_epoch, batches, schedule) for number in range(first, steps))


class _Loop:
    """What one step needs to know of all steps."""

    def __init__(
        self,
        model: nn.Module,
        objective: Callable[..., Any],
        optimizer: Optimizer,
        arithmetic: Arithmetic,
        patience: Patience,
        clip_norm: float | None,
        *,
        skip_empty: bool,
    ) -> None:
        outputs = getattr(model, "outputs", None)
        if not callable(outputs):
            raise UsageError(f"train: {type(model).__name__} has no `outputs(inputs)` that gives one tensor per head.")
        self.outputs: Outputs = outputs
        self.objective, self.optimizer, self.arithmetic = objective, optimizer, arithmetic
        self.device, self.patience, self.clip_norm = arithmetic.device, patience, clip_norm
        self.modules = [part for part in (model, objective) if isinstance(part, nn.Module)]
        self.skip_empty = skip_empty
        # weights of losses are no part of the length that is cut down: the penalty that some carry would cut the rest;
        # nor is a student, which must not change how its teacher learns
        groups = [(group.get("name") in (LOSS_WEIGHTS, STUDENT), group["params"]) for group in optimizer.param_groups]
        self.parameters = [own for apart, parameters in groups if not apart for own in parameters]
        self.apart = [own for apart, parameters in groups if apart for own in parameters]
        self.buffers = Buffers(*self.modules)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def step(
        self,
        number: int,
        epoch: int,
        batches: Batches,
        schedule: Callable[[int], float] | None,
    ) -> Step:
        """Do one step."""
        rates = self._set_rates(1.0 if schedule is None else schedule(number))
        batch = batches(number)
        if not _teaches(batch, number, skip_empty=self.skip_empty):
            nothing = torch.zeros((), device=self.device)
            return Step(number, epoch, nothing, {"loss": nothing}, rates, nothing, skipped=True)
        for module in self.modules:
            if not module.training:
                module.train()
        self.buffers.remember()
        loss, norm, finite = self._move(number, batch)
        return Step(number, epoch, loss, self._terms(loss), rates, norm, skipped=not finite)

    def _move(self, number: int, batch: Batch) -> tuple[Tensor, Tensor, bool]:
        """Forward, backward, and the optimiser's step if everything is finite; else nothing has happened."""
        self.optimizer.zero_grad(set_to_none=True)
        outputs = self._outputs(batch)
        loss = norm = torch.full((), torch.nan, device=self.device)
        cause = None
        try:
            loss = self._loss(outputs, batch)
        except NumericError as error:  # ours refuse what is not finite before they compute with it
            cause, finite = error, False
        else:
            self.arithmetic.backward(loss)
            norm = gradient_norm(self.parameters, clip_norm=self.clip_norm)
            sound = loss.detach().isfinite() & norm.isfinite()
            if self.apart:
                sound = sound & gradient_norm(self.apart, clip_norm=None).isfinite()
            finite, moves = torch.stack([sound, norm != 0]).tolist()
            if not moves and not self.skip_empty:
                _check_pairs(batch, number, self.objective)
            self.arithmetic.finish(finite=finite)
        if finite:
            self.patience.count(number, None)
        else:
            self.buffers.restore()
            trouble = diagnose(batch, outputs, loss, self._terms(loss), self._names())
            self.optimizer.zero_grad(set_to_none=True)
            self.patience.count(number, trouble, cause)
        return loss.detach(), norm, finite

    def _outputs(self, batch: Batch) -> dict[str, Tensor]:
        outputs = self.arithmetic.outputs(self.outputs, batch.inputs.to(self.device, non_blocking=True))
        if not outputs:
            raise UsageError("train: the model's `outputs` gave no head at all.")
        return outputs

    def _loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        embeddings = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        loss = self.objective(embeddings, _supervision(batch, self.device))
        if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
            raise UsageError(
                "train: the objective must return a scalar tensor with a gradient.\n"
                f"  it returned: {describe(loss)}\n"
                "Check that it does not detach its result, and that something in it or in the model learns."
            )
        return loss

    def _terms(self, loss: Tensor) -> dict[str, Tensor]:
        terms = getattr(self.objective, "terms", None)
        return {name: value.detach() for name, value in (terms or {"loss": loss}).items()}

    def _names(self) -> dict[str, Tensor]:
        return {name: value for module in self.modules for name, value in module.named_parameters()}

    def _set_rates(self, factor: float) -> dict[str, float]:
        check_range("train", "the schedule's factor", factor, low=0.0)
        rates = {}
        for place, group in enumerate(self.optimizer.param_groups):
            group["lr"] = group["initial_lr"] * factor
            rates[group.get("name", f"group {place}")] = group["lr"]
        return rates


def _supervision(batch: Batch, device: torch.device) -> Tensor | Relations:
    """What the objective is told: the labels of a batch, or its pairs or triplets where it has some."""
    if batch.relations is None:
        return batch.labels.to(device, non_blocking=True)
    return type(batch.relations)(*(rows.to(device, non_blocking=True) for rows in batch.relations))


def _check_optimised(objective: Callable[..., Any], optimizer: Optimizer) -> None:
    """Refuse an optimiser that leaves out something the objective wants to learn."""
    if not isinstance(objective, nn.Module):
        return
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, value in objective.named_parameters() if value.requires_grad and id(value) not in known]
    if missing:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise UsageError(
            f"train: the optimizer lacks the objective's parameter {shown}, which would never learn.\n"
            "Make it from parameter_groups(model, objective, …), or freeze the parameter by requires_grad_(False)."
        )


def _check_pairs(batch: Batch, number: int, objective: Callable[..., Any]) -> None:
    """Refuse a batch that gave no gradient because no class has two items; else everything was learnt already."""
    ascending = batch.labels.sort().values
    if len(ascending) and not bool((ascending[1:] == ascending[:-1]).any()):
        raise BatchError(
            f"train: the batch of step {number} can't teach {type(objective).__name__}: no class has two items.\n"
            f"  labels: {describe(batch.labels)}, {batch.labels[:5].tolist()} …\n"
            "Draw at least 2 items per class (PKBatches does), or take a loss that learns classes, such as proxy_nca."
        )


def _teaches(batch: Batch, number: int, *, skip_empty: bool) -> bool:
    """Whether there are two classes to tell apart."""
    if bool((batch.labels != batch.labels[:1]).any()):
        return True
    if skip_empty:
        return False
    raise BatchError(
        f"train: the batch of step {number} can't teach, for it has fewer than two classes.\n"
        f"  labels: {describe(batch.labels)}, {batch.labels[:5].tolist()} …\n"
        'Draw batches of several classes (PKBatches does), or skip such batches with on_empty="skip".'
    )

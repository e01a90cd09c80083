"""The promises every loss keeps, whatever its formula: drive them with a table of cases.

A case says how to make a loss for DIM-dimensional embeddings of CLASSES classes and what it declares about itself.
Each promise is a function of a case; `PROMISES` lists them by name. `pytest.mark.parametrize` does the rest.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from accord.errors import BatchError, NumericError

DIM, CLASSES, ITEMS = 6, 5, 15
HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Case:
    """One loss in one configuration, and what it declares."""

    name: str
    make: Callable[[], nn.Module]
    scaling: bool = True  # the value ignores the length of embeddings
    rotation: bool = True  # the value ignores a common rotation of embeddings and learned classes
    row_order: bool = True  # the value ignores the order of rows; otherwise only the order of classes
    learns_classes: bool = False  # has a parameter per class, so labels have a range
    empty_without_positives: bool = True  # all labels different: nothing to compare
    empty_without_negatives: bool = True  # all labels equal: nothing to compare
    refuses_without_positives: bool = False


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Unit-size random embeddings, three items of each class, classes interleaved."""
    embeddings = torch.randn(ITEMS, DIM, generator=generator(seed), dtype=torch.float64) / DIM**0.5
    return embeddings.to(dtype).requires_grad_(), torch.arange(ITEMS) % CLASSES


def run(case: Case, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Value and gradient of a fresh loss; both must be finite."""
    objective = case.make().to(embeddings.dtype if embeddings.dtype == torch.float64 else torch.float32)
    embeddings = embeddings.detach().requires_grad_()
    value = objective(embeddings, labels)
    assert value.shape == ()
    assert value.requires_grad
    value.backward()
    assert value.isfinite(), "value"
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all(), "gradient of the embeddings"
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    return value.detach(), embeddings.grad


def close(left: Tensor, right: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance, check_dtype=False)


@contextmanager
def without_shape_checks() -> Iterator[None]:
    """Turn the tests' annotation checks off, so that our own doorway answers."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def teaches_embeddings_and_parameters(case: Case) -> None:
    objective, (embeddings, labels) = case.make().double(), batch()
    objective(embeddings, labels).backward()
    assert embeddings.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.parameters())


def has_the_gradient_of_its_value(case: Case) -> None:
    objective, (embeddings, labels) = case.make().double(), batch()
    names = [name for name, _ in objective.named_parameters()]

    def value(x: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(objective, state, (x, labels))

    assert torch.autograd.gradcheck(value, (embeddings, *objective.parameters()))


def ignores_the_order_of_the_batch(case: Case) -> None:
    embeddings, labels = batch()
    for seed in range(3):
        order = torch.randperm(ITEMS, generator=generator(seed))
        if not case.row_order:
            # shuffles the classes, keeps the order inside each
            order = torch.argsort(torch.randperm(CLASSES, generator=generator(seed))[labels], stable=True)
        value, gradient = run(case, embeddings, labels)
        moved, moved_gradient = run(case, embeddings[order], labels[order])
        close(moved, value)
        close(moved_gradient, gradient[order])


def ignores_a_rotation_if_declared(case: Case) -> None:
    embeddings, labels = batch()
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator(1), dtype=torch.float64))[0]
    objective = case.make().double()
    before = objective(embeddings, labels)
    with torch.no_grad():
        for parameter in objective.parameters():
            if parameter.ndim == 2:
                parameter.copy_(parameter @ rotation)
    after = objective(embeddings @ rotation, labels)
    assert torch.allclose(before, after, rtol=1e-9) == case.rotation


def ignores_scaling_if_declared(case: Case) -> None:
    embeddings, labels = batch()
    before, after = run(case, embeddings, labels)[0], run(case, 3 * embeddings, labels)[0]
    assert torch.allclose(before, after, rtol=1e-9) == case.scaling


def survives_duplicates(case: Case) -> None:
    for dtype in (torch.float64, torch.float32, *HALVES):
        embeddings, labels = batch(dtype=dtype)
        twins = embeddings.detach().clone()
        twins[5], twins[1] = twins[0], twins[2]  # row 5 has the class of row 0, row 1 not that of row 2
        run(case, twins, labels)
        run(case, twins[:1].repeat(ITEMS, 1), labels)


def survives_opposite_and_aligned_rows(case: Case) -> None:
    for dtype in (torch.float64, torch.float32, *HALVES):
        embeddings, labels = batch(dtype=dtype)
        axis = embeddings.detach()[:1]
        signs = torch.tensor([1, -1, 1 + 1e-6], dtype=dtype).repeat(ITEMS // 3)[:, None]
        run(case, signs * axis, labels)


def survives_embeddings_on_their_class_vectors(case: Case) -> None:
    labels = torch.arange(CLASSES).repeat(2)
    for parameter in case.make().parameters():
        if parameter.ndim == 2:
            for dtype in (torch.float64, torch.float32, *HALVES):
                run(case, parameter.detach().to(dtype)[labels], labels)
                run(case, -parameter.detach().to(dtype)[labels], labels)


def survives_zero_rows_with_a_bounded_gradient(case: Case) -> None:
    for dtype in (torch.float64, torch.float32, *HALVES):
        embeddings, labels = batch(dtype=dtype)
        usual = run(case, embeddings, labels)[1].abs().max()
        one, all_zero, tiny = embeddings.detach().clone(), torch.zeros_like(embeddings), embeddings.detach() * 1e-20
        one[0] = 0
        for hard in (one, all_zero, tiny):
            assert run(case, hard, labels)[1].abs().max() <= 1e6 * usual.clamp_min(1e-3)


def survives_extreme_scales(case: Case) -> None:
    embeddings, labels = batch()
    for scale in (1e-8, 1e-4, 1e4, 1e8):
        exact = run(case, (embeddings * scale).float().double(), labels)[0]
        single = run(case, (embeddings * scale).float(), labels)[0]
        close(single, exact, 1e-3)


def costs_nothing_without_positives(case: Case) -> None:
    embeddings, labels = batch()[0][:CLASSES], torch.arange(CLASSES)
    if case.refuses_without_positives:
        with pytest.raises(BatchError, match="two rows"):
            case.make()(embeddings, labels)
        return
    value, gradient = run(case, embeddings, labels)
    assert (value == 0) == case.empty_without_positives
    assert bool((gradient == 0).all()) == case.empty_without_positives


def costs_nothing_without_negatives(case: Case) -> None:
    embeddings, _ = batch()
    value, gradient = run(case, embeddings, torch.ones(ITEMS, dtype=torch.int64))
    assert (value == 0) == case.empty_without_negatives
    assert bool((gradient == 0).all()) == case.empty_without_negatives


def costs_nothing_on_an_empty_batch(case: Case) -> None:
    value, gradient = run(case, torch.zeros(0, DIM), torch.zeros(0, dtype=torch.int64))
    assert value == 0
    assert gradient.shape == (0, DIM)


def takes_every_floating_dtype(case: Case) -> None:
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 1e-4), (torch.float16, 1e-4)):
        embeddings, labels = batch(dtype=dtype)
        exact = run(case, embeddings.double(), labels)[0]
        value, gradient = run(case, embeddings, labels)
        assert gradient.dtype == dtype
        assert value.dtype == torch.float32
        close(value, exact, tolerance)


def never_waits_for_the_device(case: Case) -> None:
    # tensors on `meta` have no values: whoever asks for one (a number, a truth, a count of rows) gets an error
    objective, (embeddings, labels) = case.make().double().to("meta"), batch()
    assert objective(embeddings.to("meta"), labels.to("meta")).shape == ()


def keeps_its_precision_under_autocast(case: Case) -> None:
    embeddings, labels = batch(dtype=torch.float32)
    outside = run(case, embeddings, labels)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(case, embeddings, labels)[0], outside)


def takes_every_integer_label(case: Case) -> None:
    embeddings, labels = batch()
    expected = run(case, embeddings, labels)[0]
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        assert torch.equal(run(case, embeddings, labels.to(dtype))[0], expected)


def refuses_labels_of_another_kind(case: Case) -> None:
    embeddings, labels = batch()
    objective = case.make().double()
    with without_shape_checks():
        for wrong in (labels.double(), labels.bool()):
            with pytest.raises(BatchError, match=r"labels must be integers(.|\n)*\(15,\)"):
                objective(embeddings, wrong)
        for wrong in (labels[:, None], nn.functional.one_hot(labels)):
            with pytest.raises(BatchError, match="one axis"):
                objective(embeddings, wrong)
        with pytest.raises(BatchError, match=r"one entry per embedding(.|\n)*\(15, 6\)(.|\n)*\(14,\)"):
            objective(embeddings, labels[1:])


def refuses_labels_out_of_range(case: Case) -> None:
    embeddings, labels = batch()
    for wrong in (-1, CLASSES, 10**12):
        labels = labels.clone()
        labels[3] = wrong
        if case.learns_classes:
            with pytest.raises(BatchError, match=rf"0 … {CLASSES - 1}, but 1 of {ITEMS} do not: {wrong}"):
                case.make().double()(embeddings, labels)
        else:
            run(case, embeddings, labels)


def names_the_row_that_is_not_finite(case: Case) -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        embeddings, labels = batch()
        wrong = embeddings.detach().clone()
        wrong[7, 2] = value
        with pytest.raises(NumericError, match="1 of 15 rows are not: 7"):
            case.make().double()(wrong, labels)


def trains_two_steps(case: Case) -> None:
    objective, (embeddings, labels) = case.make().double(), batch()
    optimizer = torch.optim.SGD([embeddings, *objective.parameters()], lr=1e-3)
    values = []
    for _ in range(3):
        optimizer.zero_grad()
        value = objective(embeddings, labels)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[2] < values[1] < values[0]


def returns_from_its_state(case: Case) -> None:
    embeddings, labels = batch()
    first, second = case.make().double(), case.make().double()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(5), dtype=parameter.dtype))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(embeddings, labels), second(embeddings, labels))


def stays_finite_on_any_batch(case: Case) -> None:
    rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, CLASSES - 1)), min_size=2, max_size=12)
    scales = st.sampled_from((1e-8, 1e-3, 1.0, 1e3))
    dtypes = st.sampled_from((torch.float64, torch.float32, *HALVES))

    @settings(max_examples=100, derandomize=True, deadline=None, database=None)
    @given(rows, scales, dtypes, st.integers(0, 3))
    def holds(chosen: list[tuple[int, int]], scale: float, dtype: torch.dtype, seed: int) -> None:
        # four possible rows, one of them zero: duplicates inside and across classes come by themselves
        table = torch.randn(4, DIM, generator=generator(seed)) * scale
        table[3] = 0
        items, labels = torch.tensor(chosen).T
        if case.refuses_without_positives and len(labels.unique()) == len(labels):
            labels = labels * 0
        run(case, table[items].to(dtype), labels)

    holds()


PROMISES: dict[str, Callable[[Case], None]] = {
    promise.__name__: promise
    for promise in (
        teaches_embeddings_and_parameters,
        has_the_gradient_of_its_value,
        ignores_the_order_of_the_batch,
        ignores_a_rotation_if_declared,
        ignores_scaling_if_declared,
        survives_duplicates,
        survives_opposite_and_aligned_rows,
        survives_embeddings_on_their_class_vectors,
        survives_zero_rows_with_a_bounded_gradient,
        survives_extreme_scales,
        costs_nothing_without_positives,
        costs_nothing_without_negatives,
        costs_nothing_on_an_empty_batch,
        takes_every_floating_dtype,
        never_waits_for_the_device,
        keeps_its_precision_under_autocast,
        takes_every_integer_label,
        refuses_labels_of_another_kind,
        refuses_labels_out_of_range,
        names_the_row_that_is_not_finite,
        trains_two_steps,
        returns_from_its_state,
        stays_finite_on_any_batch,
    )
}

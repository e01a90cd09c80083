"""What students are taught by: held against slow loops in double precision, with gradients, and at the corners."""

import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from accord.ensembles import similarity_distillation, stress_loss
from accord.errors import BatchError, NumericError, UsageError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stress_by_loops(student: Tensor, teacher: Tensor) -> float:
    def distances(rows: Tensor) -> list[list[float]]:
        return [[sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]

    ours, theirs = distances(student), distances(teacher)
    sums = sum(map(sum, ours)), sum(map(sum, theirs))
    size = len(student)
    return size**2 * math.sqrt(
        sum((ours[a][b] / sums[0] - theirs[a][b] / sums[1]) ** 2 for a in range(size) for b in range(size))
    )


def distillation_by_loops(student: Tensor, teacher: Tensor, temperature: float, own: bool) -> float:
    def row(rows: Tensor, i: int) -> dict[int, float]:
        size = len(rows)
        cosines = {j: float(torch.cosine_similarity(rows[i], rows[j], dim=0)) for j in range(size) if own or j != i}
        weights = {j: math.exp(cosine / temperature) for j, cosine in cosines.items()}
        return {j: weight / sum(weights.values()) for j, weight in weights.items()}

    total = 0.0
    for i in range(len(student)):
        found, wanted = row(student, i), row(teacher, i)
        total += sum(p * math.log(p / found[j]) for j, p in wanted.items())
    return temperature**2 * total / len(student)


def test_stress_is_that_of_the_loop() -> None:
    student, teacher = drawn(7, 3), drawn(7, 9, seed=1)
    assert float(stress_loss(student, teacher)) == pytest.approx(stress_by_loops(student, teacher))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("own", [True, False])
def test_distillation_is_that_of_the_loop(temperature: float, own: bool) -> None:
    student, teacher = drawn(7, 3), drawn(7, 9, seed=1)
    found = similarity_distillation(student, teacher, temperature=temperature, own=own)
    assert float(found) == pytest.approx(distillation_by_loops(student, teacher, temperature, own))


@pytest.mark.parametrize("own", [True, False])
def test_gradients_are_right(own: bool) -> None:
    student, teacher = drawn(5, 3).requires_grad_(), drawn(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: stress_loss(x, teacher), student)
    assert torch.autograd.gradcheck(lambda x: similarity_distillation(x, teacher, temperature=0.5, own=own), student)


@pytest.mark.parametrize("taught", [stress_loss, similarity_distillation])
def test_the_teacher_learns_nothing(taught) -> None:
    student, teacher = drawn(5, 3).requires_grad_(), drawn(5, 4, seed=1).requires_grad_()
    taught(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_a_perfect_student_costs_nothing_whatever_its_scale_or_turn() -> None:
    teacher = drawn(6, 4)
    turn = torch.linalg.qr(drawn(4, 4, seed=1)).Q
    assert float(stress_loss(3 * teacher @ turn + 1, teacher)) == pytest.approx(0, abs=1e-6)
    assert float(similarity_distillation(3 * teacher @ turn, teacher)) == pytest.approx(0, abs=1e-12)
    same = teacher.clone().requires_grad_()
    stress_loss(same, teacher).backward()
    assert not same.grad.any()  # at the corner of the root, and not NaN


@pytest.mark.parametrize("rows", [torch.ones(4, 3), torch.zeros(4, 3), drawn(1, 3), drawn(0, 3)])
def test_a_batch_that_tells_nothing_costs_zero_and_carries_a_gradient(rows: Tensor) -> None:
    student = rows.double().requires_grad_()
    teacher = drawn(len(rows), 5)
    for taught in (stress_loss(student, teacher), stress_loss(student, torch.ones_like(teacher))):
        assert float(taught.detach()) == 0
        taught.backward()
    if len(rows) < 2:
        similarity_distillation(student, teacher).backward()
    assert not student.grad.any()
    assert float(similarity_distillation(drawn(2, 3), drawn(2, 3), own=False)) == 0


def test_rows_that_differ_by_rounding_alone_count_as_the_same() -> None:
    rows = torch.full((4, 3), 1.2345) * (1 + 1e-7 * torch.tensor([0.0, 1.0, -1.0, 0.0]))[:, None]
    assert float(stress_loss(rows, torch.randn(4, 5, generator=torch.Generator().manual_seed(0)))) == 0


def test_half_precision_is_close_and_finite() -> None:
    student, teacher = drawn(7, 3), drawn(7, 9, seed=1)
    for taught in (stress_loss, similarity_distillation):
        assert float(taught(student.bfloat16(), teacher.bfloat16())) == pytest.approx(
            float(taught(student, teacher)), rel=0.1, abs=0.02
        )


@pytest.mark.parametrize("taught", [stress_loss, similarity_distillation])
def test_what_does_not_fit_is_refused_by_name(taught, monkeypatch: pytest.MonkeyPatch) -> None:
    # the tests' annotation checks would answer before our own
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(BatchError, match=rf"{taught.__name__}.*same items.*\n  student: \(4, 3\)"):
        taught(drawn(4, 3), drawn(5, 3))
    broken = drawn(4, 3)
    broken[1, 1] = math.inf
    with pytest.raises(NumericError, match=f"{taught.__name__}: teacher must be finite"):
        taught(drawn(4, 3), broken)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="temperature"):
        similarity_distillation(drawn(4, 3), drawn(4, 3), temperature=0.0)

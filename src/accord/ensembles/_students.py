"""What a student of fewer numbers is taught by: the distances, or the neighbourhoods, of a teacher's embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor

from accord.checks import check_finite, check_flag, check_range, describe
from accord.errors import BatchError
from accord.geometry import cosine, full, squared_euclidean
from accord.types import Scalar

Student = Float[Tensor, "batch dim"]
Teacher = Float[Tensor, "batch number"]


def stress_loss(student: Student, teacher: Teacher) -> Scalar:
    """How far the student's squared distances are from the teacher's, up to one common scale.

    L = B² · ‖D1 / ΣD1 - D2 / ΣD2‖_F with D1, D2 the B × B squared Euclidean distances of the student's and of the
    teacher's rows: the compression loss in the code of Zabihzadeh, Alitbi & Mousavirad (arXiv 2107.01130). Each side is
    divided by its own sum, so no scale matters, but all pairs' errors count alike: far pairs weigh most. The teacher
    gets no gradient.

    Both are (batch, dim), each of its own dim. A batch whose rows are all the same, in either, costs zero and still
    carries a gradient.
    """
    _check_pair("stress_loss", student, teacher)
    ours, theirs = squared_euclidean(student, student), squared_euclidean(teacher.detach(), teacher.detach())
    ours, theirs = _diagonal_out(ours), _diagonal_out(theirs)
    if _same(student, ours) or _same(teacher, theirs):
        return full(student).sum() * 0
    apart = ours / ours.sum() - (theirs / theirs.sum()).to(ours.dtype)
    # the root of a sum of squares has no gradient at zero; a student that is perfect is left alone
    square = apart.square().sum()
    root = torch.where(square > 0, square, 1).sqrt() * (square > 0)
    return len(student) ** 2 * root


def similarity_distillation(
    student: Student, teacher: Teacher, *, temperature: float = 1.0, own: bool = True
) -> Scalar:
    """How far the student's neighbourhoods are from the teacher's.

    L = T² · mean_i KL(softmax(S*_i / T) ‖ softmax(S_i / T)), where S and S* are the cosines of all rows of the batch,
    the student's and the teacher's; the teacher is detached (Roth et al., S2SD, ICML 2021). T is `temperature`, more
    than 0; T² keeps the gradient's size. `own=False` leaves out an item's cosine with itself, which is 1 in both; the
    paper keeps it.

    Both are (batch, dim), each of its own dim. Batches too small to compare (one item, or two with `own=False`) cost
    zero and still carry a gradient.
    """
    check_range("similarity_distillation", "temperature", temperature, low=0, open_low=True)
    check_flag("similarity_distillation", "own", own)
    _check_pair("similarity_distillation", student, teacher)
    if len(student) < (2 if own else 3):
        return full(student).sum() * 0
    ours, theirs = cosine(student, student), cosine(teacher.detach(), teacher.detach())
    if not own:
        ours, theirs = _without_own(ours), _without_own(theirs)
    found = (ours / temperature).log_softmax(dim=1)
    wanted = (theirs.to(ours.dtype) / temperature).log_softmax(dim=1)
    return temperature**2 * (wanted.exp() * (wanted - found)).sum(dim=1).mean()


def _check_pair(who: str, student: Tensor, teacher: Tensor) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        raise BatchError(
            f"{who}: student and teacher must be (batch, dim) tensors of the same items.\n"
            f"  student: {describe(student)}\n  teacher: {describe(teacher)}"
        )
    check_finite(who, "student", student)
    check_finite(who, "teacher", teacher)


def _same(rows: Tensor, squares: Tensor) -> bool:
    """Whether all rows are the same, up to rounding: what is left of their distances would only be noise."""
    noise = 4 * torch.finfo(squares.dtype).eps * full(rows.detach()).norm()
    return not bool(squares.detach().sum() > len(rows) * noise.square())


def _diagonal_out(squares: Tensor) -> Tensor:
    """An item's distance to itself is zero, and not the rounding that is left of it."""
    return squares * ~torch.eye(len(squares), dtype=torch.bool, device=squares.device)


def _without_own(square: Tensor) -> Tensor:
    """The rows of a square without their own column."""
    size = len(square)
    return square.flatten()[1:].view(size - 1, size + 1)[:, :-1].reshape(size, size - 1)

"""A student beside its ensemble: what it is taught, what its teacher learns of it, and what is refused."""

import doctest
import math

import pytest
import torch
from torch import Tensor, nn

from accord.ensembles import Ensemble, FixedWeights, Taught, UncertaintyWeights, _taught, untaught
from accord.errors import BatchError, NumericError, UsageError
from accord.losses import Contrastive, TripletMargin

LABELS = torch.arange(8) % 3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(*, student: bool = True, trunk: bool = True) -> dict[str, Tensor]:
    found = {"pairs": drawn(8, 3, seed=1), "triplets": drawn(8, 4, seed=2)}
    if trunk:
        found["trunk"] = drawn(8, 5, seed=3)
    if student:
        found["student"] = drawn(8, 2, seed=4)
    return {name: head.requires_grad_() for name, head in found.items()}


def ensemble(weighting: nn.Module | None = None) -> Ensemble:
    plain = weighting or FixedWeights({"pairs": 1.0, "triplets": 3.0}, normalise=False)
    return Ensemble({"pairs": Contrastive(), "triplets": TripletMargin(mining="all")}, weighting=plain)


def network(numbers: int, dim: int, hidden: int = 6) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(numbers, hidden), nn.Tanh(), nn.Linear(hidden, dim)).double()


def joined_by_loops(found: dict[str, Tensor], shares: dict[str, float]) -> list[list[float]]:
    rows = []
    for item in range(8):
        row: list[float] = []
        for name, share in shares.items():
            numbers = found[name][item].tolist()
            length = math.sqrt(sum(x * x for x in numbers))
            row += [math.sqrt(share) * x / length for x in numbers]
        rows.append(row)
    return rows


def inner(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def distilled_by_loops(student: list[list[float]], teacher: list[list[float]], temperature: float) -> float:
    """T² · mean of KL between the rows' softmaxes of cosines."""

    def row(rows: list[list[float]], i: int) -> list[float]:
        cosines = [inner(rows[i], other) / math.sqrt(inner(rows[i], rows[i]) * inner(other, other)) for other in rows]
        weights = [math.exp(cosine / temperature) for cosine in cosines]
        return [weight / sum(weights) for weight in weights]

    total = 0.0
    for i in range(len(student)):
        total += sum(p * math.log(p / q) for p, q in zip(row(teacher, i), row(student, i), strict=True))
    return temperature**2 * total / len(student)


def stress_by_loops(student: list[list[float]], teacher: list[list[float]]) -> float:
    def distances(rows: list[list[float]]) -> list[list[float]]:
        return [[sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]

    ours, theirs = distances(student), distances(teacher)
    sums, size = (sum(map(sum, ours)), sum(map(sum, theirs))), range(len(student))
    return len(size) ** 2 * math.sqrt(
        sum((ours[a][b] / sums[0] - theirs[a][b] / sums[1]) ** 2 for a in size for b in size)
    )


SHARES = {"pairs": 0.1, "triplets": 0.3, "trunk": 0.6}  # 1 : 3 of what the trunk leaves


def test_a_distilled_student_costs_what_the_loop_says() -> None:
    found, objective = heads(), Taught(ensemble(), beside={"trunk": 0.6}, weight=2.0, temperature=0.3)
    loss = objective(found, LABELS)
    taught = distilled_by_loops(found["student"].tolist(), joined_by_loops(found, SHARES), 0.3)
    plain = ensemble()({name: found[name] for name in ("pairs", "triplets")}, LABELS)
    assert float(objective.terms["student"]) == pytest.approx(taught)
    assert loss.item() == pytest.approx(plain.item() + 2 * taught)
    assert list(objective.terms) == ["pairs", "triplets", "student"]


def test_weight_and_temperature_have_the_documented_values() -> None:
    found, objective = heads(), Taught(ensemble(), beside={"trunk": 0.6})
    loss = objective(found, LABELS)
    taught = distilled_by_loops(found["student"].tolist(), joined_by_loops(found, SHARES), 0.1)
    plain = ensemble()({name: found[name] for name in ("pairs", "triplets")}, LABELS)
    assert loss.item() == pytest.approx(plain.item() + 5 * taught)


def test_a_network_costs_what_the_loop_says_of_its_unit_vectors() -> None:
    found, objective = heads(student=False), Taught(ensemble(), network(12, 2), beside={"trunk": 0.6})
    loss = objective(found, LABELS)
    teacher = joined_by_loops(found, SHARES)
    first, last = objective.student[0], objective.student[2]
    student = []
    for row in teacher:
        inside = [math.tanh(inner(w, row) + b) for w, b in zip(first.weight.tolist(), first.bias.tolist(), strict=True)]
        out = [inner(w, inside) + b for w, b in zip(last.weight.tolist(), last.bias.tolist(), strict=True)]
        student.append([x / math.sqrt(inner(out, out)) for x in out])
    plain = ensemble()({name: found[name] for name in ("pairs", "triplets")}, LABELS)
    assert float(objective.terms["student"]) == pytest.approx(stress_by_loops(student, teacher))
    assert loss.item() == pytest.approx(plain.item() + stress_by_loops(student, teacher))


def test_the_teacher_learns_nothing_from_its_student() -> None:
    found, objective = heads(), Taught(ensemble(), beside={"trunk": 0.6})
    objective(found, LABELS).backward()
    plain = heads()
    ensemble()({name: plain[name] for name in ("pairs", "triplets")}, LABELS).backward()
    assert torch.equal(found["pairs"].grad, plain["pairs"].grad)
    assert torch.equal(found["triplets"].grad, plain["triplets"].grad)
    assert found["trunk"].grad is None
    assert found["student"].grad.abs().sum() > 0


def test_nothing_but_the_network_learns_from_stress() -> None:
    found, objective = heads(student=False), Taught(ensemble(), network(12, 2), beside={"trunk": 0.6})
    objective(found, LABELS).backward()
    plain = heads()
    ensemble()({name: plain[name] for name in ("pairs", "triplets")}, LABELS).backward()
    assert torch.equal(found["pairs"].grad, plain["pairs"].grad)
    assert found["trunk"].grad is None
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.student.parameters())


@pytest.mark.parametrize("kind", ["distil", "stress"])
def test_gradients_are_right(kind: str) -> None:
    fixed = {name: head.detach() for name, head in heads().items() if name != "student"}
    if kind == "distil":
        objective = Taught(ensemble(), beside={"trunk": 0.6}, temperature=0.5)
        assert torch.autograd.gradcheck(lambda x: objective({**fixed, "student": x}, LABELS), heads()["student"])
        return
    objective = Taught(ensemble(), network(12, 2), beside={"trunk": 0.6})
    weight = objective.student[0].weight

    def loss(x: Tensor) -> Tensor:
        return torch.func.functional_call(objective, {"student.0.weight": x}, (fixed, LABELS))

    assert torch.autograd.gradcheck(loss, weight.detach().clone().requires_grad_())


def test_the_teacher_goes_by_the_weights_of_the_moment() -> None:
    objective = Taught(ensemble(UncertaintyWeights({"pairs": 1.0, "triplets": 3.0})))
    fixed = Taught(ensemble(FixedWeights({"pairs": 2.0, "triplets": 3.0})))
    found = heads(trunk=False)
    for made, shares in ((objective, (0.25, 0.75)), (fixed, (0.4, 0.6))):
        own = {name: found[name] for name in ("pairs", "triplets")}
        expected = torch.tensor(joined_by_loops(found, dict(zip(own, shares, strict=True))), dtype=torch.float64)
        torch.testing.assert_close(made.teacher(own, {}), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("trunk", [True, False])
def test_a_single_loss_has_a_student_too(trunk: bool) -> None:
    objective = Taught(Contrastive(), beside={"trunk": 0.75} if trunk else None)
    found = {"contrastive": drawn(8, 3, seed=1), "student": drawn(8, 2, seed=4)}
    shares = {"contrastive": 1.0}
    if trunk:
        found["trunk"], shares = drawn(8, 5, seed=3), {"contrastive": 0.25, "trunk": 0.75}
    loss = objective(found, LABELS)
    taught = distilled_by_loops(found["student"].tolist(), joined_by_loops(found, shares), 0.1)
    alone = float(Contrastive()(found["contrastive"], LABELS))
    assert loss.item() == pytest.approx(alone + 5 * taught)
    assert {name: float(value) for name, value in objective.terms.items()} == pytest.approx(
        {"loss": alone, "student": taught}
    )


def test_one_embedding_of_all_losses_is_a_teacher_by_itself() -> None:
    found = {"shared": drawn(8, 3, seed=1), "student": drawn(8, 2, seed=4)}
    objective = Taught(ensemble())
    loss = objective(found, LABELS)
    taught = distilled_by_loops(found["student"].tolist(), joined_by_loops(found, {"shared": 1.0}), 0.1)
    assert loss.item() == pytest.approx(ensemble()(found["shared"], LABELS).item() + 5 * taught)


def test_a_network_takes_the_one_tensor_of_a_single_head() -> None:
    objective, rows = Taught(Contrastive(), network(3, 2)), drawn(8, 3)
    assert objective(rows, LABELS).item() == objective({"contrastive": rows}, LABELS).item()


def test_losses_keep_their_own_terms() -> None:
    class Telling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.terms = {"far": torch.ones(())}

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.sum()

    objective = Taught(Telling())
    objective({"a": drawn(8, 3), "student": drawn(8, 2)}, LABELS)
    assert list(objective.terms) == ["far", "student"]


def test_a_batch_of_one_adds_nothing_and_carries_a_gradient() -> None:
    found = {"pairs": drawn(1, 3).requires_grad_(), "student": drawn(1, 2).requires_grad_()}
    objective = Taught(Contrastive())
    objective(found, LABELS[:1]).backward()
    assert float(objective.terms["student"]) == 0
    assert not found["student"].grad.any()


def test_what_is_not_finite_is_named() -> None:
    found = heads()
    with torch.no_grad():
        found["student"][2, 1] = math.nan
    with pytest.raises(NumericError, match="student must be finite"):
        Taught(ensemble(), beside={"trunk": 0.6})(found, LABELS)
    objective = Taught(Contrastive(), nn.Sequential(network(3, 2), _Overflowing()))
    with pytest.raises(NumericError, match="student"):
        objective(drawn(8, 3), LABELS)


class _Overflowing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.inf


def test_a_failed_call_tells_no_old_terms_of_the_student() -> None:
    objective = Taught(ensemble(), beside={"trunk": 0.6})
    objective(heads(), LABELS)
    found = heads()
    with torch.no_grad():
        found["pairs"][0, 0] = math.inf
    with pytest.raises(NumericError):
        objective(found, LABELS)
    assert "student" not in objective.terms


def test_a_missing_head_is_named() -> None:
    objective = Taught(ensemble(), beside={"trunk": 0.6})
    with pytest.raises(BatchError, match="a head called 'trunk', and the heads are: pairs, student, triplets"):
        objective(heads(trunk=False), LABELS)
    with pytest.raises(BatchError, match="a head called 'student', and the heads are: pairs, triplets"):
        objective(heads(student=False), LABELS)
    with pytest.raises(BatchError, match="no head but those beside"):
        objective({"trunk": drawn(8, 3), "student": drawn(8, 2)}, LABELS)
    with pytest.raises(BatchError, match="'student', and the heads are: none"):
        Taught(Contrastive())({}, LABELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 0.0}, "weight"),
        ({"weight": -1.0}, "weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"beside": {"trunk": -0.1}}, "share of 'trunk'"),
        ({"beside": {"trunk": 0.7, "other": 0.7}}, "must be 1 at most in sum"),
        ({"beside": {"pairs": 0.5}}, "a member can't be called 'pairs'"),
        ({"network": nn.Linear(3, 2), "weight": 2.0}, "weight belongs to a student without a network"),
        ({"network": nn.Linear(3, 2), "temperature": 2.0}, "temperature belongs to a student without a network"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Taught(ensemble(), **options)


def test_a_member_called_student_is_refused() -> None:
    members = {"student": Contrastive(), "other": TripletMargin()}
    with pytest.raises(UsageError, match="a member can't be called 'student'"):
        Taught(Ensemble(members, weighting=FixedWeights()))


def test_what_it_wraps_can_be_had_again() -> None:
    inside = ensemble()
    assert untaught(Taught(inside)) is inside
    assert untaught(inside) is inside


def test_its_state_is_that_of_the_objective_and_the_network() -> None:
    names = set(Taught(ensemble(UncertaintyWeights()), network(7, 2)).state_dict())
    assert {name.partition(".")[0] for name in names} == {"objective", "student"}
    assert any("loss_weights" in name for name in names)


def test_a_distilled_student_comes_to_its_teachers_neighbourhoods() -> None:
    teacher, student = drawn(8, 3), drawn(8, 4, seed=4).requires_grad_()
    objective = Taught(Contrastive(), temperature=1.0)
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        objective({"contrastive": teacher, "student": student}, LABELS).backward()
        optimizer.step()
    ours, theirs = (torch.nn.functional.normalize(rows, dim=1) for rows in (student.detach(), teacher))
    torch.testing.assert_close(ours @ ours.T, theirs @ theirs.T, atol=0.05, rtol=0)


def test_the_example_runs() -> None:
    assert doctest.testmod(_taught).failed == 0

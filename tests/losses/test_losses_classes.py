"""Losses of the classification family: formulas, gradients, statistics, options, and parity with another library."""

import inspect
from collections.abc import Callable
from math import acos, cos, exp, floor, log, log1p, pi, sin, sqrt

import pytest
import torch
from pytorch_metric_learning import losses as peer
from torch import Tensor, nn

from accord.errors import BatchError, UnknownNameError, UsageError
from accord.losses import (
    AdaCos,
    AdaFace,
    Centre,
    CircleClasses,
    CurricularFace,
    DynamicMarginArcFace,
    ElasticFace,
    LargeMarginSoftmax,
    MagFace,
    P2SGrad,
    SmoothedCrossEntropy,
    SphereFace,
    ada_cos,
    ada_face,
    curricular_face,
    dynamic_margin_arc_face,
    elastic_face,
    mag_face,
    smoothed_cross_entropy,
    sphere_face,
)
from accord.losses._multiple_angle import multiple_angle
from accord.losses._own_margins import widened_each
from accord.losses._settings import row_engine
from accord.mining import Groups
from accord.recipes.catalog.classes import LOSSES
from conformance import without_shape_checks
from loss_cases_classes import CASES
from slow import Row, agrees, batch, dot, mean, squared, two_hundred, units

Slow = Callable[[Tensor, list[int]], float]


# ---- formulas ----------------------------------------------------------------------------------------------------


def entropy(logits: Row, label: int) -> float:
    top = max(logits)
    return log(sum(exp(value - top) for value in logits)) + top - logits[label]


def angle(cosine: float) -> float:
    return acos(max(-1.0, min(1.0, cosine)))


def widened(cosine: float, margin: float) -> float:
    turned = angle(cosine) + margin
    return cos(turned) if turned < pi else cosine - margin * sin(margin)


def psi(cosine: float, margin: int, annealing: float) -> float:
    k = min(floor(angle(cosine) * margin / pi), margin - 1)
    value = (-1) ** k * cos(margin * angle(cosine)) - 2 * k
    return (annealing * cosine + value) / (1 + annealing)


def length(x: Row) -> float:
    return sqrt(dot(x, x))


def cosines(embeddings: Tensor, weight: Tensor) -> list[Row]:
    return [[dot(x, w) for w in units(weight.detach())] for x in units(embeddings)]


def classified(weight: Tensor, logits: Callable[[Row, int, Row], Row]) -> Slow:
    """The mean cross-entropy of logits made of an item's cosines, its label and itself."""

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        rows = zip(cosines(embeddings, weight), labels, embeddings.tolist(), strict=True)
        return mean([entropy(logits(row, label, x), label) for row, label, x in rows])

    return slow


def replaced(row: Row, label: int, own: float, scale: float = 1.0) -> Row:
    return [scale * (own if column == label else value) for column, value in enumerate(row)]


def always_agrees(objective: Callable[[Tensor, Tensor], Tensor], slow: Slow) -> None:
    """As `agrees`, and the value on 200 random batches."""
    agrees(objective, slow)
    same_value(objective, slow)


def same_value(objective: Callable[[Tensor, Tensor], Tensor], slow: Slow) -> None:
    for seed in two_hundred():
        embeddings, labels = batch(100 + seed)
        assert objective(embeddings, labels).item() == pytest.approx(slow(embeddings, labels.tolist()), rel=1e-9)


def double(objective: nn.Module) -> nn.Module:
    return objective.double().eval()


@pytest.mark.parametrize("spread", ["all", "others"])
@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_smoothed_cross_entropy_meets_a_smoothed_target(spread: str, smoothing: float) -> None:
    objective = double(SmoothedCrossEntropy(4, 5, smoothing=smoothing, spread=spread))
    with torch.no_grad():
        objective.bias.copy_(torch.linspace(-1, 1, 5))

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        costs = []
        for x, label in zip(embeddings.tolist(), labels, strict=True):
            logits = [dot(x, w) + b for w, b in zip(objective.weight.tolist(), objective.bias.tolist(), strict=True)]
            target = [smoothing / (5 if spread == "all" else 4)] * 5
            target[label] = 1 - smoothing + (smoothing / 5 if spread == "all" else 0)
            costs.append(sum(share * entropy(logits, column) for column, share in enumerate(target)))
        return mean(costs)

    always_agrees(objective, slow)


def test_centre_is_half_the_squared_distance_to_the_own_centre() -> None:
    objective = double(Centre(4, 5))

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        centres = objective.centres.tolist()
        return mean([squared(x, centres[label]) / 2 for x, label in zip(embeddings.tolist(), labels, strict=True)])

    always_agrees(objective, slow)


def test_a_centre_steps_towards_the_mean_of_its_items() -> None:
    embeddings, labels = batch(0)
    objective = double(Centre(4, 5))
    before = objective.centres.detach().clone()
    objective(embeddings, labels).backward()
    torch.optim.SGD(objective.parameters(), lr=len(labels) / 3).step()
    torch.testing.assert_close(objective.centres[1].detach(), embeddings[labels == 1].mean(dim=0))
    assert torch.equal(objective.centres[4], before[4])


@pytest.mark.parametrize(("margin", "annealing"), [(4, 0.0), (4, 5.0), (3, 0.0), (2, 1.0), (1, 0.0), (7, 0.5)])
def test_sphere_face_multiplies_the_own_angle(margin: int, annealing: float) -> None:
    objective = double(SphereFace(4, 5, margin=margin, annealing=annealing))

    def logits(row: Row, label: int, x: Row) -> Row:
        return replaced(row, label, psi(row[label], margin, annealing), length(x))

    always_agrees(objective, classified(objective.weight, logits))


@pytest.mark.parametrize(("margin", "annealing"), [(4, 0.0), (4, 5.0), (3, 0.0), (2, 1.0), (1, 0.0)])
def test_large_margin_softmax_keeps_the_length_of_class_vectors(margin: int, annealing: float) -> None:
    objective = double(LargeMarginSoftmax(4, 5, margin=margin, annealing=annealing))

    def logits(row: Row, label: int, x: Row) -> Row:
        changed = replaced(row, label, psi(row[label], margin, annealing), length(x))
        return [value * length(w) for value, w in zip(changed, objective.weight.tolist(), strict=True)]

    always_agrees(objective, classified(objective.weight, logits))


@pytest.mark.parametrize("kind", [SphereFace, LargeMarginSoftmax])
def test_annealing_may_change_while_training(kind: type) -> None:
    embeddings, labels = batch(0)
    objective = kind(4, 5, annealing=1000.0).double()
    early = objective(embeddings, labels)
    objective.annealing = 5.0
    assert torch.equal(objective(embeddings, labels), kind(4, 5, annealing=5.0).double()(embeddings, labels))
    assert objective(embeddings, labels) > early
    objective.annealing = -1.0
    with pytest.raises(UsageError, match="annealing must be at least 0"):
        objective(embeddings, labels)


@pytest.mark.parametrize("margin", range(1, 8))
def test_multiple_angle_falls_all_the_way_and_has_the_slope_of_its_value(margin: int) -> None:
    angles = torch.linspace(0, pi, 1001, dtype=torch.float64)
    cosine = angles.cos().requires_grad_()
    value, slope = multiple_angle(cosine, margin, 0.0)
    (found,) = torch.autograd.grad(value.sum(), cosine)
    torch.testing.assert_close(found, slope)
    assert bool((value.diff() <= 1e-12).all())
    assert slope.abs().max() <= margin**2 + 1e-9
    assert value[[0, -1]].tolist() == pytest.approx([1, 1 - 2 * margin])


@pytest.mark.parametrize("classes", [5, 12])
def test_ada_cos_is_softmax_at_a_scale_that_classes_decide(classes: int) -> None:
    objective = double(AdaCos(4, classes, dynamic=False))
    scale = sqrt(2) * log(classes - 1)
    slow = classified(objective.weight, lambda row, label, x: [scale * value for value in row])
    always_agrees(objective, slow)
    always_agrees(lambda x, y: ada_cos(x, y, objective.weight), slow)


def test_ada_cos_computes_its_scale_from_the_batch_and_the_scale_before() -> None:
    objective = AdaCos(4, 5).double()
    scale = objective.scale.item()
    for seed in range(20):
        embeddings, labels = batch(seed)
        rows = cosines(embeddings, objective.weight)
        own = sorted(row[label] for row, label in zip(rows, labels.tolist(), strict=True))
        sums = [
            sum(exp(scale * value) for column, value in enumerate(row) if column != label)
            for row, label in zip(rows, labels.tolist(), strict=True)
        ]
        scale = log(mean(sums)) / cos(min(pi / 4, acos(own[len(own) // 2])))
        value = objective(embeddings, labels).item()
        assert objective.scale.item() == pytest.approx(scale, rel=1e-9)
        expected = classified(objective.weight, lambda row, label, x: [scale * value for value in row])  # noqa: B023
        assert value == pytest.approx(expected(embeddings, labels.tolist()), rel=1e-9)


def test_ada_cos_on_an_even_batch_takes_the_middle_of_both_middle_cosines() -> None:
    objective = AdaCos(4, 5).double()
    labels = torch.tensor([0, 1])
    near = torch.nn.functional.normalize(objective.weight.detach()[labels], dim=1)
    before = objective.scale.clone()
    objective(near, labels)
    sums = ((before * near @ torch.nn.functional.normalize(objective.weight.detach(), dim=1).T).exp()).sum(dim=1)
    sums = sums - before.exp()
    assert objective.scale.item() == pytest.approx(sums.mean().log().item(), rel=1e-9)


def ada_own(cosine: float, quality: float, margin: float) -> float:
    return cos(min(pi, max(0.0, angle(cosine) - margin * quality))) - margin * (1 + quality)


def test_ada_face_fits_the_margin_to_the_length() -> None:
    objective = double(AdaFace(4, 5, scale=8.0))
    with torch.no_grad():
        objective.mean.fill_(1.0)
        objective.deviation.fill_(0.3)

    def logits(row: Row, label: int, x: Row) -> Row:
        quality = max(-1.0, min(1.0, 0.333 * (length(x) - 1.0) / (0.3 + 1e-3)))
        return replaced(row, label, ada_own(row[label], quality, 0.4), 8.0)

    same_value(objective, classified(objective.weight, logits))


def test_ada_face_without_a_say_of_quality_lowers_the_own_cosine() -> None:
    objective = double(AdaFace(4, 5, scale=8.0, h=0.0))
    slow = classified(objective.weight, lambda row, label, x: replaced(row, label, row[label] - 0.4, 8.0))
    always_agrees(objective, slow)


def test_ada_face_measures_quality_without_a_gradient() -> None:
    objective = double(AdaFace(4, 5, scale=8.0))
    with torch.no_grad():
        objective.mean.fill_(1.0)
        objective.deviation.fill_(0.3)
    for seed in range(10):
        embeddings, labels = batch(seed)
        embeddings.requires_grad_()
        unit = nn.functional.normalize(embeddings, dim=1)
        cosine = unit @ nn.functional.normalize(objective.weight, dim=1).T
        quality = (0.333 * (embeddings.detach().norm(dim=1) - 1) / 0.301).clamp(-1, 1)
        angles = cosine.gather(1, labels[:, None])[:, 0].acos() - 0.4 * quality
        own = angles.clamp(0, pi).cos() - 0.4 * (1 + quality)
        expected = nn.functional.cross_entropy(8 * cosine.scatter(1, labels[:, None], own[:, None]), labels)
        gradients = torch.autograd.grad(expected, (embeddings, objective.weight))
        found = torch.autograd.grad(objective(embeddings, labels), (embeddings, objective.weight))
        torch.testing.assert_close(found, gradients)


def curricular(weight: Tensor, t: float, margin: float, scale: float) -> Slow:
    def logits(row: Row, label: int, x: Row) -> Row:
        own = widened(row[label], margin)
        return replaced([c * (t + c) if c > own else c for c in row], label, own, scale)

    return classified(weight, logits)


@pytest.mark.parametrize("t", [0.0, 0.3])
def test_curricular_face_weighs_hard_negatives(t: float) -> None:
    objective = double(CurricularFace(4, 5, scale=8.0))
    with torch.no_grad():
        objective.t.fill_(t)
    always_agrees(objective, curricular(objective.weight, t, 0.5, 8.0))


def test_mag_face_widens_the_angle_of_long_items_and_rewards_length() -> None:
    objective = double(
        MagFace(4, 5, shortest=0.6, longest=1.5, smallest=0.2, largest=0.9, regularisation=3.0, scale=8.0)
    )

    def size(x: Row) -> float:
        return max(0.6, min(1.5, length(x)))

    def logits(row: Row, label: int, x: Row) -> Row:
        return replaced(row, label, widened(row[label], 0.2 + 0.7 / 0.9 * (size(x) - 0.6)), 8.0)

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        prices = [3 * (1 / size(x) + size(x) / 1.5**2) for x in embeddings.tolist()]
        return classified(objective.weight, logits)(embeddings, labels) + mean(prices)

    always_agrees(objective, slow)


@pytest.mark.parametrize("margin_on", ["angle", "cosine"])
def test_elastic_face_draws_a_margin_for_every_item(margin_on: str) -> None:
    objective = ElasticFace(4, 5, scale=8.0, deviation=0.2, margin_on=margin_on).double()
    for seed in range(50):
        embeddings, labels = batch(seed)
        margins = (0.5 + 0.2 * torch.randn(11, generator=objective.draws.clone_state()).double()).tolist()
        costs = []
        for row, label, margin in zip(cosines(embeddings, objective.weight), labels.tolist(), margins, strict=True):
            own = widened(row[label], margin) if margin_on == "angle" else row[label] - margin
            costs.append(entropy(replaced(row, label, own, 8.0), label))
        assert objective(embeddings, labels).item() == pytest.approx(mean(costs), rel=1e-9)


@pytest.mark.parametrize("margin_on", ["angle", "cosine"])
def test_elastic_face_evaluates_with_the_middle_margin(margin_on: str) -> None:
    objective = double(ElasticFace(4, 5, scale=8.0, margin_on=margin_on))

    def logits(row: Row, label: int, x: Row) -> Row:
        own = widened(row[label], 0.5) if margin_on == "angle" else row[label] - 0.5
        return replaced(row, label, own, 8.0)

    always_agrees(objective, classified(objective.weight, logits))
    always_agrees(
        lambda x, y: elastic_face(x, y, objective.weight, scale=8.0, margin_on=margin_on),
        classified(objective.weight, logits),
    )


def test_dynamic_margins_are_wider_for_smaller_classes() -> None:
    counts = [1, 40, 7, 200, 7]
    objective = double(DynamicMarginArcFace(4, 5, counts=counts, scale=8.0))
    high, low = 1.0, 200**-0.25
    margins = [0.05 + 0.45 * (n**-0.25 - low) / (high - low) for n in counts]
    assert (margins[0], margins[3]) == (0.5, 0.05)

    def logits(row: Row, label: int, x: Row) -> Row:
        return replaced(row, label, widened(row[label], margins[label]), 8.0)

    always_agrees(objective, classified(objective.weight, logits))


def circle_value(row: Row, label: int, m: float, gamma: float) -> float:
    pushes = [exp(gamma * max(0.0, s + m) * (s - m)) for column, s in enumerate(row) if column != label]
    return log1p(sum(pushes) * exp(-gamma * max(0.0, 1 + m - row[label]) * (row[label] - (1 - m))))


@pytest.mark.parametrize(("margin", "gamma"), [(0.25, 8.0), (0.4, 80.0), (-0.2, 3.0)])
def test_circle_of_classes_paces_every_cosine(margin: float, gamma: float) -> None:
    objective = double(CircleClasses(4, 5, margin=margin, gamma=gamma))

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        rows = zip(cosines(embeddings, objective.weight), labels, strict=True)
        return mean([circle_value(row, label, margin, gamma) for row, label in rows])

    same_value(objective, slow)


def test_circle_of_classes_takes_paces_for_constants() -> None:
    objective = double(CircleClasses(4, 5, gamma=8.0))
    embeddings, labels = batch(0)
    embeddings.requires_grad_()
    cosine = nn.functional.normalize(embeddings, dim=1) @ nn.functional.normalize(objective.weight, dim=1).T
    own = nn.functional.one_hot(labels, 5).bool()
    pushes = 8 * (cosine.detach() + 0.25).relu() * (cosine - 0.25)
    pulls = 8 * (1.25 - cosine.detach()).relu() * (cosine - 0.75)
    excess = pushes.masked_fill(own, -torch.inf).logsumexp(dim=1) - pulls[own]
    gradients = torch.autograd.grad(excess.exp().log1p().mean(), (embeddings, objective.weight))
    torch.testing.assert_close(
        torch.autograd.grad(objective(embeddings, labels), (embeddings, objective.weight)), gradients
    )


def test_p2s_grad_regresses_cosines_to_one_and_zero() -> None:
    objective = double(P2SGrad(4, 5))

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        rows = zip(cosines(embeddings, objective.weight), labels, strict=True)
        return mean([sum((c - (column == label)) ** 2 for column, c in enumerate(row)) / 2 for row, label in rows])

    always_agrees(objective, slow)


# ---- gradients by hand -------------------------------------------------------------------------------------------

HAND: dict[str, Callable[[int, int], nn.Module]] = {
    "smoothed": SmoothedCrossEntropy,
    "smoothed, others": lambda dim, classes: SmoothedCrossEntropy(dim, classes, smoothing=0.3, spread="others"),
    "unsmoothed": lambda dim, classes: SmoothedCrossEntropy(dim, classes, smoothing=0.0),
    "sphere": SphereFace,
    "sphere annealed": lambda dim, classes: SphereFace(dim, classes, margin=3, annealing=2.0),
    "large margin": LargeMarginSoftmax,
    "large margin annealed": lambda dim, classes: LargeMarginSoftmax(dim, classes, margin=2, annealing=2.0),
    "ada cos": AdaCos,
    "ada face": lambda dim, classes: AdaFace(dim, classes, h=40.0),
    "curricular": CurricularFace,
    "mag": lambda dim, classes: MagFace(dim, classes, shortest=1.0, longest=4.0),
    "elastic": ElasticFace,
    "elastic on cosines": lambda dim, classes: ElasticFace(dim, classes, margin_on="cosine"),
    "dynamic": DynamicMarginArcFace,
    "circle": CircleClasses,
    "gentle circle": lambda dim, classes: CircleClasses(dim, classes, margin=0.4, gamma=5.0),
    "p2s": P2SGrad,
    "centre": Centre,
}


def unbalanced(seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Fifty items: 60 % of one class, many of which lie near or on or opposite to its vector, others alone."""
    source = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(50, 8, generator=source, dtype=torch.float64) * 0.8
    labels = torch.cat([torch.zeros(30, dtype=torch.int64), torch.arange(1, 21)])
    order = torch.randperm(50, generator=source)
    return embeddings[order].to(dtype).requires_grad_(), labels[order]


def evaluate(objective: nn.Module, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    value = objective(embeddings, labels)
    return value.detach(), *torch.autograd.grad(value, (embeddings, *objective.parameters()))


def stirred(name: str, dtype: torch.dtype) -> nn.Module:
    """An evaluating loss whose parameters and statistics are not at their first values."""
    objective = HAND[name](8, 21).to(dtype).eval()
    with torch.no_grad():
        for key, tensor in [*objective.named_parameters(), *objective.named_buffers()]:
            if key in ("bias", "t"):
                tensor.copy_(torch.linspace(-0.5, 1, tensor.numel()).reshape(tensor.shape))
            elif key == "mean":
                tensor.fill_(2.2)
            elif key == "counts":
                tensor.copy_(torch.arange(1, 22) ** 2)
    return objective


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_by_hand_is_that_of_autograd(name: str, dtype: torch.dtype) -> None:
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    objective = stirred(name, dtype)
    for seed in range(5):
        embeddings, labels = unbalanced(seed, dtype)
        with row_engine(plain=True):
            expected = evaluate(objective, embeddings, labels)
        for block_bytes in (2 * 2**20, 1000):
            with row_engine(block_bytes=block_bytes):
                found = evaluate(objective, embeddings, labels)
            torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", HAND)
def test_a_slot_for_every_class_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = stirred(name, torch.float64)
    embeddings, labels = unbalanced(0, torch.float64)
    expected = evaluate(objective, embeddings, labels)
    # as on an accelerator, where own columns are a mask
    monkeypatch.setattr(Groups, "_list", lambda self, labels, keys: None)
    torch.testing.assert_close(evaluate(objective, embeddings, labels), expected)
    with row_engine(plain=True):
        torch.testing.assert_close(evaluate(objective, embeddings, labels), expected)


@pytest.mark.parametrize("name", HAND)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_gradient_on_and_opposite_to_a_class_vector_is_finite_and_bounded(
    name: str, dtype: torch.dtype, sign: int
) -> None:
    objective = stirred(name, dtype)
    usual = evaluate(objective, *unbalanced(0, dtype))[1].abs().max()
    vectors = next(objective.parameters()).detach()
    embeddings = (sign * vectors * (1 + 1e-6)).requires_grad_()
    found = evaluate(objective, embeddings, torch.arange(21))
    assert all(bool(part.isfinite().all()) for part in found)
    assert found[1].abs().max() <= 100 * usual


def test_a_widened_angle_has_the_slopes_of_its_value() -> None:
    cosine = torch.linspace(-0.99, 0.99, 99, dtype=torch.float64).requires_grad_()
    for margin in (-0.3, 0.0, 0.5, 1.2):
        margins = torch.full_like(cosine, margin).detach().requires_grad_()
        target, by_cosine, by_margin = widened_each(cosine, margins)
        torch.testing.assert_close(torch.autograd.grad(target.sum(), (cosine, margins)), (by_cosine, by_margin))


# ---- statistics --------------------------------------------------------------------------------------------------

KEEPING: dict[str, Callable[[], nn.Module]] = {
    "ada cos": lambda: AdaCos(4, 5),
    "ada face": lambda: AdaFace(4, 5),
    "curricular": lambda: CurricularFace(4, 5),
    "dynamic": lambda: DynamicMarginArcFace(4, 5),
    "elastic": lambda: ElasticFace(4, 5, deviation=0.2),
}


@pytest.mark.parametrize("name", KEEPING)
def test_statistics_move_while_training_only(name: str) -> None:
    objective = KEEPING[name]().double()
    first = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    assert len(first) > 1
    objective.eval()(*batch(0))
    assert all(torch.equal(tensor, first[key]) for key, tensor in objective.state_dict().items())
    objective.train()(*batch(0))
    moved = [key for key, tensor in objective.state_dict().items() if not torch.equal(tensor, first[key])]
    assert sorted(moved) == sorted(key for key in first if key != "weight")


@pytest.mark.parametrize("name", KEEPING)
def test_a_resumed_loss_goes_on_as_if_nothing_had_happened(name: str) -> None:
    one, other = KEEPING[name]().double(), KEEPING[name]().double()
    for seed in range(3):
        one(*batch(seed))
    other.load_state_dict({key: tensor.clone() for key, tensor in one.state_dict().items()})
    for seed in range(3, 6):
        assert torch.equal(one(*batch(seed)), other(*batch(seed)))


@pytest.mark.parametrize("name", KEEPING)
def test_a_batch_may_come_between_a_value_and_its_gradient(name: str) -> None:
    objective, alone = KEEPING[name]().double(), KEEPING[name]().double()
    embeddings, labels = batch(0)
    embeddings.requires_grad_()
    value = objective(embeddings, labels)
    objective(*batch(1))
    (found,) = torch.autograd.grad(value, embeddings)
    assert torch.equal(found, torch.autograd.grad(alone(embeddings, labels), embeddings)[0])


@pytest.mark.parametrize("name", KEEPING)
def test_statistics_carry_no_gradient_and_need_no_value(name: str) -> None:
    objective, (embeddings, labels) = KEEPING[name]().double(), batch(0)
    for _ in range(2):
        objective(embeddings.requires_grad_(), labels).backward()
    assert not any(tensor.requires_grad for tensor in objective.buffers())
    away = KEEPING[name]().double().to("meta")
    assert away(embeddings.to("meta"), labels.to("meta")).shape == ()


@pytest.mark.parametrize("name", KEEPING)
def test_an_empty_batch_leaves_statistics_alone(name: str) -> None:
    objective = KEEPING[name]()
    first = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    assert objective(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)) == 0
    assert all(torch.equal(tensor, first[key]) for key, tensor in objective.state_dict().items())


@pytest.mark.parametrize("name", KEEPING)
def test_training_refuses_a_label_out_of_range_before_counting(name: str) -> None:
    objective = KEEPING[name]()
    first = {key: tensor.clone() for key, tensor in objective.state_dict().items()}
    with pytest.raises(BatchError, match="0 … 4, but 1 of 2 do not: 5"):
        objective(torch.ones(2, 4), torch.tensor([0, 5]))
    kept = ("counts", "t", "scale")
    assert all(torch.equal(tensor, first[key]) for key, tensor in objective.state_dict().items() if key in kept)


def test_ada_face_follows_mean_and_deviation_of_lengths() -> None:
    objective = AdaFace(4, 5, t_alpha=0.25).double()
    mean_, deviation = 20.0, 100.0
    for seed in range(3):
        embeddings, labels = batch(seed)
        objective(embeddings, labels)
        lengths = [length(x) for x in embeddings.tolist()]
        middle = mean(lengths)
        spread = sqrt(sum((value - middle) ** 2 for value in lengths) / (len(lengths) - 1))
        mean_, deviation = 0.75 * mean_ + 0.25 * middle, 0.75 * deviation + 0.25 * spread
        assert objective.mean.item() == pytest.approx(mean_, rel=1e-9)
        assert objective.deviation.item() == pytest.approx(deviation, rel=1e-9)
    objective(embeddings[:1], labels[:1])  # one length has no deviation
    assert objective.deviation.item() == pytest.approx(deviation, rel=1e-9)


def test_curricular_face_follows_the_own_cosine_and_uses_it_at_once() -> None:
    objective, t = CurricularFace(4, 5, alpha=0.25, scale=8.0).double(), 0.0
    for seed in range(3):
        embeddings, labels = batch(seed)
        value = objective(embeddings, labels).item()
        rows = cosines(embeddings, objective.weight)
        t = 0.75 * t + 0.25 * mean([row[label] for row, label in zip(rows, labels.tolist(), strict=True)])
        assert objective.t.item() == pytest.approx(t, rel=1e-9)
        expected = curricular(objective.weight, t, 0.5, 8.0)(embeddings, labels.tolist())
        assert value == pytest.approx(expected, rel=1e-9)


def test_dynamic_margins_count_the_items_they_see() -> None:
    objective = DynamicMarginArcFace(4, 5).double()
    embeddings, labels = batch(0)
    objective(embeddings, labels)
    assert objective.counts.tolist() == [5, 4, 4, 2, 1]
    told = DynamicMarginArcFace(4, 5, counts=objective.counts).double()
    expected = told(embeddings, labels)
    assert torch.equal(objective.eval()(embeddings, labels), expected)
    assert torch.equal(told.counts, objective.counts)


def test_dynamic_margins_of_equal_classes_are_the_smallest() -> None:
    weight = DynamicMarginArcFace(4, 5).double().weight
    embeddings, labels = batch(0)
    equal = dynamic_margin_arc_face(embeddings, labels, weight, torch.full((5,), 9.0))
    torch.testing.assert_close(equal, elastic_face(embeddings, labels, weight, margin=0.05))


def test_elastic_face_draws_from_its_own_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same = ElasticFace(4, 5), ElasticFace(4, 5)
    other = ElasticFace(4, 5, generator=torch.Generator().manual_seed(1))
    embeddings, labels = batch(0)
    x = embeddings.float()
    assert torch.equal(one(x, labels), same(x, labels))
    other.load_state_dict({**other.state_dict(), "weight": one.weight.detach()})
    same.set_extra_state(other.get_extra_state())
    assert torch.equal(same(x, labels), other(x, labels))
    assert torch.equal(torch.get_rng_state(), before)


def test_losses_with_statistics_train() -> None:
    embeddings, labels = batch(0)
    for make in KEEPING.values():
        objective = make().double()
        x = embeddings.clone().requires_grad_()
        optimizer = torch.optim.SGD([x, *objective.parameters()], lr=1e-2)
        values = []
        for _ in range(60):
            optimizer.zero_grad()
            value = objective(x, labels)
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert mean(values[-5:]) < mean(values[:5]) * 0.9


# ---- options -----------------------------------------------------------------------------------------------------

WRONG: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: SmoothedCrossEntropy(4, 5, smoothing=1.0), "smoothing must be at least 0 and less than 1"),
    (lambda: SphereFace(4, 5, margin=0), "sphere_face: margin must be a whole number of at least 1"),
    (lambda: SphereFace(4, 5, margin=2.5), "sphere_face: margin must be a whole number"),
    (lambda: SphereFace(4, 5, annealing=-1.0), "annealing must be at least 0"),
    (lambda: LargeMarginSoftmax(4, 5, margin=0), "large_margin_softmax: margin must be a whole number"),
    (lambda: LargeMarginSoftmax(4, 5, annealing=-1.0), "annealing must be at least 0"),
    (lambda: AdaCos(4, 2), "at least 3 classes, not 2"),
    (lambda: AdaFace(4, 5, margin=2.0), "margin must be at least 0 and at most 1.5708"),
    (lambda: AdaFace(4, 5, h=-1.0), "h must be at least 0"),
    (lambda: AdaFace(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: AdaFace(4, 5, t_alpha=1.5), "t_alpha must be at least 0 and at most 1"),
    (lambda: CurricularFace(4, 5, margin=-0.1), "margin must be at least 0"),
    (lambda: CurricularFace(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: CurricularFace(4, 5, alpha=-0.1), "alpha must be at least 0"),
    (lambda: MagFace(4, 5, shortest=0.0), "shortest must be more than 0"),
    (lambda: MagFace(4, 5, longest=5.0), "shortest must be less than longest, not 10.0 and 5.0"),
    (lambda: MagFace(4, 5, smallest=0.9), "smallest must be at most largest, not 0.9 and 0.8"),
    (lambda: MagFace(4, 5, largest=3.0), "largest must be at least 0 and at most 1.57"),
    (lambda: MagFace(4, 5, regularisation=-1.0), "regularisation must be at least 0"),
    (lambda: MagFace(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: ElasticFace(4, 5, margin=-0.1), "margin must be at least 0"),
    (lambda: ElasticFace(4, 5, deviation=-0.1), "deviation must be at least 0"),
    (lambda: ElasticFace(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: DynamicMarginArcFace(4, 5, smallest=0.6), "smallest must be at most largest, not 0.6 and 0.5"),
    (lambda: DynamicMarginArcFace(4, 5, largest=2.0), "largest must be at least 0 and at most"),
    (lambda: DynamicMarginArcFace(4, 5, power=0.0), "power must be more than 0"),
    (lambda: DynamicMarginArcFace(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: DynamicMarginArcFace(4, 5, counts=[1, 2, 3]), r"counts must be one number per class \(5\), not \(3,\)"),
    (lambda: CircleClasses(4, 5, margin=1.0), "margin must be more than -1 and less than 1"),
    (lambda: CircleClasses(4, 5, gamma=0.0), "gamma must be more than 0"),
    (lambda: sphere_face(*batch(0), torch.ones(5, 4).double(), margin=0), "margin must be a whole number"),
    (lambda: mag_face(*batch(0), torch.ones(5, 4).double(), shortest=0.0), "shortest must be more than 0"),
)
MISSPELT: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: SmoothedCrossEntropy(4, 5, spread="other"), "others"),
    (lambda: ElasticFace(4, 5, margin_on="angles"), "angle"),
)
LEARNING = (
    SmoothedCrossEntropy,
    Centre,
    SphereFace,
    LargeMarginSoftmax,
    AdaCos,
    AdaFace,
    CurricularFace,
    MagFace,
    ElasticFace,
    DynamicMarginArcFace,
    CircleClasses,
    P2SGrad,
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(("make", "suggestion"), MISSPELT, ids=[suggestion for _, suggestion in MISSPELT])
def test_suggests_the_option_that_was_meant(make: Callable[[], object], suggestion: str) -> None:
    with without_shape_checks(), pytest.raises(UnknownNameError, match=f"Did you mean '{suggestion}'"):
        make()


@pytest.mark.parametrize("kind", LEARNING)
def test_refuses_no_dimension_and_a_single_class(kind: type) -> None:
    with pytest.raises(UsageError, match="dim must be a whole number of at least 1, not 0"):
        kind(0, 5)
    with pytest.raises(UsageError, match=r"at least (2|3)( classes)?, not 1"):
        kind(4, 1)


@pytest.mark.parametrize("kind", LEARNING)
def test_first_vectors_come_from_the_generator_alone(kind: type) -> None:
    before = torch.get_rng_state()
    default, same, other = kind(64, 50), kind(64, 50), kind(64, 50, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    first, second, third = (next(module.parameters()) for module in (default, same, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert first.std().item() == pytest.approx(1 / 8, rel=0.05)


def test_functions_take_statistics_as_arguments() -> None:
    embeddings, labels = batch(0)
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    cases: tuple[tuple[nn.Module, Tensor], ...] = (
        (AdaCos(4, 5), ada_cos(embeddings, labels, weight, 1.5 * one)),
        (AdaFace(4, 5), ada_face(embeddings, labels, weight, 1.5 * one, 1.5 * one)),
        (CurricularFace(4, 5), curricular_face(embeddings, labels, weight, 1.5 * one)),
        (DynamicMarginArcFace(4, 5), dynamic_margin_arc_face(embeddings, labels, weight, torch.full((5,), 1.5))),
        (SmoothedCrossEntropy(4, 5), smoothed_cross_entropy(embeddings, labels, weight, torch.zeros(5).double())),
    )
    for objective, expected in cases:
        objective.double().eval()
        with torch.no_grad():
            objective.weight.copy_(weight)
            for tensor in objective.buffers():
                tensor.fill_(1.5)
        assert torch.equal(objective(embeddings, labels), expected)


# ---- another library ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("margin", [4, 3, 2])
@pytest.mark.parametrize(
    ("ours", "theirs"), [(SphereFace, peer.SphereFaceLoss), (LargeMarginSoftmax, peer.LargeMarginSoftmaxLoss)]
)
def test_agrees_with_pytorch_metric_learning(ours: type, theirs: type, margin: int) -> None:
    for seed in range(20):
        embeddings, labels = batch(seed)
        embeddings = (2 * embeddings).requires_grad_()
        one, other = ours(4, 5, margin=margin).double(), theirs(5, 4, margin=margin).double()
        with torch.no_grad():
            other.W.copy_(one.weight.T)
        value, expected = one(embeddings, labels), other(embeddings, labels)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        found = torch.autograd.grad(value, (embeddings, one.weight))
        gradients = torch.autograd.grad(expected, (embeddings, other.W))
        torch.testing.assert_close(found, (gradients[0], gradients[1].T), rtol=1e-5, atol=1e-5)


# ---- the catalogue -----------------------------------------------------------------------------------------------


def test_the_catalogue_tells_every_option() -> None:
    for name, info in LOSSES.items():
        kind = {each.__name__: each for each in LEARNING}[info.path.rpartition(".")[2]]
        names = set(inspect.signature(kind).parameters) - {"dim", "classes", "generator"}
        assert set(info.options) == names, name
        assert info.family == "classification"


def test_every_loss_here_is_in_the_catalogue_and_a_case() -> None:
    names = {info.path.rpartition(".")[2] for info in LOSSES.values()}
    assert names == {kind.__name__ for kind in LEARNING}
    assert names == {type(case.make()).__name__ for case in CASES}

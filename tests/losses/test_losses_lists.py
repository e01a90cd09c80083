"""List-wise losses: each equals a slow loop from its paper, the peer where that is right, and its own autograd."""

from collections.abc import Callable
from inspect import signature
from math import exp, log1p, sqrt
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses as peers
from torch import Tensor, nn

from accord.errors import UnknownNameError, UsageError
from accord.losses import PNP, FastAP, RankedList, RecallAtK, SmoothAP, SupAP, pnp, ranked_list, recall_at_k, sup_ap
from accord.losses._settings import row_engine
from accord.recipes.catalog.lists import LOSSES
from conformance import without_shape_checks
from slow import Row, agrees, batch, dot, mean, squared, two_hundred, units

Slow = Callable[[Tensor, list[int]], float]
Query = Callable[[list[float], list[float]], float]


def logistic(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > 0 else exp(x) / (1 + exp(x))


def sides(values: Callable[[Row, Row], float], x: list[Row], labels: list[int], i: int) -> tuple[list[float], ...]:
    others = [j for j in range(len(x)) if j != i]
    positives = [values(x[i], x[j]) for j in others if labels[j] == labels[i]]
    return positives, [values(x[i], x[j]) for j in others if labels[j] != labels[i]]


def per_query(cost: Query, *, itself: bool = False, negatives_too: bool = False) -> Slow:
    """The mean over queries with a positive of a cost of their positives' and negatives' cosines."""

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for i in range(len(x)):
            positives, negatives = sides(dot, x, labels, i)
            if positives and (negatives or not negatives_too):
                costs.append(cost(positives + [1.0] * itself, negatives))
        return mean(costs) if costs else 0.0

    return slow


def smooth_ap_cost(tau: float) -> Query:
    def cost(positives: list[float], negatives: list[float]) -> float:
        precisions = []
        for p, s in enumerate(positives):
            own = 1 + sum(logistic((t - s) / tau) for q, t in enumerate(positives) if q != p)
            precisions.append(own / (own + sum(logistic((t - s) / tau) for t in negatives)))
        return 1 - mean(precisions)

    return cost


def sup_ap_cost(tau: float, rho: float, delta: float, offset: float) -> Query:
    def step(x: float) -> float:
        if x > delta:
            return rho * x + offset
        return logistic(x / tau) + (0.5 if x > 0 else 0)

    def cost(positives: list[float], negatives: list[float]) -> float:
        precisions = []
        for p, s in enumerate(positives):
            own = 1 + sum(t >= s for q, t in enumerate(positives) if q != p)
            precisions.append(own / (own + sum(step(t - s) for t in negatives)))
        return 1 - mean(precisions)

    return cost


def recall_cost(ks: tuple[int, ...], tau_rank: float, tau_k: float) -> Query:
    def cost(positives: list[float], negatives: list[float]) -> float:
        ranks = [1 + sum(logistic((t - s) / tau_rank) for t in negatives) for s in positives]
        recalls = [min(sum(logistic((k - r) / tau_k) for r in ranks), k) / min(k, len(positives)) for k in ks]
        return 1 - mean(recalls)

    return cost


def pnp_cost(tau: float, penalty: Callable[[float], float]) -> Query:
    def cost(positives: list[float], negatives: list[float]) -> float:
        return mean([penalty(sum(logistic((t - s) / tau) for t in negatives)) for s in positives])

    return cost


def slow_fast_ap(bins: int) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for i in range(len(x)):
            positives, negatives = sides(squared, x, labels, i)
            if not positives:
                continue
            own = other = found = 0.0
            for node in range(bins + 1):
                here, there = (
                    sum(max(0.0, 1 - abs(d * bins / 4 - node)) for d in side) for side in (positives, negatives)
                )
                own, other = own + here, other + there
                found += here * own / (own + other) if own else 0.0
            costs.append(1 - found / len(positives))
        return mean(costs)

    return slow


def weighted(excesses: list[float], temperature: float) -> float:
    violating = [v for v in excesses if v > 0]
    weights = [exp(temperature * v) for v in violating]
    return sum(w * v for w, v in zip(weights, violating, strict=True)) / sum(weights) if violating else 0.0


def slow_ranked_list(margin: float, alpha: float, near: float, far: float, balance: float) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for i in range(len(x)):
            positives, negatives = sides(lambda a, b: sqrt(squared(a, b)), x, labels, i)
            pull = weighted([d - (alpha - margin) for d in positives], far)
            costs.append((1 - balance) * pull + balance * weighted([alpha - d for d in negatives], near))
        return mean(costs)

    return slow


def slow_roadmap(weight: float, positive_bound: float, negative_bound: float) -> Slow:
    ranks = per_query(sup_ap_cost(0.01, 100, 0.05, 1.44))

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, pulls, pushes = units(embeddings), [], []
        for i in range(len(x)):
            positives, negatives = sides(dot, x, labels, i)
            pulls += [positive_bound - s for s in positives if s < positive_bound]
            pushes += [s - negative_bound for s in negatives if s > negative_bound]
        calibration = sum(mean(part) for part in (pulls, pushes) if part)
        return ranks(embeddings, labels) + weight * calibration

    return slow


def joined(tau: float, rho: float, delta: float) -> float:
    return 0.5 + logistic(delta / tau) - rho * delta


Making = tuple[Callable[[], nn.Module], Slow]
MAKINGS: dict[str, Making] = {
    "fast-ap": (FastAP, slow_fast_ap(10)),
    "fast-ap of 3": (lambda: FastAP(bins=3), slow_fast_ap(3)),
    "fast-ap of 1": (lambda: FastAP(bins=1), slow_fast_ap(1)),
    "fast-ap of 57": (lambda: FastAP(bins=57), slow_fast_ap(57)),
    "smooth-ap": (SmoothAP, per_query(smooth_ap_cost(0.01))),
    "smooth-ap soft": (lambda: SmoothAP(tau=0.3), per_query(smooth_ap_cost(0.3))),
    "smooth-ap itself": (lambda: SmoothAP(itself="included"), per_query(smooth_ap_cost(0.01), itself=True)),
    "sup-ap": (SupAP, per_query(sup_ap_cost(0.01, 100, 0.05, 1.44))),
    "sup-ap soft": (
        lambda: SupAP(tau=0.2, rho=3.0, delta=0.3, offset=0.7),
        per_query(sup_ap_cost(0.2, 3, 0.3, 0.7)),
    ),
    "sup-ap joined": (
        lambda: SupAP(tau=0.1, rho=5.0, delta=0.1, offset=None),
        per_query(sup_ap_cost(0.1, 5, 0.1, joined(0.1, 5, 0.1))),
    ),
    "sup-ap without delta": (lambda: SupAP(delta=0.0, offset=1.0), per_query(sup_ap_cost(0.01, 100, 0, 1))),
    "roadmap": (lambda: SupAP(calibration=1.0), slow_roadmap(1, 0.9, 0.6)),
    "roadmap wide": (
        lambda: SupAP(calibration=0.3, positive_bound=0.5, negative_bound=-0.2),
        slow_roadmap(0.3, 0.5, -0.2),
    ),
    "recall@k": (RecallAtK, per_query(recall_cost((1, 2, 4, 8, 16), 0.01, 1), negatives_too=True)),
    "recall@k sharp": (
        lambda: RecallAtK(ks=(2, 3), tau_rank=0.1, tau_k=0.2),
        per_query(recall_cost((2, 3), 0.1, 0.2), negatives_too=True),
    ),
    "pnp O": (PNP, per_query(pnp_cost(0.01, lambda r: r))),
    "pnp Ds": (lambda: PNP(variant="Ds", tau=0.1), per_query(pnp_cost(0.1, log1p))),
    "pnp Dq": (
        lambda: PNP(variant="Dq", alpha=2.5),
        per_query(pnp_cost(0.01, lambda r: 1 - 1 / (1 + r) ** 2.5)),
    ),
    "pnp Iu": (lambda: PNP(variant="Iu"), per_query(pnp_cost(0.01, lambda r: (1 + r) * log1p(r)))),
    "pnp Ib": (
        lambda: PNP(variant="Ib", b=1.5, tau=0.05),
        per_query(pnp_cost(0.05, lambda r: (1.5 * r - log1p(1.5 * r)) / 1.5**2)),
    ),
    "pnp itself": (lambda: PNP(itself="included"), per_query(pnp_cost(0.01, lambda r: r), itself=True)),
    "ranked list": (RankedList, slow_ranked_list(0.4, 1.2, 10, 0, 0.5)),
    "ranked list tilted": (
        lambda: RankedList(margin=0.1, alpha=1.0, negative_temperature=2.0, positive_temperature=4.0, balance=0.2),
        slow_ranked_list(0.1, 1.0, 2, 4, 0.2),
    ),
    "ranked list level": (lambda: RankedList(negative_temperature=0.0), slow_ranked_list(0.4, 1.2, 0, 0, 0.5)),
}


@pytest.mark.parametrize("name", MAKINGS)
def test_equals_the_slow_loop_from_its_paper(name: str) -> None:
    make, slow = MAKINGS[name]
    agrees(make(), slow)
    for seed in two_hundred():
        embeddings, labels = batch(1000 + seed)
        expected = slow(embeddings, labels.tolist())
        assert make()(embeddings, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_small_temperatures_approach_the_average_precision(seed: int) -> None:
    embeddings, labels = batch(seed)
    x, found = units(embeddings), []
    for i in range(len(x)):
        positives, negatives = sides(dot, x, labels.tolist(), i)
        if positives:
            ranks = [(sum(t >= s for t in positives), sum(t > s for t in negatives)) for s in positives]
            found.append(mean([own / (own + wrong) for own, wrong in ranks]))
    expected = 1 - mean(found)
    assert SmoothAP(tau=1e-6)(embeddings, labels).item() == pytest.approx(expected, abs=1e-4)
    assert sup_ap(embeddings, labels).item() >= expected
    assert sup_ap(embeddings, labels, offset=None).item() >= expected


def test_the_straight_part_of_sup_ap_still_pulls_where_smooth_ap_has_stopped() -> None:
    embeddings, labels = torch.eye(3, dtype=torch.float64), torch.tensor([0, 0, 1])
    embeddings[2] = torch.tensor([1.0, 0.1, 0.0])
    embeddings[1] = torch.tensor([0.0, 1.0, 0.3])
    for module, pulls in ((SmoothAP(), False), (SupAP(), True)):
        x = embeddings.clone().requires_grad_()
        module(x, labels).backward()
        assert (x.grad.abs().max().item() > 1e-3) == pulls


# the peer ---------------------------------------------------------------------------------------------------


def value_and_gradient(module: Callable[[Tensor, Tensor], Tensor], embeddings: Tensor, labels: Tensor) -> list[Tensor]:
    embeddings = embeddings.detach().requires_grad_()
    value = module(embeddings, labels)
    return [value.detach(), *torch.autograd.grad(value, embeddings)]


def square(seed: int, classes: int = 4, each: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(each)
    return torch.randn(classes * each, 8, generator=generator, dtype=torch.float64), labels


PEERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "FastAP": (FastAP, peers.FastAPLoss),
    "FastAP of 25": (lambda: FastAP(bins=25), lambda: peers.FastAPLoss(num_bins=25)),
    "PNP O": (lambda: PNP(itself="included"), peers.PNPLoss),
    "PNP Ds": (lambda: PNP(variant="Ds", itself="included"), lambda: peers.PNPLoss(variant="Ds")),
    "PNP Dq": (lambda: PNP(variant="Dq", alpha=3.0, itself="included"), lambda: peers.PNPLoss(variant="Dq", alpha=3)),
    "PNP Iu": (lambda: PNP(variant="Iu", itself="included"), lambda: peers.PNPLoss(variant="Iu")),
    "PNP Ib": (lambda: PNP(variant="Ib", b=4.0, itself="included"), lambda: peers.PNPLoss(variant="Ib", b=4)),
    # only here is the peer's right: as many classes as items in each, in order
    "SmoothAP": (lambda: SmoothAP(itself="included", tau=0.1), lambda: peers.SmoothAPLoss(temperature=0.1)),
}


@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_the_peer_in_value_and_gradient(name: str) -> None:
    ours, theirs = PEERS[name]
    for seed in range(5):
        found = value_and_gradient(ours(), *square(seed))
        torch.testing.assert_close(
            found, value_and_gradient(theirs(), *square(seed)), rtol=1e-5, atol=1e-5, check_dtype=False
        )


@pytest.mark.filterwarnings("ignore:Values of Tp or Tn")
@pytest.mark.parametrize("positive_temperature", [0, 5])
def test_agrees_with_the_peers_ranked_list_but_for_its_small_constant(positive_temperature: int) -> None:
    ours = RankedList(positive_temperature=float(positive_temperature), balance=0.3)
    theirs = peers.RankedListLoss(margin=0.4, Tn=10, alpha=1.2, Tp=positive_temperature, imbalance=0.3)
    for seed in range(5):
        found = value_and_gradient(ours, *batch(seed))
        torch.testing.assert_close(found, value_and_gradient(theirs, *batch(seed)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("classes", "each"), [(3, 4), (4, 3), (8, 4)])
def test_smooth_ap_takes_classes_of_any_number_where_the_peer_fails(classes: int, each: int) -> None:
    embeddings, labels = square(0, classes, each)
    expected = per_query(smooth_ap_cost(0.01), itself=True)(embeddings, labels.tolist())
    assert SmoothAP(itself="included")(embeddings, labels).item() == pytest.approx(expected, rel=1e-9)
    assert peers.SmoothAPLoss()(embeddings, labels).item() != pytest.approx(expected, rel=1e-3)


def test_smooth_ap_ignores_the_order_of_the_batch_where_the_peer_does_not() -> None:
    embeddings, labels = square(0)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    for kind in (SmoothAP, FastAP, PNP, SupAP, RecallAtK, RankedList):
        torch.testing.assert_close(kind()(embeddings[order], labels[order]), kind()(embeddings, labels))
    shuffled, straight = (peers.SmoothAPLoss()(embeddings[i], labels[i]) for i in (order, torch.arange(16)))
    assert not torch.isclose(shuffled, straight, rtol=1e-3)


@pytest.mark.parametrize("variant", ["O", "Ds", "Dq", "Iu", "Ib"])
def test_pnp_stays_finite_in_half_precision_where_the_peer_does_not(variant: Any) -> None:
    embeddings, labels = square(0, 16, 4)
    single = pnp(embeddings.half().double(), labels, variant=variant)
    half = embeddings.half().requires_grad_()
    value = pnp(half, labels, variant=variant)
    value.backward()
    assert half.grad is not None
    assert half.grad.isfinite().all()
    assert value.item() == pytest.approx(single.item(), rel=1e-3)


# the engine -------------------------------------------------------------------------------------------------


def batches(kind: str) -> tuple[Tensor, Tensor]:
    labels = {
        "even": torch.arange(24) % 6,
        "one large class": torch.tensor([2] * 15 + [0, 1, 3, 4, 5, 0, 1, 3, 7, 8]),
        "lone": torch.arange(9),
        "one class": torch.full((7,), 4),
        "one item": torch.tensor([3]),
        "many": torch.arange(120) * 7 % 31,
    }[kind]
    generator = torch.Generator().manual_seed(3)
    return torch.randn(len(labels), 4, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("kind", ["even", "one large class", "lone", "one class", "one item", "many"])
@pytest.mark.parametrize("name", MAKINGS)
def test_the_gradient_by_hand_is_that_of_autograd(name: str, kind: str) -> None:
    module = MAKINGS[name][0]()
    embeddings, labels = batches(kind)
    with row_engine(plain=True, dense_up_to=10**9):
        expected = value_and_gradient(module, embeddings, labels)
    for options in ({}, {"block_bytes": 1000}, {"dense_up_to": 0}, {"dense_up_to": 0, "block_bytes": 3000}):
        with row_engine(**options):
            found = value_and_gradient(module, embeddings, labels)
            silent = module(embeddings, labels)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(silent, expected[0], rtol=1e-9, atol=1e-9)
    single = value_and_gradient(module, embeddings.float(), labels)
    for part, exact in zip(single, expected, strict=True):
        torch.testing.assert_close(part.double(), exact, rtol=1e-3, atol=1e-3 * (1 + exact.abs().max().item()))


def test_classes_of_hundreds_are_worked_through_in_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(300, 4, generator=generator, dtype=torch.float64)
    labels = (torch.rand(300, generator=generator) < 0.4).long()
    for module in (SmoothAP(), SupAP(), PNP(), RecallAtK()):
        expected = value_and_gradient(module, embeddings, labels)
        with row_engine(block_bytes=50_000):
            found = value_and_gradient(module, embeddings, labels)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


# options ----------------------------------------------------------------------------------------------------

WRONG = (
    (lambda: FastAP(bins=0), "fast_ap: bins must be a whole number of at least 1"),
    (lambda: SmoothAP(tau=0.0), "smooth_ap: tau must be more than 0"),
    (lambda: SupAP(tau=-1.0), "sup_ap: tau must be more than 0"),
    (lambda: SupAP(rho=0.0), "rho must be more than 0"),
    (lambda: SupAP(delta=-0.1), "delta must be at least 0"),
    (lambda: SupAP(offset=-4.5), "offset must be at least -4"),
    (lambda: SupAP(calibration=-1.0), "calibration must be at least 0"),
    (lambda: SupAP(positive_bound=1.5), "positive_bound must be at least -1 and at most 1"),
    (lambda: SupAP(negative_bound=-1.5), "negative_bound must be at least -1 and at most 1"),
    (lambda: RecallAtK(ks=()), "ks must name at least one k"),
    (lambda: RecallAtK(ks=(0, 1)), "each of ks must be a whole number of at least 1"),
    (lambda: RecallAtK(ks=(4, 2)), "ks must ascend"),
    (lambda: RecallAtK(tau_rank=0.0), "tau_rank must be more than 0"),
    (lambda: RecallAtK(tau_k=0.0), "tau_k must be more than 0"),
    (lambda: PNP(tau=0.0), "pnp: tau must be more than 0"),
    (lambda: PNP(variant="Dq", alpha=0.5), "alpha must be at least 1"),
    (lambda: PNP(variant="Ib", b=0.0), "b must be more than 0"),
    (lambda: PNP(variant="Ds", alpha=2.0), "alpha goes with variant='Dq'"),
    (lambda: PNP(b=3.0), "b goes with variant='Ib'"),
    (lambda: RankedList(margin=-0.1), "margin must be at least 0"),
    (lambda: RankedList(margin=1.3), "margin must be at most alpha"),
    (lambda: RankedList(alpha=2.5), "alpha must be more than 0 and at most 2"),
    (lambda: RankedList(negative_temperature=-1.0), "negative_temperature must be at least 0"),
    (lambda: RankedList(positive_temperature=-1.0), "positive_temperature must be at least 0"),
    (lambda: RankedList(balance=1.5), "balance must be at least 0 and at most 1"),
)
MISSPELT = (
    (lambda: SmoothAP(itself="include"), "included"),
    (lambda: PNP(variant="dq"), "Dq"),
    (lambda: PNP(itself="exclude"), "excluded"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(("make", "suggestion"), MISSPELT, ids=[suggestion for _, suggestion in MISSPELT])
def test_suggests_the_option_that_was_meant(make: Callable[[], object], suggestion: str) -> None:
    with without_shape_checks(), pytest.raises(UnknownNameError, match=f"Did you mean '{suggestion}'"):
        make()


def test_functions_and_modules_agree() -> None:
    x, y = batch(0)
    torch.testing.assert_close(recall_at_k(x, y, ks=[1, 3], tau_k=0.5), RecallAtK(ks=(1, 3), tau_k=0.5)(x, y))
    torch.testing.assert_close(ranked_list(x, y, margin=0.2), RankedList(margin=0.2)(x, y))
    torch.testing.assert_close(sup_ap(x, y, calibration=1.0), SupAP(calibration=1.0)(x, y))


def test_the_catalogue_explains_every_option_and_its_presets_work() -> None:
    kinds = {kind.__name__: kind for kind in (FastAP, SmoothAP, SupAP, RecallAtK, PNP, RankedList)}
    assert {info.path for info in LOSSES.values()} == {f"accord.losses.{name}" for name in kinds}
    for info in LOSSES.values():
        kind = kinds[info.path.rpartition(".")[2]]
        options = signature(kind).parameters
        assert set(info.options) == set(options)
        for preset in info.presets.values():
            kind(**preset)

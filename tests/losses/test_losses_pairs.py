"""Pair losses: each equals a slow loop from its paper on hundreds of batches, and its gradient by hand autograd's."""

import inspect
from collections.abc import Callable, Iterator
from itertools import product
from math import exp, log, log1p, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord import losses
from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.losses import (
    NCA,
    CrossBatchMemory,
    DecoupledContrastive,
    Mined,
    NPair,
    NPairOVO,
    NTXent,
    SupCon,
    TripletMargin,
    Tuplet,
    decoupled_contrastive,
    n_pair,
    n_pair_ovo,
    nca,
    nt_xent,
    sup_con,
    triplet_margin,
    tuplet,
)
from accord.losses import _triplet_sets as sets
from accord.losses._settings import row_engine
from accord.mining import HardPairs
from accord.recipes.catalog.pairs import LOSSES
from conformance import Case, without_shape_checks
from loss_cases_pairs import CASES
from slow import Row, agrees, dot, mean, squared, two_hundred, units

Slow = Callable[[Tensor, list[int]], float]
Distance = Callable[[int, int], float]


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batch(seed: int) -> tuple[Tensor, Tensor]:
    """Two to nine items of one to four classes; lone classes and batches of one class come by themselves."""
    items, classes = 2 + seed % 8, 1 + seed % 4
    embeddings = torch.randn(items, 3, generator=source(seed), dtype=torch.float64)
    return embeddings, torch.randint(0, classes, (items,), generator=source(seed + 1000))


def agrees_often(objective: nn.Module, slow: Slow) -> None:
    """The slow loop's gradient on a few batches, and its value on two hundred random ones."""
    agrees(objective, slow)
    for seed in two_hundred():
        embeddings, labels = random_batch(seed)
        expected = slow(embeddings, labels.tolist())
        assert objective(embeddings, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-9), seed


def sides(labels: list[int], a: int) -> tuple[list[int], list[int]]:
    """The positives and the negatives of an anchor."""
    items = range(len(labels))
    return [j for j in items if labels[j] == labels[a] and j != a], [j for j in items if labels[j] != labels[a]]


def mean_or_zero(costs: list[float]) -> float:
    return mean(costs) if costs else 0.0


def log_sum(values: list[float]) -> float:
    top = max(values)
    return top + log(sum(exp(value - top) for value in values))


# triplets


def mined(mining: str, distance: Distance, labels: list[int], band: float) -> Iterator[tuple[int, int, int]]:
    """The triplets of a mining rule, found one by one."""
    for a in range(len(labels)):
        positives, negatives = sides(labels, a)
        if not positives or not negatives:
            continue
        closest = min(negatives, key=lambda n: distance(a, n))
        farthest = max(negatives, key=lambda n: distance(a, n))
        if mining == "batch_hard":
            yield a, max(positives, key=lambda p: distance(a, p)), closest
        elif mining == "semi_hard":
            for p in positives:
                farther = [n for n in negatives if distance(a, n) > distance(a, p)]
                yield a, p, min(farther, key=lambda n: distance(a, n)) if farther else farthest
        else:
            for p, n in product(positives, negatives):
                gap = distance(a, n) - distance(a, p)
                if mining == "all" or (mining == "hard" and gap <= 0) or (mining[:5] == "all_s" and 0 < gap <= band):
                    yield a, p, n


def slow_triplets(options: dict[str, Any]) -> Slow:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = units(embeddings) if options.get("normalised", True) else embeddings.tolist()

        def distance(i: int, j: int) -> float:
            return squared(x[i], x[j]) if options.get("squared", True) else sqrt(squared(x[i], x[j]))

        margin, costs = options["margin"], []
        band = options.get("band", 0.0 if margin == "soft" else margin)
        for a, p, n in mined(options["mining"], distance, labels, band):
            far = min(distance(a, n), distance(p, n)) if options.get("swap") else distance(a, n)
            gap = distance(a, p) - far
            costs.append(log1p(exp(gap)) if margin == "soft" else max(0.0, gap + margin))
        return mean_or_zero([cost for cost in costs if cost > 0 or not options.get("violating_only")])

    return slow


TRIPLETS: list[dict[str, Any]] = [
    *(
        {"margin": 0.4, "mining": mining, "squared": squares, "violating_only": violating}
        for mining in ("semi_hard", "batch_hard", "all", "hard", "all_semi_hard")
        for squares in (True, False)
        for violating in (True, False)
    ),
    *({"margin": "soft", "mining": mining} for mining in ("semi_hard", "batch_hard", "all", "hard")),
    {"margin": "soft", "mining": "all", "violating_only": True, "normalised": False},
    {"margin": 0.0, "mining": "hard"},
    {"margin": 0.3, "mining": "all_semi_hard", "normalised": False, "squared": False},
    {"margin": 1.0, "mining": "all_semi_hard", "squared": False, "band": 0.1},
    {"margin": 0.2, "mining": "all_semi_hard", "band": 0.5},
    {"margin": 0.2, "mining": "all_semi_hard", "band": 0.5, "violating_only": True},
    *(
        {"margin": margin, "mining": mining, "squared": squares, "swap": True, "normalised": unit}
        for mining, margin in (("batch_hard", 0.4), ("semi_hard", 0.4), ("semi_hard", "soft"))
        for squares, unit in ((True, True), (False, False))
    ),
]


@pytest.mark.parametrize("options", TRIPLETS, ids=str)
def test_triplet_margin_is_a_hinge_over_its_triplets(options: dict[str, Any]) -> None:
    agrees_often(TripletMargin(**options), slow_triplets(options))


@pytest.mark.parametrize("options", TRIPLETS, ids=str)
def test_going_through_slots_and_sorting_rows_find_the_same(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, labels = lopsided()
    found = both(TripletMargin(**options), embeddings, labels)
    for table, few in ((1, 1000), (3 * 40 * 40, 1000), (1, 0)):
        monkeypatch.setattr(sets, "TABLE", table)
        monkeypatch.setattr(sets, "FEW", few)
        same(both(TripletMargin(**options), embeddings, labels), found)


def test_a_band_below_the_margin_raises_each_triplet_and_moves_no_gradient() -> None:
    embeddings, labels = lopsided()
    (value, gradient), (low, same_gradient) = (
        both(TripletMargin(margin=margin, mining="all_semi_hard", band=0.1, squared=False), embeddings, labels)
        for margin in (1.0, 0.1)
    )
    torch.testing.assert_close(value, low + 0.9)
    torch.testing.assert_close(gradient, same_gradient)


def test_hard_and_semi_hard_triplets_make_up_all_that_cost_something() -> None:
    embeddings, labels = lopsided()
    costs = [
        triplet_margin(embeddings, labels, mining=mining, margin=0.3, violating_only=True)
        for mining in ("hard", "all_semi_hard", "all")
    ]
    assert min(costs[:2]) <= costs[2] <= max(costs[:2])


def test_swap_never_makes_a_triplet_cheaper() -> None:
    for mining, seed in product(("semi_hard", "batch_hard"), range(20)):
        embeddings, labels = random_batch(seed)
        plain, swapped = (triplet_margin(embeddings, labels, mining=mining, swap=swap) for swap in (False, True))
        assert swapped >= plain


def test_swap_looks_at_a_memory_too() -> None:
    first, second = random_batch(6), random_batch(7)
    labels = torch.cat([second[1], first[1]])
    for swap in (True, False):
        options: dict[str, Any] = {"mining": "batch_hard", "margin": 1.5, "swap": swap}
        objective = CrossBatchMemory(TripletMargin(**options), size=32, dim=3).double()
        objective(*first)
        every = torch.cat([second[0], objective.memory[: len(first[0])].double()])
        expected = []
        for a in range(len(second[0])):  # what an anchor costs does not depend on the other anchors
            only = slow_anchor(every, labels.tolist(), a, swap)
            expected += only
        assert objective(*second).item() == pytest.approx(mean(expected), rel=1e-6)


def slow_anchor(embeddings: Tensor, labels: list[int], a: int, swap: bool) -> list[float]:
    x = units(embeddings)
    positives, negatives = sides(labels, a)
    if not positives or not negatives:
        return []
    p = max(positives, key=lambda j: squared(x[a], x[j]))
    n = min(negatives, key=lambda j: squared(x[a], x[j]))
    far = min(squared(x[a], x[n]), squared(x[p], x[n])) if swap else squared(x[a], x[n])
    return [max(0.0, squared(x[a], x[p]) - far + 1.5)]


# tuplets and pairs of pairs


@pytest.mark.parametrize("penalty", [0.0, 0.02])
def test_tuplet_recognises_each_positive_among_all_negatives(penalty: float) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = embeddings.tolist(), []
        for a in range(len(x)):
            positives, negatives = sides(labels, a)
            if negatives:
                costs += [log1p(sum(exp(dot(x[a], x[n]) - dot(x[a], x[p])) for n in negatives)) for p in positives]
        return mean_or_zero(costs) + 2 * penalty * mean([dot(row, row) for row in x])

    agrees_often(Tuplet(penalty=penalty), slow)


def test_with_two_classes_of_two_a_tuplet_weighs_lengths_as_n_pair_does() -> None:
    embeddings, labels = torch.eye(4, dtype=torch.float64) * 3, torch.tensor([0, 0, 1, 1])
    for loss in (lambda penalty: tuplet(embeddings, labels, penalty=penalty), n_pair_of(embeddings)):
        assert (loss(0.5) - loss(0.0)).item() == pytest.approx(0.5 * 18)


def n_pair_of(embeddings: Tensor) -> Callable[[float], Tensor]:
    return lambda penalty: n_pair(embeddings[::2], embeddings[1::2], penalty=penalty)


def slow_pairs(one: Callable[[list[float]], float], penalty: float, symmetric: bool) -> Slow:
    def way(anchors: list[Row], positives: list[Row]) -> float:
        costs = []
        for i, a in enumerate(anchors):
            costs.append(one([dot(a, p) - dot(a, positives[i]) for j, p in enumerate(positives) if j != i]))
        return mean(costs)

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = embeddings.tolist()
        rows = [[i for i, label in enumerate(labels) if label == one] for one in sorted(set(labels))]
        rows = [members for members in rows if len(members) > 1]
        anchors, positives = [x[members[0]] for members in rows], [x[members[1]] for members in rows]
        value = way(anchors, positives)
        if symmetric:
            value = (value + way(positives, anchors)) / 2
        return value + penalty * (mean([dot(a, a) for a in anchors]) + mean([dot(p, p) for p in positives]))

    return slow


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 0.02])
@pytest.mark.parametrize(
    ("kind", "one"),
    [
        (NPair, lambda gaps: log1p(sum(exp(gap) for gap in gaps))),
        (NPairOVO, lambda gaps: sum(log1p(exp(gap)) for gap in gaps)),
    ],
    ids=["mc", "ovo"],
)
def test_n_pair_is_a_softmax_or_a_sum_of_logistic_losses(
    kind: type, one: Callable[[list[float]], float], penalty: float, symmetric: bool
) -> None:
    objective, slow = kind(penalty=penalty, symmetric=symmetric), slow_pairs(one, penalty, symmetric)
    agrees(objective, slow)
    with row_engine(dense_up_to=0):
        agrees(objective, slow)
    tried = 0
    for seed in range(250):
        embeddings, labels = random_batch(seed)
        if len(labels.unique()) < len(labels):
            tried += 1
            expected = slow(embeddings, labels.tolist())
            assert objective(embeddings, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert tried >= 200


@pytest.mark.parametrize("pair", [n_pair, n_pair_ovo])
@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_in_fixed_shapes_are_those_found_by_sorting(
    pair: Callable[..., Tensor], symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what accelerators do, where the number of pairs can't be asked for
    embeddings, labels = lopsided()
    objective = {n_pair: NPair, n_pair_ovo: NPairOVO}[pair](symmetric=symmetric)
    expected = both(objective, embeddings, labels)
    monkeypatch.setattr("accord.losses._paired.counted", lambda labels: False)
    for block_bytes, plain in ((10**6, False), (1000, False), (10**6, True)):
        with row_engine(block_bytes=block_bytes, plain=plain):
            same(both(objective, embeddings, labels), expected)


@pytest.mark.parametrize("pair", [n_pair, n_pair_ovo])
def test_one_pair_costs_its_penalty_and_none_costs_nothing(pair: Callable[..., Tensor]) -> None:
    rows = torch.full((1, 4), 2.0, requires_grad=True)
    for dense_up_to in (0, 10):
        with row_engine(dense_up_to=dense_up_to):
            value = pair(rows, rows.detach(), penalty=0.5)
            assert value.item() == 0.5 * 32
            value.backward()
            assert pair(rows[:0], rows[:0].detach()).item() == 0


@pytest.mark.parametrize("pair", [n_pair, n_pair_ovo])
def test_sides_may_have_two_dtypes(pair: Callable[..., Tensor]) -> None:
    anchors, positives = lopsided()[0].detach(), lopsided()[0].detach().flip(0).float()
    torch.testing.assert_close(pair(anchors, positives), pair(anchors, positives.double()))


@pytest.mark.parametrize("pair", [n_pair, n_pair_ovo])
def test_sides_may_come_from_each_other_under_a_second_derivative(pair: Callable[..., Tensor]) -> None:
    rows = torch.randn(4, 3, generator=source(0), dtype=torch.float64, requires_grad=True)
    with row_engine(dense_up_to=0):
        assert torch.autograd.gradgradcheck(lambda x: pair(x, 2 * x), (rows,))


@pytest.mark.parametrize("pair", [n_pair, n_pair_ovo])
def test_pairs_refuse_what_does_not_match(pair: Callable[..., Tensor]) -> None:
    name = pair.__name__
    with without_shape_checks(), pytest.raises(BatchError, match=rf"{name}: anchors and positives must match"):
        pair(torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(NumericError, match=rf"{name}: positives must be finite, but 1 of 3 rows"):
        pair(torch.ones(3, 4), torch.ones(3, 4).index_fill(0, torch.tensor([1]), torch.nan))
    with pytest.raises(BatchError, match=rf"{name}: a batch needs a class with two rows"):
        {"n_pair": NPair, "n_pair_ovo": NPairOVO}[name]()(torch.ones(3, 4), torch.arange(3))


# softmaxes of cosines and distances


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("denominator", ["negatives", "all"])
def test_nt_xent_is_a_cross_entropy_for_each_positive(denominator: str, temperature: float) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for a in range(len(x)):
            positives, negatives = sides(labels, a)
            for p in positives:
                rivals = {"negatives": [p, *negatives], "all": positives + negatives}[denominator]
                if negatives or denominator == "all":
                    exponents = [dot(x[a], x[j]) / temperature for j in rivals]
                    costs.append(log_sum(exponents) - dot(x[a], x[p]) / temperature)
        return mean_or_zero(costs)

    agrees_often(NTXent(temperature=temperature, denominator=denominator), slow)


def test_with_two_views_of_each_picture_both_denominators_are_the_published_one() -> None:
    embeddings = lopsided()[0]
    labels = torch.arange(40) // 2
    torch.testing.assert_close(nt_xent(embeddings, labels), nt_xent(embeddings, labels, denominator="all"))


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("variant", ["out", "in"])
def test_sup_con_averages_outside_or_inside_the_logarithm(variant: str, temperature: float) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for a in range(len(x)):
            positives, negatives = sides(labels, a)
            if positives:
                total = log_sum([dot(x[a], x[j]) / temperature for j in positives + negatives])
                logs = [dot(x[a], x[p]) / temperature - total for p in positives]
                costs.append(-mean(logs) if variant == "out" else log(len(logs)) - log_sum(logs))
        return mean_or_zero(costs)

    agrees_often(SupCon(temperature=temperature, variant=variant), slow)


def test_sup_con_inside_is_at_most_the_one_outside_and_at_least_the_log_of_the_positives() -> None:
    embeddings, _ = lopsided()
    labels = torch.arange(40) // 5
    outside, inside = (sup_con(embeddings, labels, variant=variant).item() for variant in ("out", "in"))
    assert outside >= inside >= log(4)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_decoupled_contrastive_leaves_the_positive_out_of_the_denominator(temperature: float) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for a in range(len(x)):
            positives, negatives = sides(labels, a)
            if negatives:
                total = log_sum([dot(x[a], x[n]) / temperature for n in negatives])
                costs += [total - dot(x[a], x[p]) / temperature for p in positives]
        return mean_or_zero(costs)

    agrees_often(DecoupledContrastive(temperature=temperature), slow)


def test_decoupled_contrastive_may_be_negative_and_pulls_a_recognised_positive() -> None:
    embeddings = torch.tensor([[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]]).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])
    value = decoupled_contrastive(embeddings, labels)
    assert value < 0
    pulled, spared = (
        torch.autograd.grad(loss(embeddings, labels, temperature=0.1), embeddings)[0].abs().max()
        for loss in (decoupled_contrastive, nt_xent)
    )
    assert pulled > 1e3 * spared


@pytest.mark.parametrize("goal", ["log", "expected"])
@pytest.mark.parametrize(("scale", "normalised"), [(1.0, False), (0.3, False), (8.0, True)])
def test_nca_picks_a_neighbour_at_random(goal: str, scale: float, normalised: bool) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings) if normalised else embeddings.tolist(), []
        for a in range(len(x)):
            positives, negatives = sides(labels, a)
            if positives:
                own, all_ = (
                    log_sum([-scale * squared(x[a], x[j]) for j in others])
                    for others in (positives, positives + negatives)
                )
                costs.append(all_ - own if goal == "log" else 1 - exp(own - all_))
        return mean_or_zero(costs)

    agrees_often(NCA(scale=scale, goal=goal, normalised=normalised), slow)


# by hand and by autograd, in every configuration


def lopsided(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Forty items: three in five of one class, the rest of small classes and lone ones, shuffled."""
    labels = torch.zeros(40, dtype=torch.int64)
    labels[24:] = torch.arange(16) % 4 + 1
    labels[36:] = torch.arange(4) + 5
    embeddings = torch.randn(40, 5, generator=source(3), dtype=torch.float64) / 2
    return embeddings.to(dtype).requires_grad_(), labels[torch.randperm(40, generator=source(2))]


def evenly(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Forty-two items, three of each class, so that own columns are listed when asked for."""
    embeddings = torch.randn(42, 5, generator=source(4), dtype=torch.float64) / 2
    return embeddings.to(dtype).requires_grad_(), torch.arange(42) % 14


def both(objective: nn.Module, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    value = objective(embeddings, labels)
    return value.detach(), torch.autograd.grad(value, embeddings)[0]


def same(left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], tolerance: float = 1e-9) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


WAYS = ({}, {"dense_up_to": 0}, {"block_bytes": 1000}, {"block_bytes": 1000, "dense_up_to": 0})


@pytest.mark.parametrize("make", [lopsided, evenly])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_by_hand_are_those_of_autograd(
    case: Case, dtype: torch.dtype, tolerance: float, make: Callable[[torch.dtype], tuple[Tensor, Tensor]]
) -> None:
    embeddings, labels = make(dtype)
    objective = case.make().to(dtype)
    with row_engine(plain=True):
        expected = both(objective, embeddings, labels)
    for way in WAYS:
        with row_engine(**way):
            same(both(objective, embeddings, labels), expected, tolerance)


OWN_CHOICE = ("n-pair", "contrastive by kinds")  # they choose or count pairs themselves
MINABLE = [case for case in CASES if not case.name.startswith(OWN_CHOICE) and case.make().rule.unit]


@pytest.mark.parametrize("case", MINABLE, ids=lambda case: case.name)
def test_mined_pairs_are_as_good_as_absent(case: Case) -> None:
    embeddings, labels = lopsided()
    objective = Mined(case.make().double(), HardPairs())
    with row_engine(plain=True):
        expected = both(objective, embeddings, labels)
    for way in WAYS:
        with row_engine(**way):
            same(both(objective, embeddings, labels), expected)


@pytest.mark.parametrize(
    "objective",
    [
        TripletMargin(),
        TripletMargin(mining="all"),
        TripletMargin(mining="hard", margin="soft"),
        TripletMargin(mining="batch_hard", swap=True),
        NPair(),
        NPairOVO(),
        Tuplet(),
        NTXent(),
        SupCon(),
        NCA(),
    ],
    ids=lambda loss: str(loss.rule),
)
def test_no_batch_times_batch_numbers_are_kept(objective: nn.Module) -> None:
    items = 2400
    rows = items // 2 if objective.rule.name.startswith("n_pair") else items
    embeddings = torch.randn(items, 8, generator=source(0)).requires_grad_()
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = call(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.untyped_storage().nbytes())
            return out

    with row_engine(block_bytes=100_000), Watch():
        objective(embeddings, torch.arange(items) // 2).backward()
    # a block is larger where there are few rows in it, and two of them may be made in one piece
    assert 0 < largest <= rows * rows * 4 // 8


# where pytorch-metric-learning goes wrong


def test_one_positive_and_one_negative_pair_cost_something() -> None:
    # the peer returns 0 for a batch with at most one pair of each kind
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1])
    for loss in (nt_xent, sup_con, nca, tuplet, decoupled_contrastive):
        assert loss(rows, labels) != 0
    assert triplet_margin(rows, labels, mining="all", margin=1.0) > 0


def test_nca_stays_finite_at_any_scale() -> None:
    # the peer's is NaN at 200
    for scale, dtype in product((200.0, 1000.0), (torch.float64, torch.float32)):
        embeddings, labels = lopsided(dtype)
        for normalised in (True, False):
            value, gradient = both(NCA(scale=scale, normalised=normalised), embeddings, labels)
            assert value.isfinite()
            assert gradient.isfinite().all()


def test_n_pair_keeps_lengths_and_the_order_of_classes_does_not_matter() -> None:
    # the peer normalises by default, knows no penalty, and its value depends on the order of the batch
    embeddings, labels = lopsided()
    value = NPair()(embeddings, labels)
    assert NPair()(3 * embeddings, labels) != value
    assert NPair(penalty=0.1)(embeddings, labels) > value
    order = torch.argsort(torch.randperm(9, generator=source(0))[labels], stable=True)
    torch.testing.assert_close(NPair()(embeddings[order], labels[order]), value)


# options


def test_functions_take_the_options_of_their_modules() -> None:
    embeddings, labels = lopsided()
    for function, module, options in (
        (triplet_margin, TripletMargin, {"margin": 0.5, "mining": "all", "squared": False, "violating_only": True}),
        (triplet_margin, TripletMargin, {"mining": "batch_hard", "normalised": False, "swap": True}),
        (tuplet, Tuplet, {"penalty": 0.1}),
        (nt_xent, NTXent, {"temperature": 0.3, "denominator": "all"}),
        (sup_con, SupCon, {"temperature": 0.3, "variant": "in"}),
        (decoupled_contrastive, DecoupledContrastive, {"temperature": 0.3}),
        (nca, NCA, {"scale": 0.3, "goal": "expected", "normalised": True}),
    ):
        assert torch.equal(function(embeddings, labels, **options), module(**options)(embeddings, labels))


WRONG = (
    (lambda: TripletMargin(margin=-0.1), "margin must be at least 0"),
    (lambda: TripletMargin(margin="hard"), "margin must be a finite number"),
    (lambda: TripletMargin(margin="soft", mining="all_semi_hard"), "ends at the margin; give a number"),
    (lambda: TripletMargin(swap=True, mining="all"), "goes with mining='semi_hard' or 'batch_hard', not with 'all'"),
    (lambda: TripletMargin(swap=True, mining="hard"), "not with 'hard'"),
    (lambda: TripletMargin(band=0.1), "goes with no other, and mining is 'semi_hard'"),
    (lambda: TripletMargin(mining="all_semi_hard", band=0.0), "band must be more than 0"),
    (lambda: NPair(penalty=-1.0), "n_pair: penalty must be at least 0"),
    (lambda: NPairOVO(penalty=float("inf")), "n_pair_ovo: penalty must be a finite number"),
    (lambda: Tuplet(penalty=-1.0), "tuplet: penalty must be at least 0"),
    (lambda: NTXent(temperature=0.0), "nt_xent: temperature must be more than 0"),
    (lambda: SupCon(temperature=-1.0), "sup_con: temperature must be more than 0"),
    (lambda: DecoupledContrastive(temperature=0.0), "decoupled_contrastive: temperature must be more than 0"),
    (lambda: NCA(scale=0.0), "nca: scale must be more than 0"),
)
MISSPELT = (
    (lambda: TripletMargin(mining="semihard"), "semi_hard"),
    (lambda: NTXent(denominator="negative"), "negatives"),
    (lambda: SupCon(variant="inn"), "in"),
    (lambda: NCA(goal="logs"), "log"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(("make", "suggestion"), MISSPELT, ids=[suggestion for _, suggestion in MISSPELT])
def test_suggests_the_option_that_was_meant(make: Callable[[], object], suggestion: str) -> None:
    with without_shape_checks(), pytest.raises(UnknownNameError, match=f"Did you mean '{suggestion}'"):
        make()


def test_every_option_and_preset_of_the_catalogue_is_one_of_the_loss() -> None:
    for name, info in LOSSES.items():
        kind = getattr(losses, info.path.rpartition(".")[2])
        assert set(info.options) == set(inspect.signature(kind).parameters), name
        for options in info.presets.values():
            kind(**options)

"""Losses that learn from mined pairs: the slow loop over what is left, the gradient, draws that go on, refusals."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import log1p, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord.errors import UsageError
from accord.losses import (
    NCA,
    BinomialDeviance,
    Circle,
    Contrastive,
    CoSENT,
    DecoupledContrastive,
    GeneralisedLifted,
    Histogram,
    LiftedStructure,
    Margin,
    Mined,
    MultiSimilarity,
    NPair,
    NTXent,
    ProxyNCA,
    Sigmoid,
    SupAP,
    SupCon,
    TripletMargin,
    Tuplet,
)
from accord.losses._settings import row_engine
from accord.mining import (
    AllPairs,
    AngularPairs,
    Block,
    Chain,
    DistanceWeighted,
    EasyPositive,
    HardPairs,
    Miner,
    MultiSimilarityPairs,
    PairMargin,
    PerRowCap,
    SemiHard,
)
from conformance import CLASSES, PROMISES, Case, without_shape_checks
from slow import agrees, mean, squared, units

MINERS: dict[str, Miner] = {
    "all": AllPairs(),
    "hard": HardPairs(),
    "semi-hard": SemiHard(),
    "easy": EasyPositive(),
    "multi-similarity": MultiSimilarityPairs(),
    "distance-weighted": DistanceWeighted(),
    "angular": AngularPairs(),
    "pair margin": PairMargin(positive=0.6, negative=1.3),
    "cap": PerRowCap(positives=1, negatives=3, choice="draw"),
    "chain": Chain(SemiHard(), PerRowCap(negatives=2)),
}
COSINES = ("multi-similarity", "distance-weighted", "angular")  # and so, unit vectors
LOSSES: dict[str, Callable[[], nn.Module]] = {
    "contrastive": lambda: Contrastive(margin=1.5),
    "multi-similarity": lambda: MultiSimilarity(beta=4.0),
    "binomial deviance": BinomialDeviance,
    "circle": lambda: Circle(gamma=8.0),
    "margin": Margin,
    "margin by class": lambda: Margin(classes=CLASSES),
    "sigmoid": Sigmoid,
    "nca": NCA,
    "nt-xent": NTXent,
    "sup-con": SupCon,
    "decoupled": DecoupledContrastive,
    "generalised lifted": GeneralisedLifted,
    "triplet": TripletMargin,
    "tuplet": Tuplet,
}


def batch(seed: int, items: int = 24) -> tuple[Tensor, Tensor]:
    """Unbalanced classes: one with 60 % of the items, and lone ones."""
    source = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * (items * 6 // 10) + [1] * 4 + [2] * 3 + [3] * 9)[:items]
    labels[-1] = 4
    order = torch.randperm(items, generator=source)
    return torch.randn(items, 6, generator=source, dtype=torch.float64) / 2, labels[order]


def run(objective: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, list[Tensor]]:
    x = x.detach().requires_grad_()
    value = objective(x, labels)
    learned = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    return value.detach(), list(torch.autograd.grad(value, [x, *learned], materialize_grads=True))


def test_contrastive_over_the_hardest_pairs_is_the_loop_over_them() -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for a in range(len(x)):
            positives = [sqrt(squared(x[a], x[j])) for j in range(len(x)) if labels[j] == labels[a] and j != a]
            negatives = [sqrt(squared(x[a], x[j])) for j in range(len(x)) if labels[j] != labels[a]]
            if positives and negatives:
                costs += [max(positives) ** 2, max(0.0, 1.3 - min(negatives)) ** 2]
        return mean(costs)

    agrees(Mined(Contrastive(margin=1.3), HardPairs()), slow)


def test_margin_over_semi_hard_pairs_is_the_loop_over_them() -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, costs = units(embeddings), []
        for a in range(len(x)):
            positives = [sqrt(squared(x[a], x[j])) for j in range(len(x)) if labels[j] == labels[a] and j != a]
            negatives = [sqrt(squared(x[a], x[j])) for j in range(len(x)) if labels[j] != labels[a]]
            negatives = [d for d in negatives if positives and d > min(positives)]
            if negatives:
                costs += [max(0.0, 0.2 + d - 1.25) for d in positives] + [max(0.0, 0.2 - d + 1.25) for d in negatives]
        return mean([cost for cost in costs if cost > 0])

    agrees(Mined(Margin(beta=1.25).double(), SemiHard()), slow)


def test_a_loss_that_mines_by_itself_equals_the_same_with_a_miner() -> None:
    for seed in range(10):
        x, labels = batch(seed)
        value, found = run(MultiSimilarity(), x, labels)
        other, again = run(Mined(MultiSimilarity(epsilon=None), MultiSimilarityPairs()), x, labels)
        torch.testing.assert_close(other, value)
        torch.testing.assert_close(again, found)


@pytest.mark.parametrize("name", LOSSES)
def test_a_miner_that_keeps_everything_changes_nothing(name: str) -> None:
    def everything(block: Block) -> Block:
        return block

    for dtype in (torch.float64, torch.float32):
        objective, (x, labels) = LOSSES[name]().to(dtype), batch(1)
        plain, mined = run(objective, x.to(dtype), labels), run(Mined(objective, everything), x.to(dtype), labels)
        torch.testing.assert_close(mined, plain, check_dtype=False)


@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_plain_autograd_in_every_kind_of_block(name: str, miner: str) -> None:
    objective = Mined(LOSSES[name]().double(), MINERS[miner]).eval()
    rule = objective.loss.rule
    if not rule.unit and (miner in COSINES or (miner == "pair margin" and rule.measure == "score")):
        with pytest.raises(UsageError, match="normalise"):
            objective(*batch(0))
        return
    for seed in range(3):
        x, labels = batch(seed)
        with row_engine(plain=True):
            expected = run(objective, x, labels)
        for settings in ({}, {"block_bytes": 100}, {"dense_up_to": 0, "block_bytes": 100}):
            with row_engine(**settings):
                found = run(objective, x, labels)
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("miner", MINERS)
def test_a_second_derivative_meets_the_same_choice(miner: str) -> None:
    objective = Mined(BinomialDeviance().double(), MINERS[miner])
    x, labels = batch(0)
    x.requires_grad_()
    with row_engine(block_bytes=100):
        (gradient,) = torch.autograd.grad(objective(x, labels), x, create_graph=True)
        (again,) = torch.autograd.grad(gradient.square().sum(), x)
    objective.draw -= 1
    with row_engine(plain=True):
        (gradient,) = torch.autograd.grad(objective(x, labels), x, create_graph=True)
        (expected,) = torch.autograd.grad(gradient.square().sum(), x)
    torch.testing.assert_close(again, expected)


def test_two_items_of_each_class_are_mined_like_more() -> None:
    x, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 4
    value = Mined(Contrastive(), HardPairs())(x, labels)
    assert value > 0


@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 2, 3, 4, 5], []])
def test_a_batch_without_pairs_costs_zero_with_a_gradient(labels: list[int]) -> None:
    for miner in (HardPairs(), DistanceWeighted(), EasyPositive()):
        x = torch.randn(len(labels), 4).requires_grad_()
        value = Mined(Contrastive(), miner)(x, torch.tensor(labels, dtype=torch.int64))
        value.backward()
        assert value == 0
        assert x.grad is not None
        assert not x.grad.any()


def test_parameters_of_the_loss_learn() -> None:
    objective = Mined(Margin(classes=5), SemiHard())
    assert [name for name, _ in objective.named_parameters()] == ["loss.beta"]
    objective(*[part.float() if part.is_floating_point() else part for part in batch(0)]).backward()
    assert objective.loss.beta.grad is not None
    assert objective.loss.beta.grad.any()


def test_the_wrapped_loss_stays_as_it_was() -> None:
    loss, (x, labels) = Contrastive(margin=1.5), batch(0)
    before = loss(x, labels)
    rule = loss.rule
    Mined(loss, HardPairs())(x, labels)
    assert loss.rule is rule
    assert torch.equal(loss(x, labels), before)


def test_draws_anew_in_training_mode_and_goes_on_from_its_state() -> None:
    x, labels = batch(0)

    def fresh() -> Mined:
        return Mined(Contrastive(margin=1.5), DistanceWeighted())

    first, values = fresh(), []
    for _ in range(6):
        values.append(first(x, labels).item())
    assert len(set(values)) > 3
    second = fresh()
    for _ in range(2):
        second(x, labels)
    third = fresh()
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    assert [third(x, labels).item() for _ in range(4)] == values[2:]
    third.eval()
    assert third(x, labels) == third(x, labels)


def test_begins_where_the_generator_says_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    draws = [Mined(Contrastive(), HardPairs(), generator=torch.Generator().manual_seed(n)).draw for n in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert draws[0] == draws[1] != draws[2]


def test_mined_twice_is_a_chain_from_the_outside_in() -> None:
    x, labels = batch(2)
    twice = Mined(Mined(Contrastive(margin=1.5), HardPairs()), SemiHard())
    torch.testing.assert_close(
        twice(x, labels), Mined(Contrastive(margin=1.5), Chain(SemiHard(), HardPairs()))(x, labels)
    )


REFUSED: tuple[tuple[Callable[[], nn.Module], str], ...] = (
    (NPair, "chooses its pairs itself"),
    (lambda: ProxyNCA(4, 5), "learned vectors of classes"),
    (LiftedStructure, "needs them all"),
    (Histogram, "needs them all"),
    (CoSENT, "needs them all"),
)


@pytest.mark.parametrize(("make", "reason"), REFUSED)
def test_refuses_losses_that_can_not_be_mined_and_says_what_to_do(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(UsageError, match=rf"{reason}(.|\n)*Ensemble"):
        Mined(make(), HardPairs())


def test_refuses_a_mean_over_pairs_that_labels_count() -> None:
    with pytest.raises(UsageError, match="can't be mined"):
        Mined(Contrastive(average="kinds"), HardPairs())(*batch(0))


def test_refuses_a_loss_whose_rule_is_not_what_it_computes_with() -> None:
    class Stubborn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rule = Contrastive().rule

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.sum()

    with pytest.raises(UsageError, match="Stubborn can't be wrapped"):
        Mined(Stubborn(), HardPairs())(*batch(0))


CASES = (
    Case("contrastive, hard", lambda: Mined(Contrastive(margin=1.5), HardPairs())),
    Case("multi-similarity, semi-hard", lambda: Mined(MultiSimilarity(beta=4.0), SemiHard())),
    Case("margin by class, easy", lambda: Mined(Margin(classes=CLASSES), EasyPositive()), learns_classes=True),
    Case("circle, angular", lambda: Mined(Circle(gamma=8.0, detach=False), AngularPairs())),
    Case(
        "contrastive, distance-weighted",
        lambda: Mined(Contrastive(margin=1.5), DistanceWeighted()).eval(),
        exempt={"ignores_the_order_of_the_batch": "draws go by row"},
    ),
)


PROMISED = [
    pytest.param(case, promise, id=f"{case.name}-{promise}")
    for case in CASES
    for promise in PROMISES
    if promise not in case.exemptions
]


@pytest.mark.parametrize(("case", "promise"), PROMISED)
def test_keeps_the_shared_promise(case: Case, promise: str) -> None:
    PROMISES[promise](case)


def test_soft_terms_of_absent_pairs_are_absent() -> None:
    # one row of each kind: the farthest positive alone is left, and log1p of one exponential
    x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    value = Mined(MultiSimilarity(alpha=1.0, beta=1.0, base=0.0, epsilon=None), HardPairs())(
        x, torch.tensor([0, 0, 0, 1])
    )
    rows = [(0.0, -1.0), (0.6, -0.8), (0.0, 0.0)]
    from math import exp

    expected = sum(log1p(exp(-p)) + log1p(exp(n)) for p, n in rows) / 4
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_threads_that_share_a_loss_do_not_meet_each_other_s_rule() -> None:
    loss, (x, labels) = Contrastive(margin=1.5), batch(0)
    mined, rule = Mined(loss, HardPairs()), loss.rule
    plain, expected = loss(x, labels), mined(x, labels)

    def work(number: int) -> bool:
        ours, value = (mined, expected) if number % 4 else (loss, plain)
        return all(torch.equal(ours(x, labels), value) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(16)))
    assert loss.rule is rule


class Counting(Contrastive):
    """A loss that notes things while it runs, on a buffer and beside it, and that looks at its rule by a method."""

    def __init__(self) -> None:
        super().__init__(margin=1.5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.last = 0

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.calls = self.calls + 1
        self.last = len(labels)
        return super().forward(embeddings, labels)


def test_what_a_loss_notes_while_it_is_wrapped_is_its_own() -> None:
    loss, (x, labels), seen = Counting(), batch(0), []
    loss.register_forward_hook(lambda module, args, value: seen.append(value.detach()))
    value = Mined(loss, HardPairs())(x, labels)
    assert loss.calls == 1
    assert loss.state_dict()["calls"] == 1
    assert loss.last == len(labels)
    assert torch.equal(seen[0], value)
    assert torch.equal(value, Mined(Contrastive(margin=1.5), HardPairs())(x, labels))


def test_a_loss_that_is_compiled_already_is_wrapped_like_any_other() -> None:
    (x, labels), inside = batch(0), Contrastive(margin=1.5)
    expected = Mined(Contrastive(margin=1.5), HardPairs())(x, labels)
    inside.compile(backend="eager")
    for loss in (torch.compile(Contrastive(margin=1.5), backend="eager"), inside):
        torch.testing.assert_close(Mined(loss, HardPairs())(x, labels), expected)


@pytest.mark.parametrize(
    ("miner", "message"),
    [
        (None, "None is not"),
        (3, "3 is not"),
        ("hard", r"'hard' is a name(.|\n)*build_miner\('hard'\)"),
        (HardPairs, "HardPairs is a class"),
        (lambda embeddings, labels: (), "does not take a block"),
    ],
)
def test_refuses_what_is_no_miner_when_it_is_built(miner: Any, message: str) -> None:
    with without_shape_checks(), pytest.raises(UsageError, match=message):
        Mined(Contrastive(), miner)


def test_refuses_what_is_no_miner_of_a_foreign_loss_too() -> None:
    def foreign(embeddings: Tensor, labels: Tensor, numbers: Any = None) -> Tensor:
        return embeddings.sum()

    for miner in (None, "hard"):
        with without_shape_checks(), pytest.raises(UsageError, match="miner must be callable"):
            Mined(foreign, miner)  # type: ignore[arg-type]


def test_refuses_a_sum_of_losses_of_which_it_would_mine_one() -> None:
    with pytest.raises(UsageError, match="calibration"):
        Mined(SupAP(calibration=1.0), HardPairs())

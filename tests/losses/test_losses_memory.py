"""Cross-batch memory: the loop over batch and memory, what is never compared, and a run that goes on bit-equal."""

import copy
import subprocess
import sys
from collections.abc import Callable
from math import exp, log1p, sqrt

import pytest
import torch
from torch import Tensor, nn

from accord.errors import BatchError, UsageError
from accord.losses import (
    Contrastive,
    CrossBatchMemory,
    Foreign,
    LiftedStructure,
    Margin,
    Mined,
    MultiSimilarity,
    NPair,
    ProxyNCA,
    Sigmoid,
    SignalToNoise,
    SupCon,
    TripletMargin,
    Tuplet,
)
from accord.losses._settings import row_engine
from accord.losses._wrapping import check_wrappable
from accord.mining import NOBODY, DistanceWeighted, HardPairs, MultiSimilarityPairs
from accord.recipes import build_loss
from accord.recipes.catalog.losses import LOSSES as CATALOGUE
from conformance import DIM, PROMISES, Case, batch, without_shape_checks
from slow import mean, squared, units

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "contrastive": lambda: Contrastive(margin=1.5),
    "contrastive by kinds": lambda: Contrastive(margin=1.5, average="kinds"),
    "multi-similarity": lambda: MultiSimilarity(beta=4.0),
    "margin": Margin,
    "margin by class": lambda: Margin(classes=6),
    "sigmoid": Sigmoid,
    "sup-con": SupCon,
    "triplet": TripletMargin,
    "triplet with swap": lambda: TripletMargin(mining="batch_hard", swap=True),
    "mined": lambda: Mined(MultiSimilarity(epsilon=None, beta=4.0), MultiSimilarityPairs()),
    "drawn": lambda: Mined(Contrastive(margin=1.5), DistanceWeighted()),
}


def batches(count: int, items: int = 12, dim: int = 6) -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(items, dim, generator=source, dtype=torch.float64),
            torch.randint(0, 5, (items,), generator=source),
        )
        for _ in range(count)
    ]


def remembering(loss: nn.Module, *, size: int = 30, dim: int = 6, start: int = 0) -> CrossBatchMemory:
    return CrossBatchMemory(loss, size=size, dim=dim, start=start).double()


def gradient(objective: Callable[..., Tensor], x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    value = objective(x, labels)
    (found,) = torch.autograd.grad(value, x)
    return value.detach(), found


def test_contrastive_over_batch_and_memory_is_the_loop_over_both() -> None:
    objective = remembering(Contrastive(margin=1.3), size=20)
    old: list[tuple[Tensor, Tensor]] = []

    def slow(now: tuple[Tensor, Tensor]) -> float:
        x = units(torch.cat([part[0] for part in (now, *old)]))
        labels = torch.cat([part[1] for part in (now, *old)]).tolist()
        costs = []
        for a in range(len(now[1])):
            for j in range(len(labels)):
                distance = sqrt(squared(x[a], x[j]))
                if labels[a] != labels[j]:
                    costs.append(max(0.0, 1.3 - distance) ** 2)
                elif a != j:
                    costs.append(distance**2)
        return mean(costs)

    for x, labels in batches(4):
        assert objective(x, labels).item() == pytest.approx(slow((x, labels)), rel=1e-9)
        # the last twenty items, so that the oldest give way one by one
        rows, names = (torch.cat([part[place] for part in (*old, (x, labels))])[-20:] for place in (0, 1))
        old = [(rows, names)]


@pytest.mark.parametrize("name", LOSSES)
def test_an_empty_memory_is_the_loss_itself(name: str) -> None:
    x, labels = batches(1)[0]
    plain, beside = LOSSES[name]().double(), remembering(LOSSES[name]())
    torch.testing.assert_close(gradient(beside, x, labels), gradient(plain, x, labels))


def filled(loss: nn.Module, calls: int, size: int = 30) -> CrossBatchMemory:
    objective = remembering(loss, size=size)
    for x, labels in batches(calls):
        objective(x, labels)
    return objective.eval()


@pytest.mark.parametrize("calls", [1, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_plain_autograd(name: str, calls: int) -> None:
    objective, (x, labels) = filled(LOSSES[name](), calls), batches(6)[-1]
    with row_engine(plain=True):
        expected = gradient(objective, x, labels)
    for settings in ({}, {"block_bytes": 100}, {"dense_up_to": 0}):
        with row_engine(**settings):
            torch.testing.assert_close(gradient(objective, x, labels), expected, rtol=1e-8, atol=1e-10)
    assert expected[1].abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_empty_places_are_ignored_where_no_one_may_ask_how_many(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, (x, labels) = filled(LOSSES[name](), 1), batches(6)[-1]
    with row_engine(dense_up_to=10**6):
        expected = gradient(objective, x, labels)
        monkeypatch.setattr(objective, "_kept", lambda embeddings: objective.size)
        torch.testing.assert_close(gradient(objective, x, labels), expected, rtol=1e-8, atol=1e-10)


def test_an_item_is_never_its_own_positive() -> None:
    # every label is new, so the only pull could come from the item itself
    objective, (x, _) = remembering(Contrastive(margin=0.01)), batches(1)[0]
    assert objective(x, torch.arange(12)) == 0
    assert objective(x + 1, torch.arange(12) + 100) == 0
    assert objective(x, torch.arange(12) + 200) > 0  # now it meets its old self, as another class


def test_old_embeddings_carry_no_gradient_and_the_graph_is_freed() -> None:
    objective = remembering(Contrastive(margin=1.5))
    first, second = (x.requires_grad_() for x, _ in batches(2))
    labels = batches(2)[0][1]
    objective(first, labels).backward()
    first.grad = None
    objective(second, labels).backward()
    assert first.grad is None
    assert not objective.memory.requires_grad


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_goes_on_bit_equal_from_its_state(name: str) -> None:
    whole, first = remembering(LOSSES[name]()), remembering(LOSSES[name]())
    values = [whole(x, labels) for x, labels in batches(7)]
    for x, labels in batches(3):
        first(x, labels)
    again = remembering(LOSSES[name]())
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for value, (x, labels) in zip(values[3:], batches(7)[3:], strict=True):
        assert torch.equal(again(x, labels), value)
    for name_, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name_], tensor)


def test_everything_is_in_the_state() -> None:
    names = set(CrossBatchMemory(Contrastive(), size=8, dim=4).state_dict())
    assert names == {"memory", "memory_labels", "pointer", "count", "calls"}


def test_begins_to_fill_after_so_many_calls() -> None:
    objective = remembering(Contrastive(margin=1.5), start=2)
    counts = []
    for x, labels in batches(5):
        late = objective(x, labels)
        counts.append(int(objective.count))
        if len(counts) <= 3:
            assert torch.equal(late, remembering(Contrastive(margin=1.5))(x, labels))
    assert counts == [0, 0, 12, 24, 30]
    early = remembering(Contrastive(), start=2)
    early(*batches(1)[0])
    assert bool((early.memory_labels == NOBODY).all())


def test_clear_forgets_everything() -> None:
    objective, (x, labels) = filled(Contrastive(), 4), batches(1)[0]
    objective.clear()
    for name, tensor in remembering(Contrastive()).state_dict().items():
        assert torch.equal(objective.state_dict()[name], tensor)
    assert torch.equal(objective(x, labels), remembering(Contrastive())(x, labels))


def test_compares_but_does_not_write_when_evaluated() -> None:
    objective = filled(Contrastive(margin=1.5), 2)
    before, (x, labels) = copy.deepcopy(objective.state_dict()), batches(3)[2]
    value = objective(x, labels)
    assert value != Contrastive(margin=1.5)(x, labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())


def test_takes_half_precision_into_a_single_precision_memory() -> None:
    objective = CrossBatchMemory(Contrastive(margin=1.5), size=30, dim=6)
    for x, labels in batches(3):
        value = objective(x.half(), labels.to(torch.int16))
        assert value.dtype == torch.float32
        assert value.isfinite()
    assert objective.memory.dtype == torch.float32


def test_never_waits_for_the_device() -> None:
    for make in LOSSES.values():
        objective = CrossBatchMemory(make(), size=30, dim=6).to("meta")
        for x, labels in batches(2):
            assert objective(x.to("meta"), labels.to("meta")).shape == ()


def test_mined_around_a_memory_sees_the_memory_too() -> None:
    inside = filled(Mined(Contrastive(margin=1.5), HardPairs()), 3)
    x, labels = batches(5)[-1]
    outside = Mined(filled(Contrastive(margin=1.5), 3), HardPairs())
    torch.testing.assert_close(outside(x, labels), inside(x, labels))
    assert inside(x, labels) != Mined(Contrastive(margin=1.5), HardPairs())(x, labels)


def test_refuses_what_can_not_have_a_memory() -> None:
    for make in (NPair, lambda: ProxyNCA(6, 5), LiftedStructure):
        with pytest.raises(UsageError, match=r"CrossBatchMemory: (.|\n)*Ensemble"):
            CrossBatchMemory(make(), dim=6)
    with pytest.raises(UsageError, match="has a memory already"):
        CrossBatchMemory(CrossBatchMemory(Contrastive(), dim=6), dim=6)
    with pytest.raises(UsageError, match=r"changes embeddings or labels|can.t be wrapped"):
        remembering(SignalToNoise(average="pairs"))(*batches(1)[0])
    with pytest.raises(UsageError, match="size must be"):
        CrossBatchMemory(Contrastive(), size=0, dim=6)
    with pytest.raises(UsageError, match="start must be"):
        CrossBatchMemory(Contrastive(), dim=6, start=-1)


def test_refuses_batches_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"batch of 12 does not fit into a memory of 11"):
        remembering(Contrastive(), size=11)(*batches(1)[0])
    with without_shape_checks(), pytest.raises(BatchError, match=r"width(.|\n)*\(12, 5\)(.|\n)*\(30, 6\)"):
        remembering(Contrastive())(*batches(1, dim=5)[0])


def foreign_contrastive(embeddings: Tensor, labels: Tensor) -> Tensor:
    return Contrastive(margin=1.5)(embeddings, labels)


def test_a_function_gets_batch_and_memory_as_one_batch() -> None:
    objective, seen = remembering(Foreign(foreign_contrastive)), batches(3)
    for x, labels in seen:
        value = objective(x, labels)
    whole = torch.cat([seen[2][0], seen[0][0], seen[1][0]]), torch.cat([seen[2][1], seen[0][1], seen[1][1]])
    torch.testing.assert_close(value, Contrastive(margin=1.5)(*whole))
    assert torch.equal(remembering(foreign_contrastive)(*seen[0]), Contrastive(margin=1.5)(*seen[0]))


def test_losses_of_pytorch_metric_learning_get_a_memory() -> None:
    losses, miners = (pytest.importorskip(f"pytorch_metric_learning.{part}") for part in ("losses", "miners"))
    theirs = losses.ContrastiveLoss(neg_margin=1.5)
    for loss in (
        theirs,
        Mined(theirs, MultiSimilarityPairs()),
        Foreign(losses.TripletMarginLoss(), miners.TripletMarginMiner()),
    ):
        objective = remembering(loss, size=30)
        for x, labels in batches(4):
            value, found = gradient(objective, x, labels)
            assert value.isfinite()
            assert found.abs().sum() > 0
        assert objective.count == 30


def test_is_the_sum_of_both_means_of_pytorch_metric_learning_contrastive() -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    ours = remembering(Contrastive(margin=1.5, hinge="linear", average="pairs"), size=30)
    (first, labels), (second, others) = batches(2)
    ours(first, labels)
    theirs = remembering(losses.ContrastiveLoss(neg_margin=1.5), size=30)
    theirs(first, labels)
    x, y = torch.cat([second, first]), torch.cat([others, labels])
    positives = (others[:, None] == y) & ~torch.eye(12, 24, dtype=torch.bool)
    a, p = positives.nonzero(as_tuple=True)
    b, n = (others[:, None] != y).nonzero(as_tuple=True)
    expected = losses.ContrastiveLoss(neg_margin=1.5)(second, others, (a, p, b, n), ref_emb=x, ref_labels=y)
    torch.testing.assert_close(theirs(second, others), expected)


def remembering_case(make: Callable[[], nn.Module]) -> nn.Module:
    objective = CrossBatchMemory(make(), size=40, dim=DIM)
    with torch.no_grad():
        for seed in (50, 51):
            objective(*batch(seed, torch.float32))
    return objective.eval()


CASES = (
    Case("contrastive", lambda: remembering_case(lambda: Contrastive(margin=1.5)), rotation=False),
    Case("multi-similarity", lambda: remembering_case(lambda: MultiSimilarity(beta=4.0)), rotation=False),
    Case(
        "contrastive, hard",
        lambda: remembering_case(lambda: Mined(Contrastive(margin=1.5), HardPairs())),
        rotation=False,
    ),
)
# what is remembered has labels of its own, and positives and negatives for every batch
OTHER = ("stands_a_batch_without_positives", "stands_a_batch_without_negatives", "ignores_the_names_of_classes")


@pytest.mark.parametrize("promise", [promise for promise in PROMISES if promise not in OTHER])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_keeps_the_shared_promise(case: Case, promise: str) -> None:
    PROMISES[promise](case)


COMPILE = """
import torch
from accord.losses import Contrastive, CrossBatchMemory, Mined, TripletMargin, Tuplet
from accord.mining import DistanceWeighted, HardPairs
x, labels = torch.randn(12, 6), torch.arange(12) % 4
for make in (
    lambda: Mined(Contrastive(margin=1.5), HardPairs()),
    lambda: Mined(Contrastive(margin=1.5), DistanceWeighted()),
    lambda: CrossBatchMemory(Contrastive(margin=1.5), size=30, dim=6),
    lambda: CrossBatchMemory(Mined(Contrastive(margin=1.5), HardPairs()), size=30, dim=6),
    lambda: Mined(CrossBatchMemory(Tuplet(), size=30, dim=6), HardPairs()),
    lambda: CrossBatchMemory(Mined(TripletMargin(), HardPairs()), size=30, dim=6),
):
    plain, compiled = make(), torch.compile(make(), backend="aot_eager", fullgraph=True)
    for _ in range(3):
        torch.testing.assert_close(compiled(x, labels), plain(x, labels))
"""


def test_compiles_into_one_graph() -> None:
    # in a process without annotation checks, which no compiler can look through
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", COMPILE], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def wrappable(name: str) -> bool:
    try:
        check_wrappable("test", build_loss(name, dim=6, classes=5))
    except UsageError:
        return False
    return True


# wrapped and refused when called: it changes what it is handed, chooses its pairs, or counts pairs that labels count
REFUSED_LATE = ("signal_to_noise",)
BOTH = [name for name in CATALOGUE if name not in REFUSED_LATE and wrappable(name)]


def test_most_pair_losses_of_the_catalogue_take_part() -> None:
    assert {"triplet_margin", "tuplet", "sup_ap", "contrastive", "multi_similarity", "margin"} <= {*BOTH}


@pytest.mark.parametrize("name", BOTH)
def test_a_miner_inside_or_around_a_memory_is_the_same_for_every_loss(name: str) -> None:
    inside = remembering(Mined(build_loss(name, dim=6, classes=5), HardPairs()))
    outside = Mined(remembering(build_loss(name, dim=6, classes=5)), HardPairs()).double()
    for x, labels in batches(4):
        value, found = gradient(inside, x, labels)
        other, again = gradient(outside, x, labels)
        assert value.isfinite()
        torch.testing.assert_close((other, again), (value, found))
    with row_engine(plain=True):
        torch.testing.assert_close(gradient(inside.eval(), x, labels), gradient(outside.eval(), x, labels))


@pytest.mark.parametrize("outside", [False, True])
def test_tuplet_over_the_hardest_pairs_of_batch_and_memory_is_the_loop_over_them(outside: bool) -> None:
    objective: nn.Module = remembering(Tuplet(penalty=0.01) if outside else Mined(Tuplet(penalty=0.01), HardPairs()))
    objective = Mined(objective, HardPairs()) if outside else objective
    old: list[tuple[Tensor, Tensor]] = []
    for x, labels in batches(3):
        rows, names = torch.cat([x, *(part for part, _ in old)]), torch.cat([labels, *(part for _, part in old)])
        rows, names, costs = rows[:42], names[:42], []
        for a in range(len(x)):
            scores = [float(x[a] @ row) for row in rows]
            positives = [scores[j] for j in range(len(rows)) if names[j] == labels[a] and j != a]
            negatives = [scores[j] for j in range(len(rows)) if names[j] != labels[a]]
            if positives and negatives:
                costs.append(log1p(exp(max(negatives) - min(positives))))
        expected = mean(costs) + 2 * 0.01 * mean([float(row @ row) for row in x])
        assert objective(x, labels).item() == pytest.approx(expected, rel=1e-9)
        old.append((x, labels))


@pytest.mark.parametrize("swap", [False, True])
def test_hardest_triplets_of_the_hardest_pairs_are_those_of_all_pairs(swap: bool) -> None:
    def make() -> nn.Module:
        return TripletMargin(mining="batch_hard", swap=swap)

    plain, mined = remembering(make()), remembering(Mined(make(), HardPairs()))
    for x, labels in batches(4):
        torch.testing.assert_close(gradient(mined, x, labels), gradient(plain, x, labels))


def test_refuses_the_label_that_marks_empty_places() -> None:
    objective, (x, labels) = remembering(Contrastive(margin=1.5)), batches(1)[0]
    labels[3] = NOBODY
    with pytest.raises(BatchError, match=r"label -9223372036854775808 marks places that are empty"):
        objective(x, labels)
    assert objective.count == 0
    labels[3] = NOBODY + 1
    assert objective(x, labels).isfinite()


@pytest.mark.parametrize("name", ["ArcFaceLoss", "ProxyAnchorLoss", "FastAPLoss", "NPairsLoss"])
def test_says_that_a_loss_of_pytorch_metric_learning_can_not_have_a_memory(name: str) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    options = {"num_classes": 5, "embedding_size": 6} if name in ("ArcFaceLoss", "ProxyAnchorLoss") else {}
    objective = remembering(getattr(losses, name)(**options))
    with pytest.raises(UsageError, match=rf"{name} \(foreign\) can't compare a batch with a memory(.|\n)*Ensemble"):
        objective(*batches(1)[0])
    assert objective.count == 0

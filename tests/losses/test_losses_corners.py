"""Corners that no promise reaches: functions equal their modules, and what is said when a part does not fit."""

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import accord.losses
from accord.errors import BatchError, NumericError, UsageError
from accord.losses import (
    Contrastive,
    CrossBatchMemory,
    Foreign,
    Mined,
    MultiSimilarity,
    NPair,
    SoftTriple,
    Tally,
    check_loss,
    soft_triple,
    survey,
    sweep,
)
from accord.losses import _subject as subjects
from accord.losses._promises_numbers import survives_extreme_temperatures
from accord.losses._sup_ap import HardStep
from accord.losses._wrapping import MinedRule, _exchanged
from accord.mining import Block, Chain, HardPairs, TableGroups
from accord.recipes import build_loss
from accord.recipes.catalog.losses import LOSSES
from conformance import PROMISES, Case, without_shape_checks

TWO_SIDED = {"n_pair", "n_pair_ovo"}  # their functions take anchors and positives


def batch() -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    return embeddings.requires_grad_(), torch.arange(20) % 4


@pytest.mark.parametrize("name", sorted(set(LOSSES) - TWO_SIDED))
def test_function_and_module_are_one_loss(name: str) -> None:
    module = build_loss(name, dim=8, classes=4).eval()
    function = getattr(accord.losses, name)
    embeddings, labels = batch()
    wanted = [
        parameter.name
        for parameter in list(inspect.signature(function).parameters.values())[2:]
        if parameter.default is inspect.Parameter.empty and hasattr(module, parameter.name)
    ]
    torch.testing.assert_close(
        function(embeddings, labels, *(getattr(module, n) for n in wanted)), module(embeddings, labels)
    )


def test_a_single_centre_has_nothing_to_spread() -> None:
    embeddings, labels = batch()
    module = SoftTriple(8, 4, centres=1, tau=0.5)
    without = soft_triple(embeddings, labels, module.weight, centres=1, tau=0.0)
    torch.testing.assert_close(module(embeddings, labels), without)


@dataclass(frozen=True)
class Constant:
    """A rule that costs the same whatever comes."""

    name = "constant"
    measure = "score"
    unit = True

    def costs(self, block: Block) -> Tally:
        return Tally(torch.ones_like(block.negative_count), None)

    def read(self, block: Block) -> Tensor:
        return block.negative_count[:, None]

    def finish(self, statistics: Tensor, own: object) -> Tensor:
        return torch.ones(())


def test_what_costs_the_same_pulls_nothing() -> None:
    embeddings, labels = batch()
    for way in (sweep, survey):
        (gradient,) = torch.autograd.grad(way(Constant(), embeddings, labels), embeddings)
        assert (gradient == 0).all()


def test_a_table_s_pairs_are_counted() -> None:
    positives, negatives = TableGroups(torch.arange(6) % 3, 3, per_class=2).totals
    assert (positives.item(), negatives.item()) == (12, 24)


def test_a_chain_names_its_miners() -> None:
    assert repr(Chain(HardPairs())) == "Chain(HardPairs())"


def test_foreign_code_must_be_callable_and_may_say_nothing_of_itself() -> None:
    with without_shape_checks(), pytest.raises(UsageError, match="a loss must be callable"):
        Foreign(3)  # type: ignore[arg-type]

    def pairs(embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.sum()

    with without_shape_checks(), pytest.raises(UsageError, match="a miner must be callable"):
        Foreign(pairs, 3)  # type: ignore[arg-type]
    silent = Foreign(torch.nn.functional.cosine_embedding_loss)
    assert silent.loss is torch.nn.functional.cosine_embedding_loss
    from accord.losses import _foreign

    assert _foreign.accepts(max, 3), "what tells nothing of itself is believed to"
    assert not _foreign.accepts(pairs, 3)
    assert not _foreign._takes(dict.fromkeys, "ref_emb")
    assert not _foreign._takes(3, "ref_emb")


def test_a_memory_around_foreign_code_is_mined_inside() -> None:
    def pairs(embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.square().sum()

    with pytest.raises(UsageError, match="must be mined before it is wrapped"):
        Mined(CrossBatchMemory(pairs, size=8, dim=8), HardPairs())


def test_a_memory_wants_a_loss_that_compares() -> None:
    class Idle(Contrastive):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return sweep(self.rule, embeddings, labels, keys=embeddings, key_labels=labels)

    with pytest.raises(UsageError, match="does not compare the items"):
        CrossBatchMemory(Idle(), size=80, dim=8)(*batch())


def test_a_loss_that_refuses_must_be_declared_to() -> None:
    case = Case("n-pair", NPair, scaling=False, row_order=False, refuses_without_positives=False)
    with pytest.raises(BatchError):
        PROMISES["stands_a_batch_without_positives"](case)


class Table(nn.Module):
    """A foreign loss with one number a class, and a parameter that nothing uses."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(classes))
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return (self.scale[labels] * embeddings.float().square().sum(dim=1)).mean()


def test_foreign_losses_of_every_make_get_a_report() -> None:
    report = check_loss(Table(5), dim=6, classes=5, strict=False, show=lambda text: None)
    assert "Table" in report.name
    report = check_loss(partial(MultiSimilarity()), strict=False, show=lambda text: None)
    assert report.name
    with pytest.raises(UsageError, match="at least 2"):
        check_loss(Contrastive(), dim=1)
    with without_shape_checks(), pytest.raises(UsageError, match="can't be called"):
        check_loss(3)  # type: ignore[arg-type]


def subject(make: Any, *, ours: bool = True) -> subjects.Subject:
    return subjects.Subject("made", make, 6, 5, ours=ours, learns_classes=False)


def test_a_temperature_that_breaks_is_named() -> None:
    class Hot(nn.Module):
        temperature = 0.5

        def __init__(self) -> None:
            super().__init__()
            self.temperature = 0.5

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.float().sum() * torch.tensor(1000 / self.temperature).exp()

    with pytest.raises(subjects.Broken, match="temperature"):
        survives_extreme_temperatures(subject(Hot))

    @dataclass(frozen=True)
    class Picky:
        temperature: float = 0.5

        def __post_init__(self) -> None:
            if self.temperature != 0.5:
                raise ValueError("no")

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rule = Picky()

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return embeddings.sum()

    assert "0 settings" in str(survives_extreme_temperatures(subject(Fixed)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: x.detach().sum().requires_grad_(), "no gradient by the embeddings"),
        (lambda x, y: 3, "no scalar tensor but int"),
        (lambda x, y: x.detach().sum(), "carries no gradient"),
        (lambda x, y: x.sum() / 0, "not finite"),
    ],
)
def test_what_is_no_loss_is_told(call: Any, message: str) -> None:
    with pytest.raises(subjects.Broken, match=message):
        subjects.run(subject(lambda: call), *subject(lambda: call).batch())


def test_a_parameter_of_ours_must_learn() -> None:
    with pytest.raises(subjects.Broken, match="unused gets no gradient"):
        subjects.run(subject(lambda: Table(5)), *subject(lambda: Table(5)).batch())


def test_shapes_are_compared_first() -> None:
    with pytest.raises(subjects.Broken, match=r"shape \(2,\) instead of \(3,\)"):
        subjects.close(torch.ones(2), torch.ones(3))


def test_a_step_for_ranks_passes_nothing() -> None:
    gaps = torch.tensor([[-1.0, 0.0, 2.0]])
    count, slope = HardStep().both_(gaps)
    assert count.tolist() == [2.0]
    assert (slope == 0).all()


def test_a_rule_around_a_rule_has_no_other_names_than_its_options() -> None:
    around = MinedRule(Contrastive(margin=0.3).rule, HardPairs())
    assert around.margin == 0.3
    for name in ("_anything", "temperature"):
        with pytest.raises(AttributeError, match=name):
            getattr(around, name)


def test_a_rule_exchanged_for_a_graph_is_put_back() -> None:
    embeddings, labels = batch()
    loss = Contrastive(margin=0.3)
    own = loss.rule
    value = _exchanged(loss, Contrastive(margin=0.9).rule, embeddings, labels)
    torch.testing.assert_close(value, Contrastive(margin=0.9)(embeddings, labels))
    assert loss.rule is own
    with pytest.raises(NumericError):
        _exchanged(loss, Contrastive(margin=0.9).rule, embeddings.detach() / 0, labels)
    assert loss.rule is own


def test_what_a_loss_learns_may_be_declared_and_its_graph_asked_for() -> None:
    def spread(embeddings: Tensor, labels: Tensor) -> Tensor:
        return embeddings.float().square().mean()

    told = check_loss(spread, learns_classes=False, compiled=True, strict=False, show=lambda text: None)
    assert "compiles_into_one_graph" in str(told.as_json())
    assert "compiles_into_one_graph" not in str(check_loss(spread, strict=False, show=lambda text: None).as_json())

"""Pairs and triplets without classes: each loss learns what they say, or is refused by its name."""

import pytest
import torch
from torch import nn

from accord.ensembles import Ensemble, FixedWeights
from accord.errors import BatchError, UsageError
from accord.losses import (
    Contrastive,
    CrossBatchMemory,
    FastAP,
    Foreign,
    Koleo,
    Margin,
    Mined,
    MultiSimilarity,
    NPair,
    NTXent,
    ProxyNCA,
    Related,
    Sigmoid,
    TripletMargin,
    check_related,
    row_engine,
)
from accord.mining import HardPairs
from accord.recipes.catalog.losses import LOSSES, build_loss
from accord.types import Pairs, Triplets


def _batch(items: int = 8, dim: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(items, dim, generator=generator, dtype=torch.float64).requires_grad_()


def _triplets(*rows: tuple[int, int, int]) -> Triplets:
    return Triplets(*torch.tensor(rows).T)


SAID = _triplets((0, 1, 2), (0, 1, 3), (4, 5, 0), (2, 3, 7))
LINKED = Pairs(torch.tensor([0, 1, 4]), torch.tensor([1, 2, 5]))


def _squared(x: torch.Tensor, one: int, other: int) -> torch.Tensor:
    unit = torch.nn.functional.normalize(x, dim=1)
    return (unit[one] - unit[other]).square().sum()


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_a_triplet_costs_what_the_paper_says_and_no_other_is_looked_at(plain: bool, swap: bool) -> None:
    rows = [(0, 1, 2), (4, 5, 0), (2, 3, 7)]
    x = _batch()
    with row_engine(plain=plain):
        found = Related(TripletMargin(margin=0.7, swap=swap))(x, _triplets(*rows))
    far = [_squared(x, a, n).minimum(_squared(x, p, n)) if swap else _squared(x, a, n) for a, p, n in rows]
    costs = [(_squared(x, a, p) - d + 0.7).relu() for (a, p, _), d in zip(rows, far, strict=True)]
    expected = torch.stack(costs).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    gradients = [torch.autograd.grad(value, x)[0] for value in (found, expected)]
    assert torch.allclose(*gradients, atol=1e-12)


def test_all_triplets_of_an_anchor_are_averaged() -> None:
    x = _batch()
    found = Related(TripletMargin(margin=2.0, mining="all"))(x, SAID)
    costs = [
        (_squared(x, a, p) - _squared(x, a, n) + 2).relu() for a, p, n in zip(*(t.tolist() for t in SAID), strict=True)
    ]
    assert found.item() == pytest.approx(torch.stack(costs).mean().item(), rel=1e-12)


def test_positives_of_one_anchor_meet_all_its_negatives() -> None:
    x = _batch()
    one = Related(MultiSimilarity())(x, _triplets((0, 1, 2), (0, 4, 3)))
    other = Related(MultiSimilarity())(x, _triplets((0, 1, 3), (0, 4, 2)))
    assert torch.equal(one, other)


def test_contrastive_takes_the_pairs_of_triplets_each_once() -> None:
    x = _batch()
    found = Related(Contrastive(margin=1.5, hinge="squared"))(x, SAID)
    near = [_squared(x, a, b) for a, b in ((0, 1), (4, 5), (2, 3))]
    far = [(1.5 - _squared(x, a, b).sqrt()).relu().square() for a, b in ((0, 2), (0, 3), (4, 0), (2, 7))]
    assert found.item() == pytest.approx(torch.stack(near + far).mean().item(), rel=1e-9)


def test_contrastive_averages_the_kinds_of_pairs_that_were_named() -> None:
    x = _batch()
    found = Related(Contrastive(margin=1.5, average="kinds"))(x, SAID)
    near = [_squared(x, a, b) for a, b in ((0, 1), (4, 5), (2, 3))]
    far = [(1.5 - _squared(x, a, b).sqrt()).relu().square() for a, b in ((0, 2), (0, 3), (4, 0), (2, 7))]
    expected = torch.stack(near).mean() + torch.stack(far).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_pairs_are_the_classes_that_they_link() -> None:
    x = _batch()
    labels = torch.tensor([0, 0, 0, 3, 4, 4, 6, 7])
    for loss in (NTXent(), Contrastive(), FastAP(), NPair(), Mined(MultiSimilarity(), HardPairs())):
        assert torch.equal(Related(loss)(x, LINKED), loss(x, labels))


def test_labels_are_handed_on() -> None:
    x, labels = _batch(), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert torch.equal(Related(Contrastive())(x, labels), Contrastive()(x, labels))


def _accepted(loss: nn.Module, kind: str) -> bool:
    try:
        check_related(loss, kind)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("kind", ["pairs", "triplets"])
def test_every_loss_of_the_catalogue_learns_or_is_refused_by_name(kind: str) -> None:
    relations = SAID if kind == "triplets" else LINKED
    taught = []
    for name in LOSSES:
        loss = build_loss(name, dim=5, classes=4)
        if not _accepted(loss, kind):
            with pytest.raises(UsageError, match=type(loss).__name__):
                Related(loss)(_batch(), relations)
            continue
        x = _batch()
        value = Related(loss.double())(x, relations)
        (gradient,) = torch.autograd.grad(value, x)
        assert value.isfinite()
        assert gradient.isfinite().all()
        assert gradient.any(), name
        taught.append(name)
    assert len(taught) > (20 if kind == "triplets" else 30)
    assert not {"proxy_nca", "proxy_anchor", "arc_face", "centre", "soft_triple"} & set(taught)


def test_only_what_was_said_of_an_anchor_moves() -> None:
    losses = (Contrastive(), NTXent(), TripletMargin(margin=2.0), Sigmoid())
    for loss in losses:
        x = _batch()
        (gradient,) = torch.autograd.grad(Related(loss)(x, _triplets((0, 1, 2))), x)
        assert gradient[:2].any(), loss
        assert not gradient[3:].any(), loss


@pytest.mark.parametrize("relations", [SAID, LINKED], ids=["triplets", "pairs"])
def test_dynamic_proxies_know_relations_themselves(relations: Pairs | Triplets) -> None:
    loss, x = ProxyNCA(5, 4, assignment="dynamic").double(), _batch()
    assert torch.equal(Related(loss)(x, relations), loss(x, relations))


def test_what_learns_for_each_class_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"ProxyNCA can't learn from pairs .*assignment='dynamic'"):
        Related(ProxyNCA(5, 4))
    with pytest.raises(UsageError, match="Margin can't learn from pairs without classes, for it learns something for"):
        Related(Margin(classes=4))
    with pytest.raises(UsageError, match=r"CrossBatchMemory\(Contrastive\) can't learn .*leave the memory out"):
        Related(CrossBatchMemory(Contrastive(), dim=5))


def test_a_foreign_loss_learns_from_pairs_alone() -> None:
    loss = Foreign(lambda x, labels: (x[labels == labels[0]] - x[0]).square().sum())
    assert Related(loss)(_batch(), LINKED).requires_grad
    with pytest.raises(UsageError, match="it is foreign, and knows only labels"):
        Related(loss)(_batch(), SAID)


def test_a_loss_that_goes_around_the_row_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "accord.losses._related.call_with", lambda _, loss, embeddings, labels: loss(embeddings, labels)
    )
    with pytest.raises(UsageError, match=r"Related\(Contrastive\): this loss does not ask the row engine"):
        Related(Contrastive())(_batch(), _triplets((0, 1, 2)))


def test_mining_chooses_among_what_was_named() -> None:
    x = _batch()
    mined = Related(Mined(Contrastive(), HardPairs()))(x, SAID)
    assert mined.isfinite()
    assert not torch.equal(mined, Related(Contrastive())(x, SAID))


def test_an_ensemble_hands_relations_to_its_members() -> None:
    members = {
        "triplet": Related(TripletMargin()),
        "koleo": Related(Koleo()),
        "proxies": ProxyNCA(5, 4, assignment="dynamic"),
    }
    x = _batch().detach().float().requires_grad_()
    objective = Ensemble(members, weighting=FixedWeights())
    objective(x, SAID).backward()
    assert x.grad is not None
    assert set(objective.terms) == set(members)


def test_no_triplets_cost_nothing_and_carry_a_gradient() -> None:
    x = _batch()
    nothing = torch.zeros(0, dtype=torch.int64)
    value = Related(Contrastive())(x, Triplets(nothing, nothing, nothing))
    assert value.item() == 0
    assert not torch.autograd.grad(value, x)[0].any()


def test_rows_that_are_not_there_are_refused_by_number() -> None:
    with pytest.raises(BatchError, match=r"Related\(Contrastive\): negatives must be rows 0 … 7.*0: \(0, 1, 8\)"):
        Related(Contrastive())(_batch(), _triplets((0, 1, 8)))


def test_options_of_a_rule_are_reached_through_what_stands_around_it() -> None:
    x = _batch()
    losses = (Related(TripletMargin(mining="all", violating_only=flag, margin=0.9)) for flag in (True, False))
    one, other = (loss(x, SAID).item() for loss in losses)
    assert one > other > 0

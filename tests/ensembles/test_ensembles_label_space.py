"""Label-space diversity: partitions and subsets of the classes, and members that see only these."""

import doctest

import jaxtyping
import pytest
import torch

from accord.ensembles import Ensemble, FixedWeights, Relabelled, Subset, _label_space, class_partitions, class_subsets
from accord.errors import BatchError, UsageError
from accord.losses import Contrastive, CrossBatchMemory, NPair, ProxyNCA, TripletMargin
from accord.types import Pairs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(classes: int = 6, each: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    embeddings = torch.randn(classes * each, 4, generator=seeded(), dtype=torch.float64).requires_grad_()
    return embeddings, torch.arange(classes).repeat_interleave(each)


@pytest.mark.parametrize(("classes", "groups"), [(2, 2), (10, 3), (100, 12), (7, 7)])
def test_a_partition_is_balanced_and_each_head_has_its_own(classes: int, groups: int) -> None:
    tables = class_partitions(classes, groups, heads=5, generator=seeded())
    assert tables.shape == (5, classes)
    for table in tables:
        sizes = table.bincount(minlength=groups)
        assert len(sizes) == groups
        assert int(sizes.max()) - int(sizes.min()) <= 1
    if classes > 7:
        assert not any(torch.equal(one, other) for i, one in enumerate(tables) for other in tables[:i])


def test_partitions_together_tell_classes_apart() -> None:
    tables = class_partitions(30, 6, heads=5, generator=seeded())
    assert len({tuple(column) for column in tables.T.tolist()}) == 30


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("classes", [2, 3, 10, 101])
def test_every_class_is_kept_by_equally_many_heads(classes: int, share: float) -> None:
    for heads in (1, 2, 5):
        kept = class_subsets(classes, share, heads=heads, generator=seeded(heads))
        assert kept.sum(dim=1).tolist() == [max(2, round(share * classes))] * heads
        often = kept.sum(dim=0)
        assert int(often.max()) - int(often.min()) <= 1
        assert not (heads * share >= 1.05 and bool((often == 0).any()))


def test_the_seed_decides() -> None:
    for draw in (
        lambda seed: class_partitions(20, 4, heads=3, generator=seeded(seed)),
        lambda seed: class_subsets(20, 0.4, heads=3, generator=seeded(seed)),
    ):
        assert torch.equal(draw(1), draw(1))
        assert not torch.equal(draw(1), draw(2))


def test_a_relabelled_member_learns_the_table_s_labels() -> None:
    embeddings, labels = batch()
    table = torch.tensor([2, 0, 1, 0, 2, 1])
    for loss in (Contrastive(margin=1.5), ProxyNCA(4, 3).double(), lambda e, y: (e.sum(dim=1) * y).mean()):
        found = Relabelled(loss, table)(embeddings, labels)
        torch.testing.assert_close(found, loss(embeddings, table[labels]))


def test_a_subset_sees_the_kept_items_with_their_classes_numbered_anew() -> None:
    embeddings, labels = batch()
    keep = torch.tensor([False, True, True, False, False, True])
    rows = keep[labels]
    numbers = torch.tensor([0, 1, 2]).repeat_interleave(3)
    for loss in (Contrastive(margin=1.5), ProxyNCA(4, 3).double(), lambda e, y: (e.sum(dim=1) * y).mean()):
        member = Subset(loss, keep)
        found = member(embeddings, labels)
        torch.testing.assert_close(found, loss(embeddings[rows], numbers))
        (gradient,) = torch.autograd.grad(found, embeddings)
        assert bool(gradient[~rows].eq(0).all())
        assert bool(gradient[rows].ne(0).any())
        assert int(member.unseen) == 0


def test_a_batch_of_which_nothing_is_kept_costs_zero_and_is_counted() -> None:
    embeddings, labels = batch(classes=3)
    member = Subset(lambda e, y: e.mean(), torch.tensor([False, False, False, True, True]))
    found = member(embeddings, labels)
    found.backward()
    assert found == 0
    assert bool(embeddings.grad.eq(0).all())
    member(embeddings, labels)
    assert int(member.unseen) == 2
    member.eval()
    member(embeddings, labels)
    assert int(member.unseen) == 2, "only the training is counted"
    again = Subset(lambda e, y: e.mean(), torch.ones(5, dtype=torch.bool))
    again.load_state_dict(member.state_dict())
    assert int(again.unseen) == 2
    assert again.keep.tolist() == [False, False, False, True, True]


def test_what_was_drawn_is_saved_with_the_loss() -> None:
    table, keep = torch.tensor([0, 1, 0]), torch.tensor([True, True, False])
    assert set(Relabelled(ProxyNCA(4, 2), table).state_dict()) == {"table", "loss.proxies"}
    assert set(Subset(ProxyNCA(4, 2), keep).state_dict()) == {"keep", "unseen", "loss.proxies"}
    other = Relabelled(ProxyNCA(4, 2), torch.tensor([1, 1, 0]))
    other.load_state_dict(Relabelled(ProxyNCA(4, 2), table).state_dict())
    assert torch.equal(other.table, table)


def test_they_are_members_of_an_ensemble() -> None:
    embeddings, labels = batch()
    tables = class_partitions(6, 3, heads=2, generator=seeded())
    keep = torch.tensor([True, False] * 3)
    named = {
        "pairs": Relabelled(Contrastive(margin=1.5), tables[0]),
        "proxies": Relabelled(ProxyNCA(4, 3), tables[1]),
        "remembers": Subset(CrossBatchMemory(Contrastive(), size=20, dim=4), keep),
        "few": Subset(TripletMargin(), keep),
    }
    objective = Ensemble(named, weighting=FixedWeights()).double()
    heads = {name: embeddings.detach().roll(place, 1).requires_grad_() for place, name in enumerate(named)}
    for _ in range(2):
        objective(heads, labels).backward()
    assert all(bool(head.grad.ne(0).any()) for head in heads.values())
    torch.testing.assert_close(
        objective.terms["few"], TripletMargin()(heads["few"][keep[labels]], labels[keep[labels]]).detach()
    )
    nothing = torch.zeros(0, 4, dtype=torch.float64).requires_grad_()
    assert objective(dict.fromkeys(named, nothing), labels[:0]) == 0


def test_it_has_the_gradient_of_its_value() -> None:
    embeddings, labels = batch()
    for member in (
        Relabelled(NPair(), torch.tensor([0, 0, 1, 1, 2, 2])),
        Subset(NPair(), torch.tensor([True] * 4 + [False] * 2)),
    ):
        assert torch.autograd.gradcheck(lambda x, member=member: member(x, labels), (embeddings,))


@pytest.mark.parametrize("member", [Relabelled(NPair(), torch.arange(3)), Subset(NPair(), torch.ones(3, dtype=bool))])
def test_labels_it_was_not_made_for_are_refused(member: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    name = type(member).__name__
    with pytest.raises(BatchError, match=f"{name}: labels must lie in 0 … 2"):
        member(torch.eye(4), torch.arange(4))
    with pytest.raises(UsageError, match=f"{name}: needs a class number for each item, not Pairs"):
        member(torch.eye(4), Pairs(torch.tensor([0]), torch.tensor([1])))
    # the tests' annotation checks would answer before our own
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(BatchError, match=f"{name}: labels must have one entry per embedding"):
        member(torch.eye(4), torch.arange(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: class_partitions(5, 6, heads=2, generator=seeded()),
            "groups must be .* at most 5",
        ),
        (lambda: class_partitions(5, 1, heads=2, generator=seeded()), "groups must be a whole number of at least 2"),
        (lambda: class_partitions(5, 2, heads=0, generator=seeded()), "heads must be a whole number of at least 1"),
        (lambda: class_subsets(5, 0.0, heads=2, generator=seeded()), "share must be more than 0"),
        (
            lambda: class_subsets(5, 1.1, heads=2, generator=seeded()),
            "share must be .* at most 1",
        ),
        (lambda: class_subsets(1, 0.5, heads=2, generator=seeded()), "classes must be a whole number of at least 2"),
        (lambda: Relabelled(NPair(), torch.tensor([0, -1])), "give each class a number of at least 0"),
        (lambda: Relabelled(NPair(), torch.zeros(0, dtype=torch.int64)), "give each class a number of at least 0"),
        (lambda: Subset(NPair(), torch.tensor([True, False])), "at least 2 of the 2 classes must be kept, not 1"),
    ],
)
def test_options_out_of_range_are_refused(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


def test_the_examples_run() -> None:
    assert doctest.testmod(_label_space).failed == 0

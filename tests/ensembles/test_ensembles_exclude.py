"""Members that are left out: not called, without a share, and of no influence on those that stay."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from accord.ensembles import (
    AdversarialRegressors,
    CKADiversity,
    DynamicAverage,
    Ensemble,
    FixedWeights,
    GradientBalance,
    GradNorm,
    PCGrad,
    PlainSum,
    PublishedWeights,
    RandomWeights,
    UncertaintyWeights,
    Weighting,
    grad_norm_pull,
    test_weights,
)
from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.losses import Contrastive, MultiSimilarity, NPair

NAMES = ("a", "b", "c")
LABELS = torch.arange(8) % 4
SEEING_ZERO: dict[str, Callable[[], Weighting]] = {
    "fixed": FixedWeights,
    "fixed, not normalised": lambda: FixedWeights(normalise=False),
    "uncertainty": UncertaintyWeights,
    "dynamic_average": lambda: DynamicAverage(steps_per_epoch=1),
    "random": RandomWeights,
}


def rows(seed: int = 0) -> Tensor:
    drawn = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.requires_grad_()


def heads() -> dict[str, Tensor]:
    return {name: rows(seed) for seed, name in enumerate(NAMES)}


def zero(embeddings: Tensor, labels: object) -> Tensor:
    return 0 * embeddings.sum()


def uncalled(embeddings: Tensor, labels: object) -> Tensor:
    raise AssertionError("a member that is left out is not called")


def make(weighting: Weighting, **options: object) -> Ensemble:
    losses = {"a": Contrastive(margin=1.5), "b": NPair(), "c": MultiSimilarity()}
    return Ensemble(losses, weighting=weighting, **options).double()


def test_the_total_is_that_of_the_others() -> None:
    objective, given = make(FixedWeights({"a": 0.2, "b": 0.3, "c": 0.5}, normalise=False)), heads()
    objective.exclude("b")
    total = objective(given, LABELS)
    by_hand = 0.2 * Contrastive(margin=1.5)(given["a"], LABELS) + 0.5 * MultiSimilarity()(given["c"], LABELS)
    torch.testing.assert_close(total, by_hand)
    total.backward()
    assert given["b"].grad is None
    assert list(objective.terms) == list(objective.weights()) == list(objective.scales()) == ["a", "c"]


def test_its_share_goes_to_the_others() -> None:
    objective = make(FixedWeights({"a": 0.2, "b": 0.3, "c": 0.5}))
    objective.exclude("b")
    assert {name: float(share) for name, share in test_weights(objective).items()} == pytest.approx(
        {"a": 0.2 / 0.7, "b": 0.0, "c": 0.5 / 0.7}
    )


@pytest.mark.parametrize("name", SEEING_ZERO)
def test_leaving_out_a_loss_of_zero_changes_no_bit_of_the_training(name: str) -> None:
    found = []
    for excluded in ((), ("idle",)):
        members = {"a": Contrastive(margin=1.5), "b": NPair(), "idle": uncalled if excluded else zero}
        objective = Ensemble(members, weighting=SEEING_ZERO[name]()).double()
        objective.exclude(*excluded)
        given = {"a": rows(0), "b": rows(1), "idle": rows(2)}
        for _ in range(4):
            objective(given, LABELS).backward()
        found.append((given["a"].grad, given["b"].grad, dict(objective.weighting.named_buffers())))
    (one, two, state), (first, second, other) = found
    assert torch.equal(one, first)
    assert torch.equal(two, second)
    assert all(torch.equal(state[key], other[key]) for key in state if key != "last")


def test_one_embedding_for_all_is_swept_for_the_others_alone() -> None:
    objective, embeddings = make(FixedWeights()), rows()
    for _ in range(2):  # the second call knows its weights ahead
        objective(embeddings, LABELS)
        objective.exclude("b")
    total = objective(embeddings, LABELS)
    assert list(objective.terms) == ["a", "c"]
    torch.testing.assert_close(total, sum(objective.weights()[n] * objective.terms[n] for n in ("a", "c")))


def test_a_published_weight_rests_when_its_member_is_left_out() -> None:
    weighting = PublishedWeights()
    objective, given = make(weighting), heads()
    objective(given, LABELS).backward()
    assert (weighting.loss_weights.grad != 0).all()
    objective.exclude("b")
    weighting.loss_weights.grad = None
    objective(given, LABELS).backward()
    # the others' gradient by hand: 2c · (normalised loss + 2η · (Σw − 1)), the resting weight being part of the sum
    with torch.no_grad():
        c, sizes = (
            weighting.loss_weights,
            torch.stack([objective.terms["a"], torch.zeros(()).double(), objective.terms["c"]]),
        )
        normalised = sizes * weighting.means.mean() / weighting.means
        expected = 2 * c * (normalised + 2 * weighting.eta * ((c.square() + 1 / 12).sum() - 1))
    assert weighting.loss_weights.grad[1] == 0
    torch.testing.assert_close(weighting.loss_weights.grad[[0, 2]], expected[[0, 2]])


def test_the_lengths_of_gradients_are_compared_among_the_others() -> None:
    weighting = GradNorm()
    weighting.bind(NAMES)
    weighting.double()
    weighting.loss_weights.data = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    weighting(torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64))
    weighting.leave_out(["b"])
    weighting(torch.tensor([1.0, 0.0, 3.5], dtype=torch.float64))
    found = weighting.pull(torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64))
    w = 3 * torch.softmax(weighting.loss_weights.detach(), dim=0)
    left = torch.tensor([0, 2])
    lengths, progress = torch.tensor([0.5, 2.0]).double(), torch.tensor([0.5, 3.5 / 4]).double()
    outer = grad_norm_pull(lengths, w[left], progress)
    expected = [float(w[i] * (o - (w[left] * outer).sum() / 3)) for i, o in zip(left, outer, strict=True)]
    assert found[1] == 0
    assert found[left].tolist() == pytest.approx(expected)


def test_a_rule_for_gradients_sees_those_of_the_others() -> None:
    feature = rows(5)
    grown = {}
    for excluded in ((), ("b",)):
        balance = GradientBalance(PCGrad() if excluded else PlainSum())
        objective = make(FixedWeights(normalise=False), balance=balance)
        objective.exclude(*excluded)
        own = feature.detach().clone().requires_grad_()
        objective(balance.split(own, NAMES), LABELS).backward()
        grown[excluded] = own.grad
        assert bool(balance.norms["b"] == 0) == bool(excluded)
    assert grown["b",].isfinite().all()
    assert not torch.equal(grown["b",], grown[()])


def test_heads_are_made_to_differ_from_the_others_alone() -> None:
    term = CKADiversity(weight=1.0)
    objective, given = make(FixedWeights(), diversity=term), heads()
    objective.exclude("b")
    objective(given, LABELS)
    torch.testing.assert_close(objective.terms["diversity"], term({n: given[n] for n in ("a", "c")}, LABELS).detach())
    objective.exclude("c")
    objective(given, LABELS)
    assert list(objective.terms) == ["a"], "one head has nothing to differ from"


def test_adversaries_leave_the_head_in_peace() -> None:
    term = AdversarialRegressors(dict.fromkeys(NAMES, 6))
    objective, given = make(FixedWeights(), diversity=term), heads()
    objective.exclude("b")
    objective(given, LABELS).backward()
    assert given["b"].grad is None
    assert {
        pair for pair, part in zip(term.pairs, term.regressors, strict=True) if part.outer.bias.grad is not None
    } == {
        ("a", "c"),
        ("c", "a"),
    }
    with pytest.raises(BatchError, match="not those that the regressors were made for"):
        term(given, LABELS)


def test_refuses_who_is_no_member_and_to_leave_nobody() -> None:
    objective = make(FixedWeights({"a": 1.0, "b": 1.0, "c": 0.0}))
    with pytest.raises(UnknownNameError, match="no member of the ensemble called 'd'"):
        objective.exclude("d")
    objective.exclude("a")
    with pytest.raises(UsageError, match="without a, b no member is left that counts at test time"):
        objective.exclude("b")
    assert objective.excluded == ("a",)


@pytest.mark.parametrize("weighting", [FixedWeights, PublishedWeights, GradNorm])
def test_the_state_says_who_is_left_out(weighting: Callable[[], Weighting]) -> None:
    objective = make(weighting())
    fresh = copy.deepcopy(objective)
    assert "excluded" not in objective.state_dict(), "nothing is added where nobody is"
    usual = objective.state_dict()
    objective.exclude("c")
    state = objective.state_dict()
    assert state["excluded"].tolist() == [False, False, True]
    fresh.load_state_dict(state)
    assert fresh.excluded == ("c",)
    resting = getattr(fresh.weighting, "resting", torch.tensor([False, False, True]))
    assert resting.tolist() == [False, False, True]
    assert "excluded" in state, "whose it is keeps it"
    fresh.load_state_dict(usual)
    assert fresh.excluded == ()


def test_a_state_of_other_members_is_refused() -> None:
    two = Ensemble({"a": Contrastive(), "b": NPair()}, weighting=FixedWeights()).double()
    objective = make(FixedWeights())
    objective.exclude("c")
    with pytest.raises(RuntimeError, match="an ensemble of a, b, c; this one's members are a, b"):
        two.load_state_dict(objective.state_dict())
    assert two.excluded == ()
    nameless = objective.state_dict()
    del nameless["names"]  # as written before names were
    with pytest.raises(RuntimeError, match="size mismatch"):
        two.load_state_dict(nameless)
    assert two.excluded == ()


def test_a_state_is_refused_by_members_of_other_names_or_in_another_order() -> None:
    members = {"a": Contrastive(), "b": NPair()}
    state = Ensemble(members, weighting=FixedWeights()).state_dict()
    for others in ({"b": NPair(), "a": Contrastive()}, {"a": Contrastive(), "ü": NPair()}):
        with pytest.raises(RuntimeError, match=f"are {', '.join(others)}. Make it with the same"):
            Ensemble(others, weighting=FixedWeights()).load_state_dict(state)
    commas = ({"a, b": Contrastive(), "c": NPair()}, {"a": Contrastive(), "b, c": NPair()})
    one, two = (Ensemble(named, weighting=FixedWeights()) for named in commas)
    with pytest.raises(RuntimeError, match="Make it with the same"):
        two.load_state_dict(one.state_dict())
    Ensemble(members, weighting=FixedWeights()).load_state_dict(state)
    del state["names"]
    Ensemble(members, weighting=FixedWeights()).load_state_dict(state)


def test_names_every_member_that_is_not_finite() -> None:
    values = {"a": float("nan"), "b": 1.0, "c": float("inf")}
    members = {name: lambda e, y, value=value: value + 0 * e.sum() for name, value in values.items()}
    objective = Ensemble(members, weighting=FixedWeights()).double()
    with pytest.raises(NumericError, match="ensemble member 'a'"):
        objective(rows(), LABELS)
    assert objective.broken == ("a", "c")
    objective.exclude(*objective.broken)
    objective(rows(), LABELS)
    assert objective.broken == ()

"""One backward pass through the trunk: each member's gradient is met at the shared feature, balanced and handed on."""

import doctest
import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from accord.ensembles import (
    AlignedMTL,
    CAGrad,
    Ensemble,
    FixedWeights,
    GradientBalance,
    GradNorm,
    NashMTL,
    PCGrad,
    PlainSum,
    Rule,
    UncertaintyWeights,
    _balance,
    aligned_mtl,
    cagrad,
    nash_mtl,
    pcgrad,
)
from accord.ensembles._random_weights import drawn
from accord.errors import BatchError, UsageError
from accord.losses import Contrastive, NPair, TripletMargin

NAMES = ("pairs", "triplets", "tuples")
LABELS = torch.arange(12) % 4


class Model(nn.Module):
    """A trunk and one linear head per member; counts the backward passes through the trunk."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh()).double()
            self.heads = nn.ModuleDict({name: nn.Linear(8, 4).double() for name in NAMES})
        self.passes = 0
        self.trunk[1].register_full_backward_hook(self._count)

    def _count(self, *unused: object) -> None:
        self.passes += 1

    def outputs(self, inputs: Tensor, balance: GradientBalance | None) -> Mapping[str, Tensor]:
        feature = self.trunk(inputs)
        own = dict.fromkeys(NAMES, feature) if balance is None else balance.split(feature, NAMES)
        return {name: head(own[name]) for name, head in self.heads.items()}


class Against(nn.Module):
    """A loss that was told other labels, so that it wishes otherwise."""

    def __init__(self, loss: nn.Module, rolled: int) -> None:
        super().__init__()
        self.loss, self.rolled = loss, rolled

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return self.loss(embeddings, (labels * 7 + torch.arange(len(labels)) // self.rolled) % 4)


def members() -> dict[str, nn.Module]:
    """Three that are often at odds."""
    triplets, tuples = TripletMargin(mining="all"), NPair()
    return {"pairs": Contrastive(margin=1.5), "triplets": Against(triplets, 2), "tuples": Against(tuples, 3)}


def inputs(seed: int = 0) -> Tensor:
    return torch.randn(12, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(rule: Rule | None, weighting: nn.Module | None = None) -> Ensemble:
    balance = None if rule is None else GradientBalance(rule)
    plain = weighting or FixedWeights(normalise=False, weights={"pairs": 1.0, "triplets": 2.0, "tuples": 0.5})
    return Ensemble(members(), weighting=plain, balance=balance).double()


def separately(model: Model, objective: Ensemble) -> Tensor:
    """Each weighted member's gradient at the shared feature, one backward pass for each."""
    feature = model.trunk(inputs()).detach().requires_grad_()
    found = []
    for name, weight in objective.weights().items():
        loss = objective.members[name](model.heads[name](feature), LABELS)
        found.append(torch.autograd.grad(weight * loss, feature)[0].flatten())
    return torch.stack(found)


def gradient_of(parameters: nn.Module) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in parameters.parameters()])


def test_the_plain_sum_changes_no_gradient() -> None:
    plain, split = Model(), Model()
    objective, balanced = made(None), made(PlainSum())
    objective(plain.outputs(inputs(), None), LABELS).backward()
    balanced(split.outputs(inputs(), balanced.balance), LABELS).backward()
    torch.testing.assert_close(gradient_of(plain), gradient_of(split))


@pytest.mark.parametrize("rule", [PCGrad(), CAGrad(), NashMTL(), AlignedMTL()], ids=lambda rule: type(rule).__name__)
def test_one_backward_pass_carries_what_the_rule_makes_of_separate_ones(rule: Rule) -> None:
    model, objective = Model(), made(rule)
    objective(model.outputs(inputs(), objective.balance), LABELS).backward()
    assert model.passes == 1
    parts = separately(model, objective)
    expected = {
        "PCGrad": lambda: pcgrad(parts, generator=drawn(0, 1)),
        "CAGrad": lambda: cagrad(parts),
        "NashMTL": lambda: nash_mtl(parts),
        "AlignedMTL": lambda: aligned_mtl(parts),
    }[type(rule).__name__]()
    assert not torch.allclose(expected, parts.sum(dim=0)), "the rule has something to do here"
    reference = Model()
    reference.trunk(inputs()).backward(expected.view(12, 8))
    torch.testing.assert_close(gradient_of(model.trunk), gradient_of(reference.trunk))


@pytest.mark.parametrize("rule", [PCGrad(), NashMTL()], ids=["pcgrad", "nash"])
def test_heads_learn_from_their_own_losses_unbalanced(rule: Rule) -> None:
    plain, split, objective, balanced = Model(), Model(), made(None), made(rule)
    objective(plain.outputs(inputs(), None), LABELS).backward()
    balanced(split.outputs(inputs(), balanced.balance), LABELS).backward()
    torch.testing.assert_close(gradient_of(plain.heads), gradient_of(split.heads))
    assert not torch.allclose(gradient_of(plain.trunk), gradient_of(split.trunk))


def test_notes_lengths_and_cosines() -> None:
    model, objective = Model(), made(PlainSum())
    objective(model.outputs(inputs(), objective.balance), LABELS).backward()
    parts = separately(model, objective)
    assert {name: norm.item() for name, norm in objective.balance.norms.items()} == pytest.approx(
        dict(zip(NAMES, parts.norm(dim=1).tolist(), strict=True))
    )
    unit = parts / parts.norm(dim=1, keepdim=True)
    cosines = {
        "pairs/triplets": unit[0] @ unit[1],
        "pairs/tuples": unit[0] @ unit[2],
        "triplets/tuples": unit[1] @ unit[2],
    }
    assert {name: value.item() for name, value in objective.balance.cosines.items()} == pytest.approx(
        {name: value.item() for name, value in cosines.items()}
    )


def watched(every: int) -> Ensemble:
    """Three members whose plain sum is watched in one of so many steps."""
    return Ensemble(members(), weighting=FixedWeights(), balance=GradientBalance(PlainSum(), every=every)).double()


def when_watched(objective: Ensemble, steps: int) -> list[bool]:
    """In which of the steps that come next the gradients are measured."""
    found = []
    for _ in range(steps):
        model = Model()
        objective(model.outputs(inputs(), objective.balance), LABELS).backward()
        assert set(objective.balance.norms) in (set(), set(NAMES))
        assert len(objective.balance.cosines) == len(objective.balance.norms)
        found.append(bool(objective.balance.norms))
    return found


def test_gradients_can_be_watched_in_some_steps_alone() -> None:
    assert when_watched(watched(3), 7) == [True, False, False, True, False, False, True]
    assert when_watched(watched(1), 3) == [True] * 3


def test_where_they_are_not_watched_all_heads_see_the_feature_itself() -> None:
    model, plain, objective, unwatched = Model(), Model(), watched(2), made(None, FixedWeights())
    for _ in range(2):
        outputs = model.outputs(inputs(), objective.balance)
        model.zero_grad()
        plain.zero_grad()
        objective(outputs, LABELS).backward()
        unwatched(plain.outputs(inputs(), None), LABELS).backward()
    assert torch.equal(gradient_of(model), gradient_of(plain)), "to the bit: the same computation"
    feature = inputs()
    handed = objective.balance.split(feature, NAMES)
    assert all(head is not feature for head in handed.values())
    objective.balance.begin()
    assert all(head is feature for head in objective.balance.split(feature, NAMES).values())


def test_watching_goes_on_in_step_after_a_resume() -> None:
    first, second = watched(3), watched(3)
    when_watched(first, 4)
    second.load_state_dict(first.state_dict())
    assert when_watched(second, 3) == when_watched(first, 3) == [False, False, True]


def test_what_learns_from_every_steps_lengths_wants_every_step() -> None:
    with pytest.raises(UsageError, match=r"every=2, but GradNorm learns from the gradients of every step"):
        Ensemble(members(), weighting=GradNorm(), balance=GradientBalance(PlainSum(), every=2))
    with pytest.raises(UsageError, match="every must be a whole number"):
        GradientBalance(PlainSum(), every=0)


def test_a_member_without_a_gradient_is_left_out() -> None:
    model = Model()
    quiet = members() | {"tuples": lambda embeddings, labels: 0 * embeddings.sum()}
    objective = Ensemble(quiet, weighting=FixedWeights(), balance=GradientBalance(NashMTL())).double()
    objective(model.outputs(inputs(), objective.balance), LABELS).backward()
    assert gradient_of(model.trunk).isfinite().all()
    assert gradient_of(model.trunk).abs().sum() > 0
    assert objective.balance.norms["tuples"] == 0
    assert objective.balance.cosines["pairs/tuples"] == 0


def test_a_head_that_no_loss_reads_counts_as_one_without_a_gradient() -> None:
    model, objective = Model(), made(PCGrad())
    outputs = model.outputs(inputs(), objective.balance)
    objective.balance.begin()
    outputs["pairs"].sum().backward()
    assert objective.balance.norms["tuples"] == 0
    assert gradient_of(model.trunk).isfinite().all()


def test_what_is_not_finite_reaches_the_trunk() -> None:
    model, objective = Model(), made(PCGrad())
    outputs = model.outputs(inputs(), objective.balance)
    (math.inf * outputs["pairs"]).sum().backward()
    assert not gradient_of(model.trunk).isfinite().all()


def test_random_order_depends_on_the_seed_and_the_step_and_goes_on_after_a_resume() -> None:
    def run(objective: Ensemble, steps: int) -> list[Tensor]:
        found = []
        for _ in range(steps):
            model = Model()
            objective(model.outputs(inputs(), objective.balance), LABELS).backward()
            found.append(gradient_of(model.trunk))
        return found

    whole, first, second = (made(PCGrad()) for _ in range(3))
    expected = run(whole, 12)
    run(first, 5)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(run(second, 7), expected[5:], strict=True))
    assert len({tuple(row.tolist()) for row in expected}) > 1, "the order matters here"


def test_refuses_features_that_were_not_handed_out() -> None:
    model, objective = Model(), made(PCGrad())
    with pytest.raises(UsageError, match=r"(?s)did not get their features from `split`.*embedder.splitter"):
        objective(model.outputs(inputs(), None), LABELS)
    objective.eval()(model.outputs(inputs(), None), LABELS)


def test_a_plain_sum_lets_features_pass_that_were_not_handed_out_unless_somebody_learns_from_it() -> None:
    model, objective = Model(), watched(1)
    objective(model.outputs(inputs(), None), LABELS).backward()
    assert objective.balance.norms == {}
    with pytest.raises(UsageError, match="did not get their features from `split`"):
        made(None, GradNorm())(model.outputs(inputs(), None), LABELS)


def test_refuses_heads_that_are_not_the_members() -> None:
    balance = GradientBalance(PCGrad())
    with pytest.raises(BatchError, match="none; give the balance to an Ensemble first"):
        balance.split(inputs(), NAMES)
    balance.bind(NAMES, FixedWeights())
    with pytest.raises(BatchError, match=r"members: pairs, triplets, tuples\n  heads:   other, pairs"):
        balance.split(inputs(), ("pairs", "other"))


def test_one_balance_serves_one_ensemble() -> None:
    balance = GradientBalance(PCGrad())
    Ensemble(members(), weighting=FixedWeights(), balance=balance)
    with pytest.raises(UsageError, match="already serves an ensemble"):
        Ensemble(members(), weighting=FixedWeights(), balance=balance)


def test_refuses_options_out_of_range() -> None:
    with pytest.raises(UsageError, match="seed must be a whole number"):
        GradientBalance(PCGrad(), seed=-1)
    with pytest.raises(UsageError, match="CAGrad: c must be"):
        CAGrad(c=1.0)


def test_one_embedding_for_all_can_be_balanced_too() -> None:
    embeddings = torch.randn(12, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    objective = made(NashMTL())
    objective(objective.balance.split(embeddings, NAMES), LABELS).backward()
    parts = [
        torch.autograd.grad(w * objective.members[n](embeddings, LABELS), embeddings)[0]
        for n, w in objective.weights().items()
    ]
    expected = nash_mtl(torch.stack([part.flatten() for part in parts]))
    torch.testing.assert_close(embeddings.grad.flatten(), expected)


# --- GradNorm, which learns from the lengths


def slow_grad_norm(model: Model, objective: Ensemble, v: Tensor, first: Tensor, alpha: float) -> Tensor:
    """The gradient of Σ|G_i − Ḡ r_i^α| for v, by autograd through w = m · softmax(v)."""
    v = v.clone().requires_grad_()
    feature = model.trunk(inputs()).detach().requires_grad_()
    losses = [objective.members[name](model.heads[name](feature), LABELS) for name in NAMES]
    weights = len(NAMES) * torch.softmax(v, dim=0)
    bare = torch.stack([torch.autograd.grad(loss, feature)[0].norm() for loss in losses])
    lengths = weights * bare
    progress = torch.stack(losses).detach() / first
    target = (lengths.mean() * (progress / progress.mean()) ** alpha).detach()
    return torch.autograd.grad((lengths - target).abs().sum(), v)[0]


@pytest.mark.parametrize("prior", [None, {"pairs": 1.0, "triplets": 4.0, "tuples": 0.5}])
def test_grad_norm_equals_autograd_on_its_own_loss(prior: dict[str, float] | None) -> None:
    model, objective = Model(), made(None, GradNorm(prior))
    weighting = objective.weighting
    with torch.no_grad():
        weighting.loss_weights.copy_(torch.tensor([0.3, -0.2, 0.1]))
        weighting.first.copy_(torch.tensor([0.5, 2.0, 3.0]))
    total = objective(model.outputs(inputs(), objective.balance), LABELS)
    total.backward()
    expected = slow_grad_norm(model, objective, weighting.loss_weights.detach(), weighting.first, 1.5)
    torch.testing.assert_close(weighting.loss_weights.grad, expected)
    torch.testing.assert_close(objective.balance.norms["pairs"], separately(model, objective)[0].norm())


def test_grad_norm_keeps_the_first_losses_that_are_not_zero() -> None:
    weighting = GradNorm()
    weighting.bind(["a", "b"])
    for values in (torch.tensor([0.0, -4.0]), torch.tensor([3.0, 1.0]), torch.tensor([9.0, 9.0])):
        weighting(values)
    assert weighting.first.tolist() == [3.0, 4.0]


def test_grad_norm_evens_out_the_lengths_where_all_losses_lag_alike() -> None:
    model, objective = Model(), made(None, GradNorm(alpha=0.0))
    optimizer = torch.optim.Adam([objective.weighting.loss_weights], lr=0.02)
    spread = []
    for _ in range(300):
        optimizer.zero_grad()
        objective(model.outputs(inputs(), objective.balance), LABELS).backward()
        optimizer.step()
        lengths = torch.stack(list(objective.balance.norms.values()))
        spread.append((lengths.max() / lengths.min()).item())
    assert spread[0] > 1.5
    assert spread[-1] < 1.1
    assert sum(objective.weights().values()).item() == pytest.approx(3)


def test_grad_norm_s_weights_learn_from_nothing_but_the_lengths() -> None:
    weighting = GradNorm()
    weighting.bind(["a", "b"])
    assert weighting.pull(torch.ones(2)).eq(0).all(), "no losses yet"
    total = weighting(torch.tensor([1.0, 2.0], requires_grad=True))
    total.backward()
    assert weighting.loss_weights.grad is None
    assert weighting.pull(torch.zeros(2)).eq(0).all()


def test_balance_and_learned_weights_go_together() -> None:
    model, objective = Model(), made(AlignedMTL(), UncertaintyWeights())
    objective(model.outputs(inputs(), objective.balance), LABELS).backward()
    assert objective.weighting.loss_weights.grad.ne(0).all()


def test_scales_are_those_of_the_weighting() -> None:
    objective, embeddings = made(None, FixedWeights()), inputs()[:, :4]
    assert [scale.item() for scale in objective.scales().values()] == [0, 0, 0], "no loss was met yet"
    objective(embeddings, LABELS)
    assert objective.scales()["tuples"].item() == pytest.approx(objective.terms["tuples"].item())
    plain = made(None, FixedWeights(normalise=False)).scales()
    assert [scale.item() for scale in plain.values()] == [1, 1, 1]
    assert made(None, UncertaintyWeights()).scales() == {}


def test_the_example_runs() -> None:
    assert doctest.testmod(_balance).failed == 0


def test_one_tensor_for_all_is_balanced_where_it_is_shared() -> None:
    """What comes before the shared embedding gets the one gradient that the rule makes of the members'."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(3)
                self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()

    model, objective, plain = Shared(), made(PCGrad()), made(None)
    embeddings = model.layers(inputs())
    objective(embeddings, LABELS).backward()
    found = gradient_of(model.layers)
    # the rule on each weighted member's own gradient at the embedding, and its sum pulled back by hand
    point = embeddings.detach().requires_grad_()
    plain(point, LABELS)
    rows = []
    for name, weight in plain.weights().items():
        (gradient,) = torch.autograd.grad(weight * plain.members[name](point, LABELS), point)
        rows.append(gradient.flatten())
    stacked = torch.stack(rows)
    expected = pcgrad(stacked, generator=drawn(0, 1))
    assert not torch.allclose(expected, stacked.sum(dim=0)), "they must be at odds, or nothing is shown"
    model.zero_grad()
    model.layers(inputs()).backward(expected.view_as(point))
    torch.testing.assert_close(found, gradient_of(model.layers))
    assert list(objective.balance.norms) == list(NAMES)
    torch.testing.assert_close(objective.balance.norms["pairs"], stacked[0].norm())


def test_one_tensor_for_all_is_not_touched_in_evaluation() -> None:
    objective = made(PCGrad()).eval()
    embeddings = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(objective(embeddings, LABELS), made(None).eval()(embeddings, LABELS))
    assert int(objective.balance.step) == 0


def test_a_weighting_that_follows_the_gradients_learns_from_one_tensor_for_all() -> None:
    objective = made(None, GradNorm(dict.fromkeys(NAMES, 1.0)))
    embeddings = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    objective(embeddings, LABELS).backward()
    (learned,) = objective.weighting.parameters()
    assert learned.grad is not None
    assert bool(learned.grad.any())

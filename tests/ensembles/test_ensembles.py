"""Ensembles: one tensor or one head per member, raw terms kept, wrong members named."""

import doctest
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from accord.ensembles import Ensemble, FixedWeights, Weighting, _ensemble, test_weights
from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.losses import Contrastive, MultiSimilarity, NPair, ProxyNCA, TripletMargin, row_engine


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    embeddings = torch.randn(12, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return embeddings.requires_grad_(), torch.arange(12) % 4


def raw(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A member whose loss is `value` times a number that moves with the embeddings but is always 1."""
    return lambda embeddings, labels: value * (1 + embeddings.sum() - embeddings.detach().sum())


def make(weighting: Weighting | None = None, **members: object) -> Ensemble:
    chosen = members or {"pairs": Contrastive(margin=1.5), "proxies": ProxyNCA(4, 4), "tuples": NPair()}
    return Ensemble(chosen, weighting=weighting or FixedWeights()).double()


def test_sums_the_members_by_their_weights() -> None:
    objective, (embeddings, labels) = make(), batch()
    total = objective(embeddings, labels)
    weights = objective.weights()
    expected = sum(weights[name] * objective.terms[name] for name in objective.names)
    torch.testing.assert_close(total.detach(), expected)


def test_keeps_the_raw_terms_detached() -> None:
    objective, (embeddings, labels) = make(), batch()
    objective(embeddings, labels)
    assert list(objective.terms) == ["pairs", "proxies", "tuples"]
    assert not any(term.requires_grad for term in objective.terms.values())
    torch.testing.assert_close(objective.terms["pairs"], Contrastive(margin=1.5)(embeddings, labels).detach())


def test_gives_each_member_the_head_of_its_name() -> None:
    heads = {name: batch(seed)[0] for seed, name in enumerate(("tuples", "pairs", "proxies"))}
    objective, labels = make(), batch()[1]
    objective(heads, labels).backward()
    torch.testing.assert_close(objective.terms["tuples"], NPair()(heads["tuples"], labels).detach())
    assert all(head.grad.abs().sum() > 0 for head in heads.values())


@pytest.mark.parametrize("names", [(), ("pairs", "proxies"), ("pairs", "proxies", "tuple"), ("a", "b", "c", "d")])
def test_refuses_heads_that_are_not_the_members(names: tuple[str, ...]) -> None:
    embeddings, labels = batch()
    with pytest.raises(BatchError, match=r"members: pairs, proxies, tuples\n  heads: "):
        make()(dict.fromkeys(names, embeddings), labels)


def test_holds_the_parameters_and_modules_of_its_members() -> None:
    names = dict(make(first=ProxyNCA(4, 4), second=nn.Sequential()).named_parameters())
    assert list(names) == ["members.first.proxies"]


@pytest.mark.parametrize("count", [0, 1])
def test_refuses_fewer_than_two_members(count: int) -> None:
    with pytest.raises(UsageError, match=f"at least 2 members, not {count}"):
        Ensemble({"only": NPair()} if count else {}, weighting=FixedWeights())


@pytest.mark.parametrize("name", ["a.b", "", "keys"])
def test_refuses_a_name_that_parameters_cannot_carry(name: str) -> None:
    with pytest.raises(UsageError, match="can't be a member's name"):
        make(**{name: NPair(), "other": NPair()})


def test_refuses_a_member_that_cannot_be_called(monkeypatch: pytest.MonkeyPatch) -> None:
    # the tests' annotation checks would answer before our own
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UsageError, match="member 'b' can't be called; it is a float"):
        make(a=NPair(), b=0.5)


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        (lambda e, y: e.sum(dim=1), r"member 'odd' must return a floating-point scalar, not \(12,\) float64"),
        (lambda e, y: torch.tensor(1), r"member 'odd' must return a floating-point scalar, not \(\) int64"),
    ],
)
def test_names_a_member_that_returns_no_scalar(returns: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(fine=NPair(), odd=returns)(*batch())


def test_names_a_member_that_is_not_finite_and_keeps_the_terms() -> None:
    objective = make(fine=NPair(), odd=raw(float("nan")))
    with pytest.raises(NumericError, match="ensemble member 'odd': its loss must be finite"):
        objective(*batch())
    assert objective.terms["fine"].isfinite()
    assert objective.terms["odd"].isnan()


def test_a_member_without_weight_changes_no_bit() -> None:
    embeddings, labels = batch()
    pair = {"pairs": Contrastive(margin=1.5), "tuples": NPair()}
    two = make(FixedWeights({"pairs": 0.3, "tuples": 0.7}), **pair)
    three = make(FixedWeights({"pairs": 0.3, "tuples": 0.7, "idle": 0.0}), **pair, idle=raw(1e6))
    for _ in range(3):
        left, right = two(embeddings, labels), three(embeddings, labels)
        assert torch.equal(left, right)
        assert torch.equal(torch.autograd.grad(left, embeddings)[0], torch.autograd.grad(right, embeddings)[0])


def test_has_the_gradient_of_its_value() -> None:
    objective, (embeddings, labels) = make(), batch()
    objective(embeddings, labels)
    objective.eval()
    assert torch.autograd.gradcheck(lambda x: objective(x, labels), (embeddings,))


def test_takes_half_precision_and_foreign_members() -> None:
    objective = Ensemble({"ours": TripletMargin(), "theirs": lambda e, y: e.square().mean()}, weighting=FixedWeights())
    total = objective(batch()[0].detach().half().requires_grad_(), batch()[1])
    total.backward()
    assert total.dtype == torch.float32


def test_is_an_objective_among_others() -> None:
    inside = Ensemble({"a": NPair(), "b": MultiSimilarity()}, weighting=FixedWeights())
    outside = make(inside=inside, c=TripletMargin())
    assert outside(*batch()).isfinite()


def test_survives_batches_without_pairs_and_empty_ones() -> None:
    objective = make(a=TripletMargin(), b=MultiSimilarity())
    for count in (0, 4):
        embeddings = torch.ones(count, 4).double().requires_grad_()
        total = objective(embeddings, torch.arange(count))
        total.backward()
        assert total == 0
        assert embeddings.grad.eq(0).all()


def test_never_waits_for_the_device() -> None:
    objective = make().to("meta")
    assert objective(batch()[0].to("meta"), batch()[1].to("meta")).shape == ()


def products_in(call: Callable[[], Tensor]) -> int:
    """How many matrix products an objective makes, forward and backward."""
    found = 0

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal found
            found += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm_.default)
            return function(*args, **(kwargs or {}))

    with Count():
        call().backward()
    return found


def test_members_on_one_embedding_share_the_products() -> None:
    embeddings, labels = batch()
    members = {
        "pairs": Contrastive(),
        "triplets": TripletMargin(mining="all"),
        "similar": MultiSimilarity(),
        "n": NPair(),
    }
    members |= {"more": MultiSimilarity(epsilon=None)}
    objective = make(FixedWeights(), **members)
    alone = FixedWeights()
    alone.bind(tuple(members))
    together = objective(embeddings, labels)
    apart = alone(torch.stack([loss(embeddings, labels) for loss in members.values()]))
    torch.testing.assert_close(together, apart)
    for one, other in zip(*(torch.autograd.grad(total, embeddings) for total in (together, apart)), strict=True):
        torch.testing.assert_close(one, other)
    separate = sum(
        products_in(lambda loss=loss: loss(*batch())) for loss in members.values() if not isinstance(loss, NPair)
    )
    shared = products_in(lambda: objective(*batch())) - products_in(lambda: members["n"](*batch()))
    assert shared <= separate / 2


def test_known_weights_need_one_sweep() -> None:
    members = {"pairs": Contrastive(), "similar": MultiSimilarity(), "triplets": TripletMargin(violating_only=True)}
    embeddings = torch.randn(150, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    labels = torch.arange(150) // 4
    objective, twin = make(FixedWeights(), **members), make(FixedWeights(), **members)
    twin.weighting.ahead = lambda: None  # never knows
    for step in range(3):
        totals = objective(embeddings, labels), twin(embeddings, labels)
        torch.testing.assert_close(*totals)
        gradients = [torch.autograd.grad(total, embeddings, retain_graph=True)[0] for total in totals]
        torch.testing.assert_close(*gradients)
        assert torch.equal(gradients[0], torch.autograd.grad(totals[0], embeddings)[0]), "a second backward pass"
        assert objective.terms.keys() == members.keys(), step
        torch.testing.assert_close(objective.weights(), twin.weights())
    again = products_in(lambda: objective(embeddings, labels))
    assert again == 6, "how many triplets violate is known too late: the gradient needs a sweep of its own"
    certain = make(
        FixedWeights(normalise=False), pairs=Contrastive(), similar=MultiSimilarity(), more=MultiSimilarity()
    )
    once = products_in(lambda: certain(embeddings, labels))
    assert once == 3, "one product, and one each for the gradients of rows and columns"


def test_known_weights_are_not_asked_of_another_device() -> None:
    objective = make(FixedWeights(), pairs=Contrastive(), similar=MultiSimilarity()).to("meta")
    embeddings, labels = batch()
    assert objective(embeddings.to("meta"), labels.to("meta")).shape == ()


def test_known_weights_have_a_second_derivative() -> None:
    members = {"pairs": Contrastive(margin=1.5), "similar": MultiSimilarity(beta=3.0)}
    embeddings = torch.randn(16, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    objective = make(FixedWeights(), **members).eval()
    with row_engine(dense_up_to=0, block_bytes=300):
        assert torch.autograd.gradgradcheck(lambda x: objective(x, torch.arange(16) % 5), (embeddings,))


def test_a_member_s_own_forward_and_hooks_are_respected() -> None:
    class Twice(Contrastive):
        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return 2 * super().forward(embeddings, labels)

    embeddings, labels = batch()
    watched, called = MultiSimilarity(), []
    watched.register_forward_hook(lambda *call: called.append(call))
    objective = make(FixedWeights(), twice=Twice(), plain=Contrastive(), watched=watched)
    objective(embeddings, labels)
    torch.testing.assert_close(objective.terms["twice"], 2 * objective.terms["plain"])
    assert len(called) == 1


def test_heads_of_their_own_share_nothing() -> None:
    embeddings, labels = batch()
    other = embeddings.detach().flip(0).requires_grad_()
    members = {"pairs": Contrastive(), "similar": MultiSimilarity()}
    objective = make(FixedWeights(normalise=False, weights={"pairs": 1.0, "similar": 1.0}), **members)
    total = objective({"pairs": embeddings, "similar": other}, labels)
    torch.testing.assert_close(total, members["pairs"](embeddings, labels) + members["similar"](other, labels))


def test_test_weights_are_the_shares() -> None:
    shares = test_weights(make(FixedWeights({"a": 3.0, "b": 1.0}), a=NPair(), b=raw(1e5)))
    assert {name: share.item() for name, share in shares.items()} == {"a": 0.75, "b": 0.25}


def test_the_example_runs() -> None:
    assert doctest.testmod(_ensemble).failed == 0


def test_refuses_weights_that_do_not_fit_the_members() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'pairs'"):
        make(FixedWeights({"pair": 1.0}))
    with pytest.raises(UsageError, match="has no weight for proxies, tuples"):
        make(FixedWeights({"pairs": 1.0}))
    with pytest.raises(UsageError, match="needs a weight above 0"):
        make(FixedWeights({"pairs": 0.0, "proxies": 0.0, "tuples": 0.0}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
        ({"floor": 0.0}, "floor must be more than 0"),
        ({"weights": {"a": -1.0}}, "the weight of 'a' must be at least 0"),
        ({"weights": {"a": float("nan")}}, "the weight of 'a' must be a finite number"),
    ],
)
def test_refuses_options_out_of_range(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FixedWeights(**options)


def test_one_weighting_serves_one_ensemble() -> None:
    weighting = FixedWeights()
    make(weighting)
    with pytest.raises(UsageError, match="already serves an ensemble"):
        make(weighting)

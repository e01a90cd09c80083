"""Heads side by side and compressed: folded where all is linear, on top of them where not, with an honest cost."""

import json

import pytest
import torch
from torch import Tensor, nn

from accord.ensembles import compose, pca, shrinkage_lda, wccn
from accord.errors import UsageError
from accord.geometry import normalise
from accord.models import JoinedHead, LinearHead, MLPHead, TrunkHead
from accord.recipes.compress.methods import METHODS, SHRINKAGE, TRIED, Material, check_names, plans
from accord.recipes.compress.space import Stored, cost_of, head_of, linear_head, space_of, why_not_affine
from accord.recipes.compress.train import student
from accord.recipes.watch import Silence

WIDTH, ITEMS = 12, 40
LABELS = torch.arange(ITEMS) % 5


def features(seed: int = 0) -> Tensor:
    return 1 + torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(seed))


def linear(dim: int, seed: int, *, unit: bool = False) -> LinearHead:
    head = LinearHead(WIDTH, dim, normalise=unit, generator=torch.Generator().manual_seed(seed))
    nn.init.normal_(head.linear.bias, generator=torch.Generator().manual_seed(seed + 100))
    return head


def ensemble() -> dict[str, nn.Module]:
    return {"first": linear(4, 1), "second": linear(3, 2)}


def with_trunk() -> dict[str, nn.Module]:
    return {**ensemble(), "trunk": TrunkHead(WIDTH)}


SHARES = {"first": 0.2, "second": 0.05, "trunk": 0.75}


def material(heads: dict[str, nn.Module]) -> Material:
    return Material(heads, SHARES, Stored(features(), LABELS), 6, 0, Silence())


@pytest.mark.parametrize("scale", ["length", "distance"])
@pytest.mark.parametrize("heads", [ensemble(), with_trunk()], ids=["heads", "trunk and heads"])
@pytest.mark.parametrize("method", ["pca", "lda"])
def test_a_linear_map_of_linear_heads_folds_into_one_head(heads: dict[str, nn.Module], scale: str, method: str) -> None:
    space = space_of(heads, SHARES, scale, features())
    joined = space.joined(features())
    found = pca(joined, dim=5) if method == "pca" else shrinkage_lda(joined, LABELS, dim=5)
    head = METHODS[method](material(heads), 5, scale).head
    assert isinstance(head, LinearHead)
    unseen = features(seed=9)
    torch.testing.assert_close(head(unseen).double(), found(space.joined(unseen)), atol=1e-5, rtol=1e-5)
    # what a single loss costs
    assert cost_of(head) == (WIDTH * 5, WIDTH * 5 + 5)


@pytest.mark.parametrize("method", ["pca", "lda"])
def test_at_unit_length_the_map_sits_on_top_of_the_heads(method: str) -> None:
    head = METHODS[method](material(with_trunk()), 5, "unit").head
    assert isinstance(head, JoinedHead)
    unseen = features(seed=9)
    outputs = [head_(unseen) for head_ in with_trunk().values()]
    joined = torch.cat([normalise(o) * s**0.5 for o, s in zip(outputs, SHARES.values(), strict=True)], dim=1)
    space = space_of(with_trunk(), SHARES, "unit", features())
    torch.testing.assert_close(space.joined(unseen), joined.double(), atol=1e-6, rtol=1e-6)
    table = space.joined(features())
    found = pca(table, dim=5) if method == "pca" else shrinkage_lda(table, LABELS, dim=5)
    torch.testing.assert_close(head(unseen).double(), found(joined), atol=1e-5, rtol=1e-5)
    # both heads and the map: 12 · 4 + 12 · 3 + 19 · 5
    assert cost_of(head) == (179, 179 + 4 + 3 + 5)


def test_all_numbers_are_normalised_within_classes_or_their_principal_components() -> None:
    heads = ensemble()
    joined = space_of(heads, SHARES, "unit", features()).joined(features())
    found = wccn(joined, LABELS, shrinkage=SHRINKAGE)
    whole = METHODS["wccn"](material(heads), joined.shape[1], "unit")
    torch.testing.assert_close(whole.head(features()).double(), found(joined), atol=1e-5, rtol=1e-5)
    assert whole.retained == 1.0
    few = METHODS["wccn"](material(heads), 3, "unit")
    expected = pca(found(joined), dim=3)
    torch.testing.assert_close(few.head(features()).double(), expected(found(joined)), atol=1e-5, rtol=1e-5)
    assert few.retained == pytest.approx(expected.retained)


def test_folding_to_all_directions_keeps_every_score_of_the_scaled_heads() -> None:
    heads = ensemble()
    made = METHODS["fold"](material(heads), 7, "length")
    assert made.retained == 1.0
    joined = space_of(heads, SHARES, "length", features()).joined(features(seed=9))
    scores = normalise(made.head(features(seed=9)).double())
    torch.testing.assert_close(scores @ scores.T, normalise(joined) @ normalise(joined).T, atol=1e-5, rtol=1e-5)


def test_folding_to_fewer_keeps_most_of_the_inner_products() -> None:
    made = METHODS["fold"](material(with_trunk()), 5, "length")
    assert 0.5 < (made.retained or 0) < 1
    joined = space_of(with_trunk(), SHARES, "length", features()).joined(features())
    found = pca(joined, dim=5, centre=False)
    torch.testing.assert_close(made.head(features()).double(), found(joined), atol=1e-5, rtol=1e-5)


def test_a_lone_head_folds_though_it_was_trained_at_unit_length() -> None:
    heads: dict[str, nn.Module] = {"first": linear(6, 1, unit=True)}
    made = METHODS["fold"](material(heads), 6, "length")
    before, after = heads["first"](features()), normalise(made.head(features()))
    torch.testing.assert_close(after @ after.T, before @ before.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (MLPHead(WIDTH, 4, generator=torch.Generator()), "head 'second' has a hidden layer"),
        (linear(4, 3, unit=True), "head 'second' brings each image to unit length"),
        (JoinedHead({"x": linear(4, 3)}, linear_head(pca(torch.randn(9, 4), dim=2)), factors={"x": 1.0}), "compressed"),
    ],
)
def test_heads_that_cannot_be_folded_are_named_with_the_reason(head: nn.Module, why: str) -> None:
    heads = {"first": linear(4, 1), "second": head}
    with pytest.raises(UsageError, match=rf"{why}.*\n.*--method pca, lda or auto"):
        METHODS["fold"](material(heads), 3, "length")
    assert not any(method == "fold" or scale != "unit" for method, scale in plans(heads, None))
    # the map sits on top of them, at whatever scale
    made = METHODS["pca"](material(heads), 3, "distance")
    assert isinstance(made.head, JoinedHead)
    assert made.head(features()).shape == (ITEMS, 3)


def test_heads_at_unit_length_cannot_be_folded_and_the_way_out_is_said() -> None:
    with pytest.raises(UsageError, match="--scale length or distance"):
        check_names("fold", "unit")


def test_a_head_that_is_always_zero_has_no_scale() -> None:
    dead = linear(3, 2)
    nn.init.zeros_(dead.linear.weight)
    nn.init.zeros_(dead.linear.bias)
    with pytest.raises(UsageError, match="head 'second' gives zero"):
        space_of({"first": linear(4, 1), "second": dead}, SHARES, "length", features())


def test_scaled_by_length_or_distance_heads_count_by_their_shares() -> None:
    heads = {"first": linear(4, 1), "second": linear(3, 2)}
    with torch.no_grad():
        heads["second"].linear.weight.mul_(1000)
        heads["second"].linear.bias.mul_(1000)
    for scale in ("length", "distance"):
        space = space_of(heads, {"first": 0.5, "second": 0.5}, scale, features())
        first, second = space.joined(features()).split([4, 3], dim=1)
        if scale == "length":
            assert float(first.norm(dim=1).mean()) == pytest.approx(0.5**0.5)
        assert 0.5 < float(first.std() / second.std()) < 2


def test_auto_tries_every_method_at_its_scale_or_at_the_one_asked_for() -> None:
    tried = plans(with_trunk(), None)
    assert {method for method, _ in tried} == set(TRIED)
    assert ("fold", "length") in tried
    assert ("lda", "length") in tried
    assert {scale for _, scale in plans(with_trunk(), "distance")} == {"distance"}
    assert "fold" not in {method for method, _ in plans(with_trunk(), "unit")}


def likeness(given: Material, head: nn.Module) -> float:
    """The correlation of its cosines with those of the ensemble."""
    off = ~torch.eye(ITEMS, dtype=torch.bool)
    teacher, found = (
        normalise(rows.double()) for rows in (given.space("unit").joined(features()), head(features()).detach())
    )
    return float(torch.corrcoef(torch.stack([(teacher @ teacher.T)[off], (found @ found.T)[off]]))[0, 1])


@pytest.mark.parametrize("method", ["distil", "student"])
def test_trained_heads_learn_the_neighbourhoods_and_come_out_the_same_again(method: str) -> None:
    given = material(with_trunk())
    made, again = (METHODS[method](given, 4, "unit").head for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(made.parameters(), again.parameters(), strict=True))
    untaught = [likeness(given, linear(4, seed)) for seed in range(20)]
    assert likeness(given, made) > max(untaught)
    assert isinstance(made, LinearHead) is (method == "distil")


def test_a_compressed_head_is_described_and_built_again() -> None:
    from accord.models._heads import build_head, describe_head

    for method in ("pca", "student"):
        made = METHODS[method](material(with_trunk()), 4, "unit").head.eval()
        again = build_head(json.loads(json.dumps(describe_head("compressed", made, 4))))
        again.load_state_dict(made.state_dict())
        assert torch.equal(again(features()), made(features()))


def test_linear_heads_hold_maps_and_are_no_reason_against_folding() -> None:
    outer, inner = pca(torch.randn(9, 4), dim=2), pca(torch.randn(20, WIDTH), dim=4)
    both = linear_head(compose(outer, inner))
    torch.testing.assert_close(both(features()).double(), outer(inner(features())), atol=1e-5, rtol=1e-5)
    head = linear_head(inner)
    assert why_not_affine({"a": head, "b": TrunkHead(WIDTH)}) is None
    assert isinstance(head_of(space_of({"a": head}, {"a": 1.0}, "length", features()), outer), LinearHead)


def test_the_network_is_taught_as_the_authors_teach_theirs() -> None:
    teacher = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    told: list[int] = []
    options = {"dim": 4, "hidden": 5, "seed": 3}
    slow = student(teacher, steps=0, told=lambda done, of: None, **options)
    found = student(teacher, steps=3, told=lambda done, of: told.append(done), **options)
    parameters = [parameter.requires_grad_() for parameter in slow.parameters()]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    orders = torch.Generator().manual_seed(3)
    for step in range(1, 4):
        rows = teacher[torch.randperm(64, generator=orders)]
        given = slow(rows)
        small = given / given.norm(dim=1, keepdim=True)
        ours, theirs = (((x[:, None] - x[None]) ** 2).sum(dim=2) for x in (small, rows))
        loss = 64**2 * ((ours / ours.sum() - theirs / theirs.sum()) ** 2).sum().sqrt()
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient, (mean, square) in zip(parameters, gradients, moments, strict=True):
            with torch.no_grad():
                pull = gradient + 1e-4 * parameter
                mean.mul_(0.9).add_(0.1 * pull)
                square.mul_(0.999).add_(0.001 * pull**2)
                size = (square / (1 - 0.999**step)).sqrt() + 0.01
                parameter -= 0.001 * mean / (1 - 0.9**step) / size
    assert told == [1, 2, 3]
    for left, right in zip(found.parameters(), parameters, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)

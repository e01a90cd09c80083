"""Terms between heads: each against a slow loop, what it can't see, and how an ensemble adds it."""

from collections.abc import Callable, Mapping
from itertools import combinations
from math import sqrt

import pytest
import torch
from torch import Tensor

from accord.ensembles import (
    CKADiversity,
    DistanceDecorrelation,
    DistanceHinge,
    Ensemble,
    FixedWeights,
    cka,
    distance_decorrelation,
    distance_hinge,
)
from accord.errors import BatchError, NumericError, UsageError
from accord.losses import Contrastive, MultiSimilarity, NPair
from diverse_heads import heads_of, rotation
from slow import Row, dot, mean, squared, unit

Term = Callable[..., Tensor]
LABELS = torch.arange(7) % 3


def rows_of(heads: Mapping[str, Tensor], normalised: bool) -> list[list[Row]]:
    return [[unit(row) if normalised else row for row in head.tolist()] for head in heads.values()]


def slow_hinge(heads: Mapping[str, Tensor], *, level: float = 2.0, normalised: bool = True) -> float:
    rows = rows_of(heads, normalised)
    total = 0.0
    for p in range(len(rows)):
        for q in range(p + 1, len(rows)):
            total += mean([sqrt(squared(x, y)) for x, y in zip(rows[p], rows[q], strict=True)])
    return max(0.0, level - 2 / (len(rows) * (len(rows) - 1)) * total)


def slow_cka(heads: Mapping[str, Tensor], *, normalised: bool = True) -> float:
    found = []
    for x, y in combinations([_centred(rows) for rows in rows_of(heads, normalised)], 2):
        found.append(_hsic(x, y) / sqrt(_hsic(x, x) * _hsic(y, y)))
    return mean(found)


def _centred(rows: list[Row]) -> list[Row]:
    middle = [mean([row[k] for row in rows]) for k in range(len(rows[0]))]
    return [[number - centre for number, centre in zip(row, middle, strict=True)] for row in rows]


def _hsic(x: list[Row], y: list[Row]) -> float:
    """Σ over pairs of items of the product of their two inner products: tr(XXᵀ YYᵀ)."""
    return sum(dot(x[i], x[j]) * dot(y[i], y[j]) for i in range(len(x)) for j in range(len(x)))


def slow_decorrelation(heads: Mapping[str, Tensor], *, normalised: bool = True) -> float:
    vectors = [[sqrt(squared(x, y)) for x, y in combinations(rows, 2)] for rows in rows_of(heads, normalised)]
    return mean([_pearson(v, w) ** 2 for v, w in combinations(vectors, 2)])


def _pearson(v: list[float], w: list[float]) -> float:
    v, w = [x - mean(v) for x in v], [x - mean(w) for x in w]
    return sum(x * y for x, y in zip(v, w, strict=True)) / sqrt(sum(x * x for x in v) * sum(y * y for y in w))


SLOW: dict[str, tuple[Term, Callable[..., float]]] = {
    "distance_hinge": (distance_hinge, slow_hinge),
    "cka": (cka, slow_cka),
    "distance_decorrelation": (distance_decorrelation, slow_decorrelation),
}
WIDTHS = {"distance_hinge": (4, 4, 4), "cka": (3, 5, 4), "distance_decorrelation": (3, 5, 4)}
MODULES = {"distance_hinge": DistanceHinge, "cka": CKADiversity, "distance_decorrelation": DistanceDecorrelation}
each_term = pytest.mark.parametrize("name", SLOW)


@each_term
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("items", [3, 7, 12])  # fewer items than numbers, and more
def test_equals_its_slow_loop(name: str, normalised: bool, items: int) -> None:
    term, slow = SLOW[name]
    for seed in range(20):
        for count in (2, 3):
            heads = heads_of(*WIDTHS[name][:count], items=items, seed=seed)
            expected = slow(heads, normalised=normalised)
            assert term(heads, normalised=normalised).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@each_term
@pytest.mark.parametrize("items", [4, 7])
def test_has_the_gradient_of_its_value(name: str, items: int) -> None:
    term, heads = SLOW[name][0], heads_of(*WIDTHS[name], items=items)
    assert torch.autograd.gradcheck(lambda *x: term(dict(zip(heads, x, strict=True))), tuple(heads.values()))
    assert torch.autograd.gradgradcheck(lambda *x: term(dict(zip(heads, x, strict=True))), tuple(heads.values()))


@each_term
def test_lies_between_its_bounds(name: str) -> None:
    for seed in range(50):
        found = SLOW[name][0](heads_of(*WIDTHS[name], seed=seed)).item()
        assert 0 <= found <= (2 if name == "distance_hinge" else 1)


@each_term
def test_the_order_of_items_and_heads_does_not_matter(name: str) -> None:
    term, heads = SLOW[name][0], heads_of(*WIDTHS[name])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(1))
    shuffled = {head: heads[head][order] for head in reversed(heads)}
    torch.testing.assert_close(term(heads), term(shuffled))


@pytest.mark.parametrize("name", ["cka", "distance_decorrelation"])
@pytest.mark.parametrize("items", [6, 30])
def test_rotations_of_one_head_are_as_alike_as_can_be(name: str, items: int) -> None:
    head = heads_of(9, items=items)["a"].detach()
    copies = {"a": head, "b": head @ rotation(9), "c": 3 * head @ rotation(9, seed=1)}
    assert SLOW[name][0](copies).item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", ["cka", "distance_decorrelation"])
def test_rotation_and_scale_of_a_head_change_nothing(name: str) -> None:
    heads = heads_of(5, 5)
    moved = {"a": heads["a"] @ rotation(5), "b": 40 * heads["b"] @ rotation(5, seed=1)}
    for normalised in (True, False):
        torch.testing.assert_close(
            SLOW[name][0](heads, normalised=normalised), SLOW[name][0](moved, normalised=normalised)
        )


def test_rotations_of_one_head_deceive_the_distance_hinge() -> None:
    head = heads_of(32, items=20)["a"].detach()
    assert distance_hinge({"a": head, "b": head.clone()}) == pytest.approx(2)
    # as far apart as vectors that know nothing of each other, at a distance of about √2
    assert distance_hinge({"a": head, "b": head @ rotation(32)}) == pytest.approx(2 - sqrt(2), abs=0.15)
    assert cka({"a": head, "b": head @ rotation(32)}) == pytest.approx(1)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_unit_vectors_are_at_most_so_far_apart(count: int) -> None:
    corners = torch.eye(count, dtype=torch.float64) - 1 / count  # of a simplex around the origin
    heads = {name: corner.repeat(3, 1) for name, corner in zip("abcde", corners, strict=False)}
    farthest = sqrt(2 * count / (count - 1))
    assert distance_hinge(heads) == pytest.approx(2 - farthest)
    assert (2 - farthest > 0.2) == (count > 2), "with three heads or more it never reaches 0"
    for seed in range(3):  # and descent from anywhere ends there, not beyond
        found = heads_of(*[6] * count, items=2, seed=seed)
        optimizer = torch.optim.SGD(list(found.values()), lr=1.0)
        for _ in range(150):
            optimizer.zero_grad()
            value = distance_hinge(found)
            value.backward()
            optimizer.step()
        assert 2 - farthest - 1e-9 <= value.item() <= 2 - farthest + 0.02


def test_equal_vectors_have_a_finite_gradient() -> None:
    head = heads_of(4)["a"]
    found = distance_hinge({"a": head, "b": 1 * head})
    assert found == 2
    (gradient,) = torch.autograd.grad(found, head)
    assert bool(gradient.eq(0).all())


def test_heads_without_anything_in_common_have_the_cka_the_text_says() -> None:
    values = [cka(heads_of(32, 32, items=64, seed=seed)).item() for seed in range(20)]
    assert mean(values) == pytest.approx(32 / (32 + 64), abs=0.03)


def test_cka_multiplies_the_smaller_side() -> None:
    wide = {name: head.to("meta") for name, head in heads_of(300_000, 300_000, items=4).items()}
    long = {name: head.to("meta") for name, head in heads_of(4, 4, items=300_000).items()}
    # 300,000² numbers would not fit into any memory; the meta device refuses nothing, so the shapes are watched
    for heads in (wide, long):
        assert max(_products(heads)) <= 16


def _products(heads: Mapping[str, Tensor]) -> list[int]:
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found = function(*args, **(kwargs or {}))
            if function is torch.ops.aten.mm.default:
                sizes.append(found.numel())
            return found

    with Watch():
        cka(heads)
    return sizes


@pytest.mark.parametrize("block_bytes", [1, 400, 1000])
def test_distances_in_blocks_give_the_same(block_bytes: int) -> None:
    heads = heads_of(3, 5, items=11)
    whole, parts = distance_decorrelation(heads), distance_decorrelation(heads, block_bytes=block_bytes)
    torch.testing.assert_close(whole, parts)
    gradients = [torch.autograd.grad(value, list(heads.values())) for value in (whole, parts)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@each_term
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_single(name: str, dtype: torch.dtype) -> None:
    exact = {head: numbers.detach().to(dtype).requires_grad_() for head, numbers in heads_of(*WIDTHS[name]).items()}
    found = SLOW[name][0](exact)
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(SLOW[name][1](exact), rel=1e-3)
    assert all(bool(head.grad.isfinite().all()) for head in exact.values())


@each_term
@pytest.mark.parametrize("items", [0, 1, 2])
@pytest.mark.parametrize("value", [0.0, 1.0, 100.3])
def test_few_and_equal_items_cost_little_and_carry_a_gradient(name: str, items: int, value: float) -> None:
    for count in (items, 5 * items):
        widths = WIDTHS[name]
        heads = {key: torch.full((count, w), value, requires_grad=True) for key, w in zip("abc", widths, strict=True)}
        found = MODULES[name](weight=1.0)(heads, torch.zeros(count, dtype=torch.int64))
        found.backward()
        assert found == (2 if name == "distance_hinge" and count else 0)
        assert all(bool(head.grad.isfinite().all()) for head in heads.values())


@each_term
@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({"a": torch.ones(3, 4)}, "at least 2 heads to compare, not 1"),
        ({"a": torch.ones(3, 4), "b": torch.ones(2, 4)}, r"of the same items.*\n  a: \(3, 4\).*\n  b: \(2, 4\)"),
        ({"a": torch.ones(3, 4), "b": torch.ones(3)}, r"must be floating-point \(item, dim\)"),
        ({"a": torch.ones(3, 4), "b": torch.ones(3, 4, dtype=torch.int64)}, "must be floating-point"),
        ({"a": torch.ones(3, 4), "b": torch.ones(3, 0)}, "must be floating-point"),
        (dict.fromkeys("ab", torch.ones(3, 4)), "a head of its own for each member"),
    ],
)
def test_heads_that_can_not_be_compared_are_refused(name: str, heads: dict[str, Tensor], message: str) -> None:
    with pytest.raises(BatchError, match=f"{name}: (.|\n)*{message}"):
        SLOW[name][0](heads)


def test_the_distance_hinge_wants_heads_of_one_width() -> None:
    with pytest.raises(BatchError, match=r"equally wide(.|\n)*take cka(.|\n)*a: \(7, 3\)(.|\n)*b: \(7, 4\)"):
        distance_hinge(heads_of(3, 4))


@each_term
def test_a_head_that_is_not_finite_is_named(name: str) -> None:
    heads = {key: head.detach() for key, head in heads_of(*WIDTHS[name]).items()}
    heads["b"][2, 1] = torch.inf
    with pytest.raises(NumericError, match=f"{name}: head 'b' must be finite"):
        SLOW[name][0](heads)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistanceHinge(weight=-1.0), "distance_hinge: weight must be at least 0"),
        (lambda: DistanceHinge(level=0.0), "distance_hinge: level must be more than 0"),
        (lambda: CKADiversity(weight=float("nan")), "cka: weight must be a finite number"),
        (lambda: DistanceDecorrelation(weight=-0.5), "distance_decorrelation: weight must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@each_term
def test_the_module_is_the_function_times_its_weight(name: str) -> None:
    heads = heads_of(*WIDTHS[name])
    torch.testing.assert_close(MODULES[name](weight=0.7)(heads, LABELS), 0.7 * SLOW[name][0](heads))
    torch.testing.assert_close(MODULES[name]()(heads, LABELS), 0.1 * SLOW[name][0](heads))


@pytest.mark.parametrize("name", ["cka", "distance_decorrelation"])
def test_descent_makes_two_copies_of_a_head_differ(name: str) -> None:
    head = heads_of(4, items=40)["a"].detach()
    heads = {"a": head.clone().requires_grad_(), "b": (head @ rotation(4)).requires_grad_()}
    with torch.no_grad():  # exactly alike is a maximum, where there is no gradient
        heads["b"] += 0.01 * torch.randn(head.shape, generator=torch.Generator().manual_seed(1), dtype=head.dtype)
    optimizer = torch.optim.Adam(list(heads.values()), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        SLOW[name][0](heads).backward()
        optimizer.step()
    assert SLOW[name][0](heads) < 0.1


@each_term
def test_never_waits_for_the_device(name: str) -> None:
    heads = {key: head.to("meta") for key, head in heads_of(*WIDTHS[name]).items()}
    assert MODULES[name]()(heads, LABELS.to("meta")).shape == ()


def members() -> dict[str, torch.nn.Module]:
    return {"a": Contrastive(margin=1.5), "b": NPair(), "c": MultiSimilarity()}


def test_an_ensemble_adds_its_term_and_keeps_it() -> None:
    heads = heads_of(4, 4, 4)
    plain = Ensemble(members(), weighting=FixedWeights())
    apart = Ensemble(members(), weighting=FixedWeights(), diversity=DistanceHinge(weight=0.3))
    total = apart(heads, LABELS)
    term = 0.3 * distance_hinge(heads)
    torch.testing.assert_close(total, plain(heads, LABELS) + term)
    assert list(apart.terms) == ["a", "b", "c", "diversity"]
    torch.testing.assert_close(apart.terms["diversity"], term.detach())
    assert not apart.terms["diversity"].requires_grad
    assert set(apart.weights()) == set("abc")
    one, other = (torch.autograd.grad(value, heads["a"])[0] for value in (total, plain(heads, LABELS) + term))
    torch.testing.assert_close(one, other)


def test_a_term_may_be_any_callable_and_gets_the_labels() -> None:
    seen = []

    def term(heads: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        seen.append((list(heads), labels))
        return heads["a"].square().mean()

    objective = Ensemble(members(), weighting=FixedWeights(), diversity=term)
    objective(heads_of(4, 4, 4), LABELS)
    assert seen == [(["a", "b", "c"], LABELS)]


def test_an_ensemble_on_one_embedding_has_nothing_to_compare() -> None:
    objective = Ensemble(members(), weighting=FixedWeights(), diversity=CKADiversity())
    with pytest.raises(BatchError, match="a head of its own for each member"):
        objective(heads_of(4)["a"], LABELS)


def test_a_term_that_is_no_scalar_or_not_finite_is_told() -> None:
    wrong = Ensemble(members(), weighting=FixedWeights(), diversity=lambda heads, labels: heads["a"].sum(dim=1))
    with pytest.raises(UsageError, match=r"the term for diversity must return a floating-point scalar, not \(7,\)"):
        wrong(heads_of(4, 4, 4), LABELS)
    endless = Ensemble(
        members(), weighting=FixedWeights(), diversity=lambda heads, labels: heads["a"].sum() * torch.inf
    )
    with pytest.raises(NumericError, match="its term for diversity must be finite"):
        endless(heads_of(4, 4, 4), LABELS)
    assert not endless.terms["diversity"].isfinite()


def test_a_member_can_not_be_called_like_the_term() -> None:
    named = {"a": NPair(), "diversity": Contrastive()}
    Ensemble(named, weighting=FixedWeights())
    with pytest.raises(UsageError, match="can't be called 'diversity'"):
        Ensemble(named, weighting=FixedWeights(), diversity=CKADiversity())


def test_members_of_one_name_are_refused() -> None:
    pairs = [("a", NPair()), ("b", Contrastive()), ("a", MultiSimilarity())]
    with pytest.raises(UsageError, match="two members called 'a'"):
        Ensemble(pairs, weighting=FixedWeights())
    assert Ensemble(pairs[:2], weighting=FixedWeights()).names == ("a", "b")

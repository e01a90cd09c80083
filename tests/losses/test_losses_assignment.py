"""Whose a proxy is: several per class, shared, or the nearest one's; each loss equals a slow loop of its definition."""

from collections.abc import Callable
from math import exp, log
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.losses import (
    ProxyAnchor,
    ProxyNCA,
    ProxyNCAPlusPlus,
    ProxyTriplet,
    linked_labels,
    nearest_proxies,
    proxy_nca,
    proxy_nca_plus_plus,
    proxy_triplet,
    share_proxies,
)
from accord.losses import _proxy_nearest as nearest_file
from accord.types import Pairs, Triplets
from conformance import without_shape_checks
from slow import Row, Slow, agrees, batch, mean, random_batch, squared, units

CLASSES = 6
Contest = tuple[Row, Row, list[Row]]  # an item, what stands for its positive, what stands for its negatives
Cost = Callable[[Row, Row, list[Row]], list[float]]


def nca(scale: float, *, included: bool) -> Cost:
    def cost(x: Row, own: Row, others: list[Row]) -> list[float]:
        d, rivals = scale**2 * squared(x, own), [scale**2 * squared(x, p) for p in others]
        return [d + log(sum(exp(-r) for r in [*rivals, *([d] if included else [])]))]

    return cost


def hinges(margin: float) -> Cost:
    return lambda x, own, others: [max(0.0, squared(x, own) + margin - squared(x, p)) for p in others]


KINDS: dict[str, tuple[Callable[..., Any], Cost]] = {
    "nca": (lambda **options: ProxyNCA(4, CLASSES, scale=1.5, **options).double(), nca(1.5, included=False)),
    "nca included": (
        lambda **options: ProxyNCA(4, CLASSES, positive="included", **options).double(),
        nca(3.0, included=True),
    ),
    "nca++": (
        lambda **options: ProxyNCAPlusPlus(4, CLASSES, temperature=0.5, **options).double(),
        nca(0.5**-0.5, included=True),
    ),
    "triplet": (lambda **options: ProxyTriplet(4, CLASSES, margin=0.7, **options).double(), hinges(0.7)),
}


def equals(objective: Callable[[Tensor, Tensor], Tensor], slow: Slow) -> None:
    """Same gradient on a few batches, same value on twenty more."""
    agrees(objective, slow)
    for seed in range(20):
        embeddings, labels = random_batch(seed)
        assert objective(embeddings, labels).item() == pytest.approx(slow(embeddings, labels.tolist()), rel=1e-9)


def spread(contests: list[Contest], cost: Cost) -> float:
    costs = [value for contest in contests if contest[2] for value in cost(*contest)]
    return mean(costs) if costs else 0.0


def nearest(v: Row, proxies: list[Row]) -> Row:
    return min(proxies, key=lambda p: squared(v, p))


# static -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [2, 3])
@pytest.mark.parametrize("name", KINDS)
def test_of_several_proxies_of_a_class_the_nearest_is_the_positive(name: str, per_class: int) -> None:
    make, cost = KINDS[name]
    module = make(proxies_per_class=per_class)
    proxies = units(module.proxies.detach())
    assert len(proxies) == CLASSES * per_class

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        contests = []
        for x, y in zip(units(embeddings), labels, strict=True):
            own = proxies[y * per_class : (y + 1) * per_class]
            contests.append((x, nearest(x, own), [p for p in proxies if p not in own]))
        return spread(contests, cost)

    equals(module, slow)


@pytest.mark.parametrize("name", KINDS)
def test_classes_that_share_a_proxy_pull_it_together(name: str) -> None:
    make, cost = KINDS[name]
    module = make(proxies_per_class=0.5)
    proxies, shared = units(module.proxies.detach()), module.shared.tolist()
    assert len(proxies) == 3
    assert sorted(shared) == [0, 0, 1, 1, 2, 2]

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        rows = zip(units(embeddings), labels, strict=True)
        contests = [(x, proxies[shared[y]], [p for i, p in enumerate(proxies) if i != shared[y]]) for x, y in rows]
        return spread(contests, cost)

    equals(module, slow)


def test_the_functions_take_shared_and_several_proxies_too() -> None:
    embeddings, labels = batch(0)
    several, shared = ProxyNCA(4, CLASSES, proxies_per_class=2).double(), ProxyNCA(4, 6, proxies_per_class=0.5).double()
    value = proxy_nca(embeddings, labels, several.proxies, per_class=2)
    torch.testing.assert_close(value, several(embeddings, labels))
    assert shared.shared is not None
    value = proxy_nca(embeddings, shared.shared[labels], shared.proxies)
    torch.testing.assert_close(value, shared(embeddings, labels))


def test_proxy_anchor_shares_its_proxies() -> None:
    module, (embeddings, labels) = ProxyAnchor(4, CLASSES, proxies_per_class=0.5).double(), batch(0)
    alone = ProxyAnchor(4, 3).double()
    assert module.shared is not None
    with torch.no_grad():
        alone.proxies.copy_(module.proxies)
    torch.testing.assert_close(module(embeddings, labels), alone(embeddings, module.shared[labels]))


def test_a_state_brings_back_who_shares_a_proxy() -> None:
    first = ProxyNCA(4, 40, proxies_per_class=0.3, generator=torch.Generator().manual_seed(1))
    second = ProxyNCA(4, 40, proxies_per_class=0.3, generator=torch.Generator().manual_seed(2))
    assert not torch.equal(first.shared, second.shared)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.shared, second.shared)
    assert list(ProxyNCA(4, 40).state_dict()) == ["proxies"]
    assert list(ProxyNCA(4, 40, proxies_per_class=0.3, assignment="dynamic").state_dict()) == ["proxies"]


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 9))
def test_shares_are_as_equal_as_can_be_and_all_proxies_are_taken(classes: int, proxies: int, seed: int) -> None:
    proxies = min(classes, proxies)
    sizes = share_proxies(classes, proxies, generator=torch.Generator().manual_seed(seed)).bincount(minlength=proxies)
    assert int(sizes.sum()) == classes
    assert len(sizes) == proxies
    assert int(sizes.max() - sizes.min()) <= 1


@pytest.mark.parametrize(("ratio", "count"), [(1, 10), (1.0, 10), (3, 30), (2.0, 20), (0.5, 5), (0.2, 2), (0.99, 10)])
def test_a_ratio_makes_so_many_proxies(ratio: float, count: int) -> None:
    assert len(ProxyNCA(4, 10, proxies_per_class=ratio).proxies) == count
    assert len(ProxyNCA(4, 10, proxies_per_class=ratio, assignment="dynamic").proxies) == count


# dynamic ----------------------------------------------------------------------------------------------------


def by_labels(x: list[Row], labels: list[int], stand_ins: list[Row]) -> list[Contest]:
    places = range(len(x))
    return [
        (x[i], stand_ins[j], [stand_ins[k] for k in places if labels[k] != labels[i]])
        for i in places
        for j in places
        if i != j and labels[i] == labels[j]
    ]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ratio", [0.5, 3])
def test_with_dynamic_assignment_every_point_is_stood_for_by_its_nearest_proxy(name: str, ratio: float) -> None:
    make, cost = KINDS[name]
    module = make(proxies_per_class=ratio, assignment="dynamic")
    proxies = units(module.proxies.detach())

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = units(embeddings)
        return spread(by_labels(x, labels, [nearest(v, proxies) for v in x]), cost)

    equals(module, slow)


PAIRS = Pairs(torch.tensor([0, 3, 1, 9]), torch.tensor([3, 8, 4, 10]))
LINKED = [0, 1, 2, 0, 1, 5, 6, 7, 0, 9, 9]
TRIPLETS = Triplets(
    torch.tensor([0, 0, 0, 5, 0, 2]), torch.tensor([3, 3, 8, 2, 3, 5]), torch.tensor([1, 4, 7, 0, 1, 10])
)


@pytest.mark.parametrize("name", KINDS)
def test_pairs_without_labels_teach_as_what_they_link_would(name: str) -> None:
    make, cost = KINDS[name]
    module = make(assignment="dynamic")
    proxies = units(module.proxies.detach())

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = units(embeddings)
        return spread(by_labels(x, LINKED, [nearest(v, proxies) for v in x]), cost)

    equals(lambda embeddings, labels: module(embeddings, PAIRS), slow)


@pytest.mark.parametrize("name", KINDS)
def test_triplets_without_labels_teach_what_they_say(name: str) -> None:
    make, cost = KINDS[name]
    module = make(assignment="dynamic")
    proxies = units(module.proxies.detach())

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = units(embeddings)
        p = [nearest(v, proxies) for v in x]
        told: dict[tuple[int, int], list[Row]] = {}
        for a, y, z in zip(*(rows.tolist() for rows in TRIPLETS), strict=True):
            told.setdefault((a, y), []).append(p[z])
        return spread([(x[a], p[y], others) for (a, y), others in told.items()], cost)

    equals(lambda embeddings, labels: module(embeddings, TRIPLETS), slow)


def test_a_case_worked_by_hand() -> None:
    # unit vectors at 0°, 90°, 180°; proxies at 0° and 90°, both nearest to their items, the third nearest to 90°'s
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]], dtype=torch.float64)
    proxies = torch.tensor([[2.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    assert nearest_proxies(x, proxies).tolist() == [0, 1, 1]
    # anchor 0, positive 2 (proxy 1, d = 2), negative 1 (proxy 1, d = 2): the same proxy, so nothing to tell apart
    triplet = Triplets(torch.tensor([0]), torch.tensor([2]), torch.tensor([1]))
    assert proxy_nca(x, triplet, proxies, assignment="dynamic", scale=1.0).item() == pytest.approx(0)
    both = proxy_nca_plus_plus(x, triplet, proxies, assignment="dynamic")
    assert both.item() == pytest.approx(log(2))
    # anchor 1, positive 2 (proxy 1, d = 0), negative 0 (proxy 0, d = 2)
    triplet = Triplets(torch.tensor([1]), torch.tensor([2]), torch.tensor([0]))
    assert proxy_nca(x, triplet, proxies, assignment="dynamic", scale=1.0).item() == pytest.approx(-2)
    assert proxy_nca(x, triplet, proxies, assignment="dynamic", scale=2.0).item() == pytest.approx(-8)
    assert proxy_triplet(x, triplet, proxies, assignment="dynamic", margin=2.5).item() == pytest.approx(0.5)


FEW: dict[str, Tensor | Pairs | Triplets] = {
    "labels": torch.tensor([0, 1, 0, 1, 2]),
    "pairs": Pairs(torch.tensor([0]), torch.tensor([2])),
    "triplets": Triplets(torch.tensor([0, 0, 3]), torch.tensor([2, 2, 1]), torch.tensor([1, 4, 0])),
}


@pytest.mark.parametrize("supervision", FEW)
@pytest.mark.parametrize("name", KINDS)
def test_has_the_gradient_of_its_value_by_proxies_and_embeddings(name: str, supervision: str) -> None:
    module = KINDS[name][0](assignment="dynamic")
    source = torch.Generator().manual_seed(5)
    x, proxies = (torch.randn(n, 2, generator=source, dtype=torch.float64).requires_grad_() for n in (5, 3))

    def value(x: Tensor, proxies: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(module, {"proxies": proxies}, (x, FEW[supervision]))
        return found

    assert torch.autograd.gradcheck(value, (x, proxies))
    assert torch.autograd.gradgradcheck(value, (x, proxies), fast_mode=True)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_to_tell_apart_costs_a_connected_zero(name: str) -> None:
    module = KINDS[name][0](assignment="dynamic")
    x = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    nobody = torch.zeros(0, dtype=torch.int64)
    for known in (torch.arange(4), torch.zeros(4, dtype=torch.int64), Pairs(nobody, nobody), Triplets(*[nobody] * 3)):
        value = module(x, known)
        value.backward()
        assert value == 0
        assert not x.grad.any()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 30), st.integers(2, 50), st.integers(0, 10**6))
def test_the_nearest_proxy_is_found_part_by_part(items: int, count: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    x, proxies = (torch.randn(n, 5, generator=source, dtype=torch.float64) for n in (items, count))
    rows, size = nearest_file.ROWS, nearest_file.PART_BYTES
    nearest_file.ROWS, nearest_file.PART_BYTES = 7, 400
    try:
        found = nearest_proxies(x, proxies).tolist()
    finally:
        nearest_file.ROWS, nearest_file.PART_BYTES = rows, size
    slow = units(proxies)
    assert found == [min(range(count), key=lambda p: squared(v, slow[p])) for v in units(x)]


def test_of_equally_near_proxies_the_first_is_taken() -> None:
    assert nearest_proxies(torch.eye(3), torch.eye(3)[[2, 0, 0, 1, 1]]).tolist() == [1, 3, 0]


def test_dynamic_assignment_keeps_nothing_of_size_items_times_proxies() -> None:
    sizes: list[int] = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in (out if isinstance(out, tuple) else (out,)) if torch.is_tensor(part))
            return out

    module, items, count = ProxyNCA(4, 20_000, assignment="dynamic"), 256, 20_000
    x = torch.randn(items, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with Sizes():
        module(x, torch.arange(items) // 4).backward()
    assert max(sizes) <= items * count // 15


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=14))
def test_linked_items_get_one_label(items: int, links: list[tuple[int, int]]) -> None:
    links = [(a % items, b % items) for a, b in links]
    expected = list(range(items))
    for _ in range(items):
        for a, b in links:
            expected[a] = expected[b] = min(expected[a], expected[b])
    first, second = torch.tensor(links, dtype=torch.int64).reshape(-1, 2).unbind(1)
    assert linked_labels(Pairs(first, second), items).tolist() == expected


# where proxies start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ProxyNCA, ProxyTriplet, ProxyNCAPlusPlus, ProxyAnchor])
def test_proxies_start_on_the_sphere_if_asked_to(kind: Callable[..., Any]) -> None:
    normal, sphere = kind(8, 30), kind(8, 30, init="sphere")
    torch.testing.assert_close(sphere.proxies.norm(dim=1), torch.ones(30))
    torch.testing.assert_close(nn.functional.normalize(normal.proxies, dim=1), sphere.proxies)


def test_reset_turns_proxies_and_keeps_their_lengths() -> None:
    module = ProxyNCA(4, 5)
    before = module.proxies.detach().clone()
    centres = torch.randn(5, 4, generator=torch.Generator().manual_seed(3))
    centres[2] = 0
    module.reset_(centres)
    torch.testing.assert_close(module.proxies.norm(dim=1), before.norm(dim=1))
    assert torch.equal(module.proxies[2], before[2])
    cosines = nn.functional.cosine_similarity(module.proxies, centres)
    torch.testing.assert_close(cosines[[0, 1, 3, 4]], torch.ones(4))


def test_proxies_start_at_class_means_and_at_means_of_classes_that_share_them() -> None:
    x, labels = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 4
    points = nn.functional.normalize(x, dim=1)
    alone, shared = ProxyNCA(4, 4), ProxyNCA(4, 4, proxies_per_class=0.5)
    alone.start_at_(x, labels)
    shared.start_at_(x, labels)
    assert shared.shared is not None
    for module, owner in ((alone, labels), (shared, shared.shared[labels])):
        means = torch.stack([points[owner == p].mean(dim=0) for p in range(len(module.proxies))])
        torch.testing.assert_close(
            nn.functional.normalize(module.proxies, dim=1), nn.functional.normalize(means, dim=1)
        )


@pytest.mark.parametrize("options", [{"proxies_per_class": 3}, {"assignment": "dynamic"}])
def test_several_rounds_of_starting_are_spherical_k_means(options: dict[str, Any]) -> None:
    source = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 4, generator=source), torch.arange(60) % 5
    module = ProxyNCA(4, 5, **options)
    points, closeness = nn.functional.normalize(x, dim=1), []
    for _ in range(4):
        module.start_at_(x, labels, rounds=2)
        own = nn.functional.normalize(module.proxies[module.assigned(x, labels)], dim=1)
        closeness.append((points * own).sum().item())
    assert closeness == sorted(closeness)
    assert closeness[-1] > closeness[0] - 1e-6


# bad input --------------------------------------------------------------------------------------------------

X, Y = torch.eye(6, 4), torch.arange(6) % 5


def rows(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def dynamic() -> ProxyNCA:
    return ProxyNCA(4, 5, assignment="dynamic")


WRONG: tuple[tuple[Callable[[], object], type[Exception], str], ...] = (
    (lambda: ProxyNCA(4, 10, proxies_per_class=0.1), UsageError, "needs at least 2 proxies.* makes 1. Raise it to 0.2"),
    (lambda: ProxyNCA(4, 10, proxies_per_class=0), UsageError, "proxies_per_class must be more than 0, not 0"),
    (lambda: ProxyNCA(4, 10, proxies_per_class=-0.5), UsageError, "proxies_per_class must be more than 0"),
    (lambda: ProxyNCA(4, 10, proxies_per_class=1.5), UsageError, "must be at most 1 or a whole number, not 1.5"),
    (lambda: ProxyNCA(4, 1), UsageError, "classes must be a whole number of at least 2"),
    (lambda: ProxyAnchor(4, 10, proxies_per_class=2), UsageError, "proxies_per_class must be .* at most 1, not 2"),
    (lambda: ProxyNCA(4, 5, assignment="nearest"), UnknownNameError, "assignment of proxy_nca called 'nearest'"),
    (lambda: ProxyNCA(4, 5, init="spheres"), UnknownNameError, "Did you mean 'sphere'"),
    (lambda: proxy_nca(X, Y, torch.ones(5, 4), assignment="statick"), UnknownNameError, "Did you mean 'static'"),
    (lambda: proxy_nca(X, Y, torch.ones(5, 4), per_class=0), UsageError, "per_class must be a whole number"),
    (lambda: proxy_nca(X, Y, torch.ones(5, 4), per_class=2), UsageError, "5 is no multiple of 2"),
    (
        lambda: proxy_nca(X, Y, torch.ones(6, 4), per_class=2, assignment="dynamic"),
        UsageError,
        "per_class is of no use with assignment='dynamic'",
    ),
    (lambda: proxy_nca(X, Y, torch.ones(1, 4), assignment="dynamic"), UsageError, "at least 2 proxies, not 1"),
    (lambda: proxy_nca(X, Y, torch.ones(5, 3), assignment="dynamic"), BatchError, "must have the width of the proxies"),
    (lambda: proxy_nca(X, Y, [1.0], assignment="dynamic"), BatchError, r"must be a \(proxy, dim\) tensor"),
    (lambda: proxy_nca(X, Y, X * torch.nan, assignment="dynamic"), NumericError, "learned vectors must be finite"),
    (lambda: ProxyNCA(4, 4, proxies_per_class=0.5)(X, Y), BatchError, r"labels must lie in 0 … 3, but 1 of 6 .*: 4"),
    (lambda: ProxyNCA(4, 4, assignment="dynamic")(X, Y), BatchError, r"labels must lie in 0 … 3, but 1 of 6 .*: 4"),
    (lambda: ProxyNCA(4, 5)(X, PAIRS), UsageError, "static assignment needs a class number.*not Pairs"),
    (lambda: ProxyAnchor(4, 5)(X, TRIPLETS), UsageError, "static assignment needs a class number.*not Triplets"),
    (lambda: proxy_nca(X, PAIRS, torch.ones(5, 4)), UsageError, "static assignment needs a class number"),
    (
        lambda: dynamic()(X, Triplets(rows(0, 1), rows(2, 3), rows(4, 1))),
        BatchError,
        r"anchors and negatives of a triplet must be two items, but 1 of 2 are not so.*1: \(1, 3, 1\)",
    ),
    (
        lambda: dynamic()(X, Triplets(rows(0, 1), rows(2, 1), rows(4, 5))),
        BatchError,
        r"anchors and positives of a triplet must be two items.*1: \(1, 1, 5\)",
    ),
    (
        lambda: dynamic()(X, Triplets(rows(*[0] * 7), rows(*[2] * 7), rows(*[2] * 7))),
        BatchError,
        r"positives and negatives of a triplet .* 7 of 7 are not so.*and 2 more",
    ),
    (lambda: dynamic()(X, Pairs(rows(2), rows(2))), BatchError, r"of a pair must be two items.*0: \(2, 2\)"),
    (lambda: dynamic()(X, Pairs(rows(0, 2), rows(6, 3))), BatchError, r"others must be rows 0 … 5.*0: \(0, 6\)"),
    (lambda: dynamic()(X, Pairs(rows(-1), rows(3))), BatchError, r"anchors must be rows 0 … 5.*0: \(-1, 3\)"),
    (lambda: dynamic()(X, Pairs(rows(0, 2), rows(3))), BatchError, "anchors and others must be equally many"),
    (lambda: dynamic()(X, Pairs(X[0], X[1])), BatchError, "anchors must be whole row numbers"),
    (lambda: dynamic()(X * torch.nan, PAIRS), NumericError, "embeddings must be finite"),
    (lambda: dynamic().reset_(torch.ones(4, 4)), BatchError, "one centre per proxy"),
    (lambda: dynamic().reset_(torch.full((5, 4), torch.nan)), NumericError, "centres must be finite"),
    (lambda: dynamic().start_at_(X, Y, rounds=0), UsageError, "rounds must be a whole number"),
    (lambda: share_proxies(3, 4, generator=torch.Generator()), UsageError, "proxies must be .* at most 3"),
)


@pytest.mark.parametrize(("make", "error", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_refuses_what_cannot_be_and_names_it(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with without_shape_checks(), pytest.raises(error, match="(?s)" + message):
        make()

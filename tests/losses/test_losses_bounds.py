"""The bounds of the Proxy-NCA paper hold, are sharp, and fail where they are said to; the floors; what is watched."""

from math import exp, log, sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accord.errors import BatchError, NumericError, UnknownNameError, UsageError
from accord.losses import (
    ProxyBound,
    ProxyNCA,
    ProxyNCAPlusPlus,
    ProxyTriplet,
    ProxyUse,
    ProxyWatch,
    bound_slack,
    nca_bound,
    proxy_alpha,
    proxy_epsilon,
    proxy_nca,
    triplet_bound,
)
from accord.types import Pairs, Triplets
from conformance import without_shape_checks

Two = tuple[Tensor, Tensor]


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def d(x: Tensor, y: Tensor, distance: str) -> Tensor:
    """The distance of vectors, batch by batch: ‖x - y‖², or the half of it, whose part that matters is -xᵀy."""
    return (x - y).square().sum(dim=-1) * (1 if distance == "squared" else 0.5)


def nca(x: Tensor, y: Tensor, z: Tensor, distance: str, *, included: bool = False) -> Tensor:
    own, rivals = d(x, y, distance), d(x[..., None, :], z, distance)
    all_of_them = torch.cat([rivals, own[..., None]], dim=-1) if included else rivals
    return own + (-all_of_them).logsumexp(dim=-1)


def hinge(x: Tensor, y: Tensor, z: Tensor, margin: float, distance: str) -> Tensor:
    return (d(x, y, distance) + margin - d(x, z, distance)).relu()


def adversarial(trials: int, negatives: int, dim: int, radius: float, seed: int) -> tuple[Tensor, ...]:
    """Unit x, y, Z and their proxies, which are moved off by as much as `radius`, half of the time to do most harm."""
    source = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    x, y, z = unit(randn(trials, dim)), unit(randn(trials, dim)), unit(randn(trials, negatives, dim))
    # the proxy of the positive is moved towards x, those of the negatives away: both lower the loss they stand for
    harm = (torch.rand(trials, 1, generator=source) < 0.5).double()
    off_y = harm * x + (1 - harm) * unit(randn(trials, dim))
    off_z = -harm[..., None] * x[:, None] + (1 - harm[..., None]) * unit(randn(trials, negatives, dim))
    return x, y, z, unit(y + radius * off_y), unit(z + radius * off_z)


SIZES = st.tuples(st.integers(1, 9), st.integers(2, 6), st.floats(0.001, 3.0), st.integers(0, 10**6))
NORMS = st.tuples(st.floats(1.0, 4.0), st.floats(1.0, 4.0))


def epsilon_of(y: Tensor, z: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """ε of each trial, and of a few of them by the function."""
    points, proxies = torch.cat([y[:, None], z], dim=1), torch.cat([p[:, None], q], dim=1)
    slow = (points - proxies).square().sum(dim=-1).amax(dim=1)
    for trial in range(3):
        torch.testing.assert_close(proxy_epsilon(3 * points[trial], proxies[trial]), slow[trial])
    return slow


@pytest.mark.parametrize("distance", ["squared", "inner"])
@given(SIZES, NORMS)
@settings(deadline=None, max_examples=40)
def test_the_bound_of_nca_holds(distance: Any, sizes: tuple[int, int, float, int], norms: tuple[float, float]) -> None:
    negatives, dim, radius, seed = sizes
    x, y, z, p, q = adversarial(300, negatives, dim, radius, seed)
    epsilon, alpha = epsilon_of(y, z, p, q), proxy_alpha(*norms)
    for included in (False, True):
        true = nca(x, y, z, distance, included=included)
        proxy = nca(norms[0] * x, norms[1] * p, norms[1] * q, distance, included=included)
        bound = nca_bound(proxy, epsilon, negatives=negatives + included, alpha=alpha, distance=distance)
        assert (true <= bound + 1e-9).all()


@pytest.mark.parametrize("distance", ["squared", "inner"])
@given(SIZES, NORMS, st.floats(0.0, 2.0))
@settings(deadline=None, max_examples=40)
def test_the_bound_of_the_triplet_hinge_holds(
    distance: Any, sizes: tuple[int, int, float, int], norms: tuple[float, float], margin: float
) -> None:
    _, dim, radius, seed = sizes
    x, y, z, p, q = adversarial(300, 1, dim, radius, seed)
    epsilon = epsilon_of(y, z, p, q)
    proxy = hinge(norms[0] * x, norms[1] * p, norms[1] * q[:, 0], margin, distance)
    bound = triplet_bound(proxy, epsilon, margin=margin, alpha=proxy_alpha(*norms), distance=distance)
    assert (hinge(x, y, z[:, 0], margin, distance) <= bound + 1e-9).all()


def counter_example(epsilon: float) -> tuple[Tensor, ...]:
    """x ⟂ p, y = p - √ε x, z = p' + √ε x, the latter two at length one."""
    x, p, q = torch.eye(3, dtype=torch.float64)[:, None]
    # a step of √ε along a circle, so that y and z stay on the sphere and are exactly √ε from p and p'
    sine = sqrt(epsilon) * sqrt(1 - epsilon / 4)
    cosine = 1 - epsilon / 2
    return x, cosine * p - sine * x, (cosine * q + sine * x)[:, None], p, q[:, None]


@pytest.mark.parametrize(("distance", "constant"), [("squared", 4.0), ("inner", 2.0)])
def test_no_smaller_slack_will_do(distance: Any, constant: float) -> None:
    x, y, z, p, q = counter_example(1e-4)
    epsilon = epsilon_of(*(torch.cat([part] * 3) for part in (y, z, p, q)))[:1]
    torch.testing.assert_close(epsilon.item(), 1e-4)
    for true, proxy, bound in (
        (
            nca(x, y, z, distance),
            nca(x, p, q, distance),
            nca_bound(nca(x, p, q, distance), epsilon, negatives=1, alpha=1.0, distance=distance),
        ),
        (
            hinge(x, y, z[:, 0], 1.0, distance),
            hinge(x, p, q[:, 0], 1.0, distance),
            triplet_bound(hinge(x, p, q[:, 0], 1.0, distance), epsilon, margin=1.0, alpha=1.0, distance=distance),
        ),
    ):
        # by so much does the loss itself exceed that of proxies, in units of √ε
        assert ((true - proxy) / epsilon.sqrt()).item() == pytest.approx(constant, rel=1e-4)
        assert true <= bound + 1e-12
        assert true > proxy + 0.99 * constant * epsilon.sqrt()


@pytest.mark.parametrize("constant", [2 * sqrt(2), 2.0])
def test_the_slacks_of_the_paper_fail_for_squared_distances(constant: float) -> None:
    x, y, z, p, q = counter_example(1e-4)
    assert nca(x, y, z, "squared") > nca(x, p, q, "squared") + constant * sqrt(1e-4)


def test_the_slack_for_inner_products_is_that_of_the_paper_with_one_minus_cosine_for_epsilon() -> None:
    epsilon = torch.tensor([0.02, 0.6])
    torch.testing.assert_close(bound_slack(epsilon, distance="inner"), 2 * (2 * (epsilon / 2)).sqrt())
    # cos 0.7, so ε = 0.6: loose in practice
    assert bound_slack(epsilon)[1].item() == pytest.approx(3.098, abs=1e-3)


def test_the_bound_fails_if_negatives_that_share_a_proxy_are_counted_once() -> None:
    # eight negatives at one place, proxies exactly where their items are: ε is 0
    x, y, z = torch.eye(3, dtype=torch.float64)[:, None]
    true = nca(x, y, z.expand(8, 3)[None], "squared")
    as_set = nca(x, y, z[None], "squared")
    as_multiset = nca(x, y, z.expand(8, 3)[None], "squared")
    nothing = torch.zeros(1, dtype=torch.float64)
    assert true > nca_bound(as_set, nothing, negatives=1, alpha=1.0) + 2
    # with |Z| counted in items it still fails, for α of 1 leaves log |Z| out
    assert true > nca_bound(as_set, nothing, negatives=8, alpha=1.0) + 2
    assert true <= nca_bound(as_multiset, nothing, negatives=8, alpha=1.0) + 1e-12


def test_the_bound_needs_lengths_whose_product_is_at_least_one() -> None:
    x, y = torch.eye(2, dtype=torch.float64)[:, None]
    # seven negatives where the positive is, one on the item: the right side with α = 4 falls short
    z = torch.cat([y.expand(7, 2), x])[None]
    true, small = nca(x, y, z, "squared"), nca(0.5 * x, 0.5 * y, 0.5 * z, "squared")
    assert true > 4 * small + (1 - 4) * log(8) + 0.1
    with pytest.raises(UsageError, match=r"must be at least 1, not 0.25.*Raise the loss's scale"):
        proxy_alpha(0.5, 0.5)


def test_a_bound_worked_by_hand() -> None:
    proxy, epsilon = torch.tensor(0.5), torch.tensor(0.25)
    assert nca_bound(proxy, epsilon, negatives=4, alpha=0.25).item() == pytest.approx(0.125 + 0.75 * log(4) + 2)
    assert triplet_bound(proxy, epsilon, margin=0.4, alpha=0.5).item() == pytest.approx(0.25 + 0.2 + 2)
    assert proxy_alpha(2, 4.0) == 0.125
    points = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert proxy_epsilon(points, torch.tensor([[1.0, 0.0], [0.0, -5.0]])).item() == 4
    assert proxy_epsilon(points[:0], points[:0]).item() == 0


# floors -----------------------------------------------------------------------------------------------------


def floor(classes: int, item: float, proxy: float) -> float:
    """The lowest value of the included form: proxies at the corners of a simplex, items on their own."""
    gap = 2 * item * proxy * classes / (classes - 1)
    return log(1 + (classes - 1) * exp(-gap))


@pytest.mark.parametrize(
    ("classes", "item", "proxy", "expected"),
    [(98, 1, 1, 2.63), (11318, 1, 1, 7.33), (98, 3, 3, 0.0), (11318, 3, 3, 0.0), (98, 1, 3, 0.20), (11318, 1, 3, 3.37)],
)
def test_the_included_form_cannot_fall_below_its_floor(
    classes: int, item: float, proxy: float, expected: float
) -> None:
    assert floor(classes, item, proxy) == pytest.approx(expected, abs=5e-3)
    count = min(classes, 98)
    corners = torch.eye(count, dtype=torch.float64) - 1 / count
    scale = sqrt(item * proxy)
    lowest = proxy_nca(corners, torch.arange(count), corners, scale=scale, positive="included")
    assert lowest.item() == pytest.approx(floor(count, item, proxy), rel=1e-9)
    # and nobody gets below by moving either side
    source = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1.0):
        moved = corners + size * torch.randn(corners.shape, generator=source, dtype=torch.float64)
        assert proxy_nca(corners, torch.arange(count), moved, scale=scale, positive="included") >= lowest
        assert proxy_nca(moved, torch.arange(count), moved, scale=scale, positive="included") >= lowest


def test_training_reaches_the_floor_of_the_included_form_and_the_excluded_one_goes_below_zero() -> None:
    labels = torch.arange(8)
    for positive, scale, expected in (("included", 1.0, floor(8, 1, 1)), ("excluded", 3.0, None)):
        module = ProxyNCA(8, 8, positive=positive, scale=scale)  # type: ignore[arg-type]
        x = torch.randn(8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        optimizer = torch.optim.Adam([x, module.proxies], lr=0.1)
        for _ in range(120):
            optimizer.zero_grad()
            loss = module(x, labels)
            loss.backward()
            optimizer.step()
        if expected is not None:
            assert loss.item() == pytest.approx(expected, abs=1e-3)
        else:
            # -2 scale² C / (C - 1) + log(C - 1)
            assert loss.item() == pytest.approx(-18 * 8 / 7 + log(7), abs=0.05)


def test_the_excluded_form_never_stops_pulling_and_the_included_one_does() -> None:
    """∂L/∂d(x, p(y)) is 1 in the one and 1 - P(y|x) in the other."""
    distances = torch.tensor([0.0, 40.0, 40.0], dtype=torch.float64, requires_grad=True)
    excluded = distances[0] + (-distances[1:]).logsumexp(dim=0)
    included = distances[0] + (-distances).logsumexp(dim=0)
    assert torch.autograd.grad(excluded, distances)[0][0] == 1
    assert torch.autograd.grad(included, distances)[0][0] < 1e-15


# what is watched --------------------------------------------------------------------------------------------

BATCH = torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
LABELS = torch.arange(12) % 4
TRIPLETS = Triplets(torch.tensor([0, 0, 1, 2]), torch.tensor([4, 4, 5, 6]), torch.tensor([1, 2, 3, 0]))
KINDS = {
    "nca": (ProxyNCA, {}),
    "nca included": (ProxyNCA, {"positive": "included", "scale": 1.5}),
    "nca++": (ProxyNCAPlusPlus, {}),
    "triplet": (ProxyTriplet, {"margin": 0.5}),
}


@pytest.mark.parametrize("supervision", ["labels", "several", "dynamic", "pairs", "triplets"])
@pytest.mark.parametrize("name", KINDS)
def test_a_reading_of_the_bound_is_what_its_definition_says(name: str, supervision: str) -> None:
    kind, options = KINDS[name]
    assignment = "static" if supervision in ("labels", "several") else "dynamic"
    per_class = 2 if supervision == "several" else 1
    module = kind(5, 4, assignment=assignment, proxies_per_class=per_class, **options).double()  # type: ignore[operator]
    x = BATCH.double()
    known: Any = {"pairs": Pairs(torch.tensor([0, 4]), torch.tensor([4, 8])), "triplets": TRIPLETS}.get(
        supervision, LABELS
    )
    reading = ProxyBound(module)(x, known)
    xs, ps = unit(x), unit(module.proxies.detach()[module.assigned(x, known)])
    told = contests(known)
    scale = {"nca": 3.0, "nca included": 1.5, "nca++": 3.0, "triplet": 1.0}[name]
    logs, losses, proxies, used = [], [], [], set()
    for a, y, z in told:
        used |= {y, *z}
        if name == "triplet":
            losses += [hinge(xs[a], xs[y], xs[n], 0.5, "squared").item() for n in z]
            proxies += [hinge(xs[a], ps[y], ps[n], 0.5, "squared").item() for n in z]
        else:
            included = name != "nca"
            losses.append(nca(xs[a], xs[y], xs[z], "squared", included=included).item())
            proxies.append(nca(scale * xs[a], scale * ps[y], scale * ps[z], "squared", included=included).item())
            logs.append(log(len(z) + included))
    members = list(range(12)) if supervision != "triplets" else sorted(used)
    epsilon = (xs[members] - ps[members]).square().sum(dim=1).max().item()
    assert reading.epsilon.item() == pytest.approx(epsilon)
    assert reading.slack.item() == pytest.approx(4 * sqrt(epsilon))
    assert reading.true_loss.item() == pytest.approx(sum(losses) / len(losses))
    assert reading.proxy_loss.item() == pytest.approx(sum(proxies) / len(proxies))
    alpha, beside = 1 / scale**2, sum(logs) / len(logs) if logs else 0.0
    bound = alpha * sum(proxies) / len(proxies) + (1 - alpha) * beside + 4 * sqrt(epsilon)
    assert reading.bound.item() == pytest.approx(bound)
    assert reading.true_loss <= reading.bound


def contests(known: Tensor | Pairs | Triplets) -> list[tuple[int, int, list[int]]]:
    if isinstance(known, Triplets):
        return [(0, 4, [1, 2]), (1, 5, [3]), (2, 6, [0])]
    labels = [0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11] if isinstance(known, Pairs) else known.tolist()
    places = range(len(labels))
    return [
        (i, j, [k for k in places if labels[k] != labels[i]])
        for i in places
        for j in places
        if i != j and labels[i] == labels[j]
    ]


def test_the_bound_tightens_as_proxies_near_their_items() -> None:
    module = ProxyNCA(5, 4).double()
    bound = ProxyBound(module)
    far = bound(BATCH.double(), LABELS)
    module.start_at_(BATCH.double(), LABELS)
    near = bound(BATCH.double(), LABELS)
    on_the_spot = bound(module.proxies.detach()[LABELS], LABELS)
    assert far.epsilon > near.epsilon > on_the_spot.epsilon
    assert on_the_spot.slack < 1e-6
    assert on_the_spot.true_loss <= on_the_spot.bound


def test_a_reading_of_a_batch_with_nothing_to_tell_apart_is_finite() -> None:
    reading = ProxyBound(ProxyNCA(5, 4))(BATCH, torch.zeros(12, dtype=torch.int64))
    assert all(value.isfinite() for value in reading)
    assert reading.true_loss == 0


def test_proxies_that_stand_for_nothing_are_counted() -> None:
    use = ProxyUse(6)
    assert {name: int(value) for name, value in use.terms.items()} == {"dead_proxies": 6, "unassigned_proxies": 6}
    use.see(torch.tensor([1, 1, 4]), torch.tensor([0, 1, 2]))
    use.see(torch.tensor([2]), torch.tensor([2]))
    assert {name: int(value) for name, value in use.terms.items()} == {"dead_proxies": 3, "unassigned_proxies": 3}
    other = ProxyUse(6)
    other.load_state_dict(use.state_dict())
    assert int(other.terms["dead_proxies"]) == 3
    use.restart()
    assert int(use.terms["dead_proxies"]) == 6


@pytest.mark.parametrize("assignment", ["static", "dynamic"])
def test_a_watch_sees_every_batch_of_training_and_none_of_evaluation(assignment: Any) -> None:
    module = ProxyNCA(5, 4, assignment=assignment)
    watch = ProxyWatch(module, every=2)
    assert set(watch.terms) == {"dead_proxies", "unassigned_proxies"}
    module.eval()
    module(BATCH, LABELS)
    assert int(watch.terms["dead_proxies"]) == 4
    module.train()
    module(BATCH[:0], LABELS[:0])
    assert int(watch.terms["dead_proxies"]) == 4
    module(BATCH, LABELS)
    terms, reading = watch.terms, watch.reading
    near = (unit(BATCH) @ unit(module.proxies.detach()).T).argmax(dim=1)
    assert int(terms["dead_proxies"]) == 4 - len(set(near.tolist()))
    assert int(terms["unassigned_proxies"]) == (0 if assignment == "static" else int(terms["dead_proxies"]))
    assert {"epsilon", "slack", "bound", "true_loss", "proxy_loss"} <= set(terms)
    module(BATCH * 2, LABELS)
    assert watch.reading is reading
    module(BATCH, LABELS)
    assert watch.reading is not reading
    watch.restart()
    watch.detach()
    module(BATCH, LABELS)
    assert int(watch.terms["dead_proxies"]) == 4


def test_a_watch_changes_neither_value_nor_gradient_and_reads_no_bound_where_there_is_none() -> None:
    alone, watched = ProxyNCA(5, 4, scale=0.5), ProxyNCA(5, 4, scale=0.5)
    watch = ProxyWatch(watched)
    for module in (alone, watched):
        module(BATCH, LABELS).backward()
    assert alone.proxies.grad is not None
    assert torch.equal(alone.proxies.grad, watched.proxies.grad)
    assert watch.reading is None


# bad input --------------------------------------------------------------------------------------------------

ONE = torch.ones(())
WRONG: tuple[tuple[Any, type[Exception], str], ...] = (
    (lambda: ProxyBound(ProxyNCA(5, 4, scale=0.5)), UsageError, "no bound at α = 4"),
    (lambda: ProxyBound(ProxyNCAPlusPlus(5, 4, temperature=2.0)), UsageError, "no bound at α = 2"),
    (lambda: ProxyUse(1), UsageError, "proxies must be a whole number of at least 2"),
    (lambda: ProxyWatch(ProxyNCA(5, 4), every=0), UsageError, "every must be a whole number"),
    (lambda: bound_slack(ONE, distance="square"), UnknownNameError, "Did you mean 'squared'"),
    (lambda: nca_bound(ONE, ONE, negatives=0, alpha=0.5), UsageError, "negatives must be at least 1"),
    (lambda: nca_bound(ONE, ONE, negatives=2, alpha=1.5), UsageError, "alpha must be .* at most 1"),
    (lambda: triplet_bound(ONE, ONE, margin=-1, alpha=1.0), UsageError, "margin must be at least 0"),
    (lambda: triplet_bound(ONE, ONE, margin=1, alpha=0), UsageError, "alpha must be more than 0"),
    (lambda: proxy_alpha(-1, 2), UsageError, "item_norm must be more than 0"),
    (lambda: proxy_epsilon(BATCH, BATCH[:3]), BatchError, "one proxy for each embedding"),
    (lambda: proxy_epsilon(BATCH, BATCH * torch.nan), NumericError, "assigned must be finite"),
    (lambda: proxy_epsilon(BATCH * torch.nan, BATCH), NumericError, "embeddings must be finite"),
)


@pytest.mark.parametrize(("make", "error", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_refuses_what_cannot_be(make: Any, error: type[Exception], message: str) -> None:
    with without_shape_checks(), pytest.raises(error, match=message):
        make()

"""Losses against proxies and class vectors: each equals a slow loop from its paper, the peer, and its own autograd."""

from collections.abc import Callable
from inspect import signature
from math import acos, cos, exp, log, log1p, pi, radians, sin, sqrt
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses as peers
from pytorch_metric_learning import regularizers
from torch import Tensor, nn

from accord.errors import BatchError, UnknownNameError, UsageError
from accord.losses import (
    ArcFace,
    CosFace,
    NormalisedSoftmax,
    ProxyAnchor,
    ProxyNCA,
    ProxyNCAPlusPlus,
    ProxyTriplet,
    SoftTriple,
    SubCentreArcFace,
    arc_face,
    cos_face,
    normalised_softmax,
    proxy_anchor,
    proxy_nca,
    proxy_triplet,
    soft_triple,
    sub_centre_arc_face,
)
from accord.losses._arc_face import widened as widened_cosine
from accord.losses._centres import centre_spread
from accord.losses._settings import row_engine
from accord.recipes.catalog.proxies import LOSSES
from conformance import without_shape_checks
from slow import Row, agrees, batch, dot, mean, squared, two_hundred, units

CLASSES = 6  # of which the batch of slow.py shows four
Costs = Callable[[list[float], int], float]
Slow = Callable[[Tensor, list[int]], float]


def table(module: nn.Module) -> Tensor:
    return next(module.parameters()).detach()


def per_item(module: nn.Module, cost: Costs) -> Slow:
    """The mean over items of a cost of their cosines with all rows of the table."""

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        rows = units(table(module))
        return mean([cost([dot(x, p) for p in rows], y) for x, y in zip(units(embeddings), labels, strict=True)])

    return slow


def cross_entropy(logits: list[float], label: int) -> float:
    top = max(logits)
    return log(sum(exp(value - top) for value in logits)) + top - logits[label]


def changed(values: list[float], place: int, value: float) -> list[float]:
    return [value if i == place else old for i, old in enumerate(values)]


def widened(cosine: float, margin: float) -> float:
    angle = acos(cosine)
    return cos(angle + margin) if angle + margin < pi else cosine - margin * sin(margin)


def by_class(cosines: list[float], centres: int) -> list[list[float]]:
    return [cosines[start : start + centres] for start in range(0, len(cosines), centres)]


def soft_choice(cosines: list[float], gamma: float) -> float:
    weights = [exp(c / gamma) for c in cosines]
    return sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)


def nca(scale: float, positive: str) -> Costs:
    def cost(cosines: list[float], label: int) -> float:
        distances = [scale**2 * (2 - 2 * c) for c in cosines]
        rivals = [d for c, d in enumerate(distances) if c != label or positive == "included"]
        return distances[label] + log(sum(exp(-d) for d in rivals))

    return cost


def smoothed_nca(length: float, smoothing: float) -> Costs:
    """Unit items, proxies of a length, and a share of the target for all proxies but the own one."""

    def cost(cosines: list[float], label: int) -> float:
        distances = [1 + length**2 - 2 * length * c for c in cosines]
        total = log(sum(exp(-d) for d in distances))
        shares = [1 - smoothing if c == label else smoothing / (len(cosines) - 1) for c in range(len(cosines))]
        return sum(share * (d + total) for share, d in zip(shares, distances, strict=True))

    return cost


def hinges(margin: float) -> Costs:
    def cost(cosines: list[float], label: int) -> float:
        d = [2 - 2 * c for c in cosines]
        return mean([max(0.0, d[label] + margin - d[z]) for z in range(CLASSES) if z != label])

    return cost


def soft_triple_costs(centres: int, scale: float, gamma: float, margin: float) -> Costs:
    def cost(cosines: list[float], label: int) -> float:
        scores = [soft_choice(part, gamma) for part in by_class(cosines, centres)]
        return cross_entropy([scale * s for s in changed(scores, label, scores[label] - margin)], label)

    return cost


def cos_face_costs(margin: float, scale: float) -> Costs:
    return lambda c, y: cross_entropy([scale * v for v in changed(c, y, c[y] - margin)], y)


def arc_face_costs(margin: float, scale: float, centres: int = 1) -> Costs:
    def cost(cosines: list[float], label: int) -> float:
        nearest = [max(part) for part in by_class(cosines, centres)]
        return cross_entropy([scale * v for v in changed(nearest, label, widened(nearest[label], margin))], label)

    return cost


Making = tuple[Callable[[], nn.Module], Costs]
MAKINGS: dict[str, Making] = {
    "nca": (lambda: ProxyNCA(4, CLASSES, scale=1.5), nca(1.5, "excluded")),
    "nca included": (lambda: ProxyNCA(4, CLASSES, scale=2.0, positive="included"), nca(2.0, "included")),
    "nca as Zabihzadeh": (
        lambda: ProxyNCA(4, CLASSES, scale=3**0.5, positive="included", smoothing=0.1),
        smoothed_nca(3.0, 0.1),
    ),
    "nca++": (lambda: ProxyNCAPlusPlus(4, CLASSES), nca(3.0, "included")),
    "nca++ warm": (lambda: ProxyNCAPlusPlus(4, CLASSES, temperature=0.5), nca(0.5**-0.5, "included")),
    "triplet": (lambda: ProxyTriplet(4, CLASSES), hinges(0.2)),
    "triplet wide": (lambda: ProxyTriplet(4, CLASSES, margin=1.7), hinges(1.7)),
    "softmax": (lambda: NormalisedSoftmax(4, CLASSES), lambda c, y: cross_entropy([20 * v for v in c], y)),
    "softmax warm": (
        lambda: NormalisedSoftmax(4, CLASSES, temperature=0.5),
        lambda c, y: cross_entropy([2 * v for v in c], y),
    ),
    "cos-face": (lambda: CosFace(4, CLASSES), cos_face_costs(0.35, 64)),
    "cos-face gentle": (lambda: CosFace(4, CLASSES, margin=0.1, scale=5.0), cos_face_costs(0.1, 5)),
    "arc-face": (lambda: ArcFace(4, CLASSES), arc_face_costs(0.5, 64)),
    "arc-face gentle": (lambda: ArcFace(4, CLASSES, margin=1.2, scale=4.0), arc_face_costs(1.2, 4)),
    "sub-centre": (lambda: SubCentreArcFace(4, CLASSES), arc_face_costs(0.5, 64, 3)),
    "sub-centre gentle": (
        lambda: SubCentreArcFace(4, CLASSES, centres=2, margin=0.3, scale=4.0),
        arc_face_costs(0.3, 4, 2),
    ),
    "soft-triple": (lambda: SoftTriple(4, CLASSES, tau=0.0), soft_triple_costs(10, 20, 0.1, 0.01)),
    "soft-triple gentle": (
        lambda: SoftTriple(4, CLASSES, centres=2, scale=5.0, gamma=3.0, margin=0.4, tau=0.0),
        soft_triple_costs(2, 5, 3.0, 0.4),
    ),
    "soft-triple hard": (
        lambda: SoftTriple(4, CLASSES, centres=3, gamma=0.02, tau=0.0),
        soft_triple_costs(3, 20, 0.02, 0.01),
    ),
}


@pytest.mark.parametrize("name", MAKINGS)
def test_is_the_mean_of_its_papers_cost(name: str) -> None:
    make, cost = MAKINGS[name]
    module = make().double()
    agrees(module, per_item(module, cost))
    slow = per_item(module, cost)
    for seed in two_hundred():
        embeddings, labels = batch(1000 + seed)
        expected = slow(embeddings, labels.tolist())
        assert module(embeddings, labels).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def anchor_loss(proxies: list[Row], items: list[Row], labels: list[int], margin: float, alpha: float) -> float:
    pulls, pushes = [], []
    for c, p in enumerate(proxies):
        own = [dot(p, x) for x, y in zip(items, labels, strict=True) if y == c]
        other = [dot(p, x) for x, y in zip(items, labels, strict=True) if y != c]
        if own:
            pulls.append(log1p(sum(exp(-alpha * (s - margin)) for s in own)))
        pushes.append(log1p(sum(exp(alpha * (s + margin)) for s in other)))
    return mean(pulls) + mean(pushes)


@pytest.mark.parametrize(("margin", "alpha"), [(0.1, 32.0), (0.4, 3.0)])
def test_proxy_anchor_averages_pulls_over_present_and_pushes_over_all_classes(margin: float, alpha: float) -> None:
    module = ProxyAnchor(4, CLASSES, margin=margin, alpha=alpha).double()

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        return anchor_loss(units(table(module)), units(embeddings), labels, margin, alpha)

    agrees(module, slow)
    for seed in two_hundred():
        embeddings, labels = batch(1000 + seed)
        assert module(embeddings, labels).item() == pytest.approx(slow(embeddings, labels.tolist()), rel=1e-9)


@pytest.mark.parametrize("centres", [2, 3, 10])
def test_soft_triple_adds_the_distances_between_centres_of_a_class(centres: int) -> None:
    module = SoftTriple(4, CLASSES, centres=centres, tau=0.7).double()
    bare = SoftTriple(4, CLASSES, centres=centres, tau=0.0).double()
    rows = units(table(module))
    parts = [rows[start : start + centres] for start in range(0, len(rows), centres)]
    apart = sum(sqrt(squared(part[k], part[m])) for part in parts for m in range(centres) for k in range(m))
    expected = 0.7 * apart / (CLASSES * centres * (centres - 1))
    assert (module(*batch(0)) - bare(*batch(0))).item() == pytest.approx(expected, rel=1e-9)


def test_the_spread_of_centres_has_the_gradient_of_its_value_in_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    whole = centre_spread(weight, 3)
    (expected,) = torch.autograd.grad(whole, weight)
    monkeypatch.setattr("accord.losses._centres.PART_BYTES", 80)
    assert torch.autograd.gradcheck(lambda w: centre_spread(w, 3), weight)
    assert torch.autograd.gradgradcheck(lambda w: centre_spread(w, 3), weight)
    parts = centre_spread(weight, 3)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.autograd.grad(parts, weight)[0], expected)


def test_the_spread_of_centres_survives_duplicates_and_zeros() -> None:
    weight = torch.ones(6, 4)
    weight[3:] = 0
    weight.requires_grad_()
    value = centre_spread(weight, 3)
    value.backward()
    assert value.isfinite()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert centre_spread(weight[:3], 3) == 0


def test_proxy_nca_plus_plus_is_the_included_form_of_proxy_nca() -> None:
    new, old = ProxyNCAPlusPlus(4, CLASSES).double(), ProxyNCA(4, CLASSES, scale=3.0, positive="included").double()
    torch.testing.assert_close(new(*batch(0)), old(*batch(0)))


def test_only_the_excluded_form_of_proxy_nca_goes_below_zero() -> None:
    labels = torch.arange(5)
    excluded, included = ProxyNCA(8, 5), ProxyNCA(8, 5, positive="included")
    assert excluded(excluded.proxies.detach(), labels) < 0 <= included(included.proxies.detach(), labels)


# the peer ---------------------------------------------------------------------------------------------------

M = radians(28.6)
PEERS: dict[str, tuple[Callable[[], nn.Module], str, Callable[..., Tensor]]] = {
    "ProxyNCA, included": (
        lambda: peers.ProxyNCALoss(CLASSES, 4, softmax_scale=9.0),
        "proxies",
        lambda x, y, w: proxy_nca(x, y, w, scale=3.0, positive="included"),
    ),
    "ProxyAnchor": (lambda: peers.ProxyAnchorLoss(CLASSES, 4), "proxies", proxy_anchor),
    "SoftTriple": (
        lambda: peers.SoftTripleLoss(CLASSES, 4, centers_per_class=3),
        "fc",
        lambda x, y, w: soft_triple(x, y, w, centres=3, tau=0.0),
    ),
    "SoftTriple, regularised": (
        lambda: peers.SoftTripleLoss(
            CLASSES,
            4,
            centers_per_class=3,
            weight_regularizer=regularizers.SparseCentersRegularizer(CLASSES, 3),
            weight_reg_weight=0.2,
        ),
        "fc",
        lambda x, y, w: soft_triple(x, y, w, centres=3),
    ),
    "NormalizedSoftmax": (lambda: peers.NormalizedSoftmaxLoss(CLASSES, 4), "W", normalised_softmax),
    "CosFace": (lambda: peers.CosFaceLoss(CLASSES, 4), "W", cos_face),
    "ArcFace": (lambda: peers.ArcFaceLoss(CLASSES, 4), "W", lambda x, y, w: arc_face(x, y, w, margin=M)),
    "SubCenterArcFace": (
        lambda: peers.SubCenterArcFaceLoss(num_classes=CLASSES, embedding_size=4),
        "W",
        lambda x, y, w: sub_centre_arc_face(x, y, w, margin=M),
    ),
}


@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_the_peer_in_value_and_gradient(name: str) -> None:
    make, parameter, ours = PEERS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        peer = make().double()
    theirs: Tensor = getattr(peer, parameter)
    turned = parameter != "proxies"
    for seed in range(5):
        embeddings, labels = batch(seed)
        embeddings.requires_grad_()
        weight = (theirs.T if turned else theirs).detach().clone().requires_grad_()
        expected, value = peer(embeddings, labels), ours(embeddings, labels, weight)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-9)
        left, right = (
            torch.autograd.grad(value, (embeddings, weight)),
            torch.autograd.grad(expected, (embeddings, theirs)),
        )
        torch.testing.assert_close(left[0], right[0], rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(left[1].T if turned else left[1], right[1], rtol=1e-5, atol=1e-8)


def test_proxy_nca_leaves_the_own_proxy_out_as_published_where_the_peer_keeps_it() -> None:
    peer = peers.ProxyNCALoss(CLASSES, 4, softmax_scale=9.0).double()
    weight = peer.proxies.detach()
    value = proxy_nca(*batch(0), weight)
    assert value < peer(*batch(0))
    torch.testing.assert_close(proxy_nca(*batch(0), weight, positive="included"), peer(*batch(0)))


@pytest.mark.parametrize("kind", [ProxyNCA, ProxyNCAPlusPlus, ProxyTriplet, ProxyAnchor, SoftTriple, ArcFace])
def test_refuses_a_label_the_peer_ignores(kind: Callable[..., nn.Module]) -> None:
    embeddings, labels = batch(0)
    labels[3] = CLASSES
    with pytest.raises(BatchError, match=rf"0 … {CLASSES - 1}, but 1 of 11 do not: {CLASSES}"):
        kind(4, CLASSES).double()(embeddings, labels)


def test_sub_centre_arc_face_takes_its_sizes_by_position_where_the_peer_fails() -> None:
    assert SubCentreArcFace(4, 16).weight.shape == (48, 4)


@pytest.mark.parametrize("kind", [ArcFace, SubCentreArcFace])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_arc_face_keeps_a_finite_and_modest_gradient_on_the_vector_of_a_class(kind: Any, dtype: torch.dtype) -> None:
    labels = torch.arange(CLASSES)
    for seed in range(40):
        module = kind(8, CLASSES, generator=torch.Generator().manual_seed(seed))
        module = module.double() if dtype == torch.float64 else module
        own = table(module)[:: len(table(module)) // CLASSES]
        for embeddings in (own, -own, own * (1 + 1e-6), own + 1e-5, own + 1e-3):
            embeddings = embeddings.to(dtype).requires_grad_()
            value = module(embeddings, labels)
            value.backward()
            # at length one a gradient is scale times, in the worst case, sin(t + m) + sin(t')
            lengths = embeddings.detach().double().norm(dim=1)
            assert value.isfinite()
            assert (embeddings.grad.double().norm(dim=1) * lengths <= 200 / CLASSES).all()
            assert next(module.parameters()).grad.isfinite().all()


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.2])
def test_the_widened_angle_scores_less_and_less_also_beyond_half_a_turn(margin: float) -> None:
    angles = torch.linspace(0, pi, 3000, dtype=torch.float64)
    values, slopes = widened_cosine(angles.cos(), margin)
    assert (values.diff() < 0).all()
    assert (values <= angles.cos()).all()
    assert (slopes >= 0).all()


# the engine -------------------------------------------------------------------------------------------------

CONFIGURATIONS: dict[str, Callable[[], nn.Module]] = {
    **{name: make for name, (make, _) in MAKINGS.items()},
    "anchor": lambda: ProxyAnchor(4, CLASSES),
    "anchor gentle": lambda: ProxyAnchor(4, CLASSES, alpha=2.0, margin=0.5),
    "soft-triple whole": lambda: SoftTriple(4, CLASSES),
}


def batches(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    labels = {
        "even": torch.arange(24) % CLASSES,
        "one large class": torch.tensor([2] * 15 + [0, 1, 3, 4, 5, 0, 1, 3, 4]),
        "lone": torch.arange(CLASSES),
        "one class": torch.full((7,), 4),
        "many": torch.arange(1200) % (CLASSES - 1),
    }[kind]
    return torch.randn(len(labels), 4, generator=generator, dtype=torch.float64), labels


def value_and_gradients(module: nn.Module, embeddings: Tensor, labels: Tensor) -> list[Tensor]:
    embeddings = embeddings.detach().requires_grad_()
    value = module(embeddings, labels)
    return [value.detach(), *torch.autograd.grad(value, (embeddings, *module.parameters()))]


@pytest.mark.parametrize("kind", ["even", "one large class", "lone", "one class", "many"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_gradient_by_hand_is_that_of_autograd(name: str, kind: str) -> None:
    module = CONFIGURATIONS[name]().double()
    embeddings, labels = batches(kind)
    with row_engine(plain=True):
        expected = value_and_gradients(module, embeddings, labels)
    torch.testing.assert_close(value_and_gradients(module, embeddings, labels), expected, rtol=1e-9, atol=1e-10)
    with row_engine(block_bytes=1000):
        torch.testing.assert_close(value_and_gradients(module, embeddings, labels), expected, rtol=1e-9, atol=1e-10)
    single = value_and_gradients(module.float(), embeddings.float(), labels)
    for found, exact in zip(single, expected, strict=True):
        torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-4 * (1 + exact.abs().max().item()))


@pytest.mark.parametrize("kind", [ProxyNCA, ProxyAnchor, SoftTriple, SubCentreArcFace])
def test_many_classes_are_listed_by_number_and_cost_the_same(kind: Callable[..., nn.Module]) -> None:
    module, labels = kind(4, 300).double(), torch.arange(40) * 7 % 300
    embeddings = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with row_engine(plain=True):
        expected = value_and_gradients(module, embeddings, labels)
    with row_engine(block_bytes=20_000):
        torch.testing.assert_close(value_and_gradients(module, embeddings, labels), expected, rtol=1e-9, atol=1e-10)


# options ----------------------------------------------------------------------------------------------------

WRONG = (
    (lambda: ProxyNCA(4, 5, scale=0.0), "proxy_nca: scale must be more than 0"),
    (lambda: ProxyNCAPlusPlus(4, 5, temperature=0.0), "temperature must be more than 0"),
    (lambda: ProxyTriplet(4, 5, margin=5.0), "margin must be at least 0 and at most 4, not 5"),
    (lambda: ProxyAnchor(4, 5, margin=-0.1), "margin must be at least 0"),
    (lambda: ProxyAnchor(4, 5, alpha=0.0), "alpha must be more than 0"),
    (lambda: ProxyAnchor(4, 0), "classes must be a whole number of at least 2"),
    (lambda: SoftTriple(4, 5, centres=0), "centres must be a whole number of at least 1"),
    (lambda: SoftTriple(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: SoftTriple(4, 5, gamma=0.0), "gamma must be more than 0"),
    (lambda: SoftTriple(4, 5, tau=-1.0), "tau must be at least 0"),
    (lambda: SoftTriple(4, 5, margin=3.0), "margin must be at least 0 and at most 2"),
    (lambda: SoftTriple(4, 1), "classes must be a whole number of at least 2"),
    (lambda: NormalisedSoftmax(4, 5, temperature=-1.0), "temperature must be more than 0"),
    (lambda: CosFace(4, 5, margin=-1.0), "margin must be at least 0"),
    (lambda: CosFace(4, 5, scale=float("inf")), "scale must be a finite number"),
    (lambda: CosFace(0, 5), "dim must be a whole number"),
    (lambda: ArcFace(4, 5, margin=28.6), "margin must be at least 0 and at most 1.5708, not 28.6"),
    (lambda: ArcFace(4, 5, scale=0.0), "scale must be more than 0"),
    (lambda: ArcFace(4, 1), "classes must be a whole number of at least 2"),
    (lambda: SubCentreArcFace(4, 5, centres=0), "centres must be a whole number of at least 1"),
    (lambda: SubCentreArcFace(4, 5, margin=2.0), "margin must be"),
    (lambda: ProxyNCA(4, 5, smoothing=0.1), "smoothing needs the own proxy"),
    (lambda: ProxyNCA(4, 5, smoothing=1.0, positive="included"), "smoothing must be"),
    (
        lambda: ProxyNCA(4, 5, smoothing=0.1, positive="included", assignment="dynamic"),
        "Leave one of them out",
    ),
    (lambda: SubCentreArcFace(4, 5, scale=0.0), "scale must be"),
    (lambda: SubCentreArcFace(4, 1), "classes must be"),
    (lambda: soft_triple(*batch(0), torch.ones(7, 4)), "7 is no multiple of 10"),
    (lambda: sub_centre_arc_face(*batch(0), torch.ones(7, 4)), "7 is no multiple of 3"),
    (lambda: sub_centre_arc_face(*batch(0), torch.ones(3, 4)), "at least 2 classes, not 1"),
    (lambda: proxy_anchor(*batch(0), torch.ones(1, 4)), "at least 2 classes, not 1"),
    (lambda: proxy_triplet(*batch(0), torch.ones(1, 4)), "at least 2 classes, not 1"),
)


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_refuses_what_cannot_be(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_suggests_the_form_of_proxy_nca_that_was_meant() -> None:
    with without_shape_checks(), pytest.raises(UnknownNameError, match="Did you mean 'included'"):
        ProxyNCA(4, 5, positive="include")


@pytest.mark.parametrize("wrong", [torch.ones(6, 5), torch.ones(6, 4, device="meta")])
def test_refuses_a_table_that_does_not_fit(wrong: Tensor) -> None:
    with without_shape_checks(), pytest.raises(BatchError, match="must have the width"):
        cos_face(*batch(0), wrong)


def test_learned_vectors_start_at_the_documented_spread() -> None:
    assert ProxyAnchor(64, 500).proxies.std().item() == pytest.approx(sqrt(2 / 500), rel=0.02)
    for proxies in (ProxyNCA(64, 500).proxies, ProxyNCAPlusPlus(64, 500).proxies, ProxyTriplet(64, 500).proxies):
        assert proxies.std().item() == pytest.approx(1 / 8, rel=0.02)
    for kind in (NormalisedSoftmax, CosFace, ArcFace, SoftTriple, SubCentreArcFace):
        assert kind(64, 500).weight.norm(dim=1).mean().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_learned_vectors_draw_from_the_generator_alone(name: str) -> None:
    kind = built(name)
    before = torch.get_rng_state()
    default, same, other = kind(4, 5), kind(4, 5), kind(4, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(table(default), table(same))
    assert not torch.equal(table(default), table(other))


@pytest.mark.parametrize("name", LOSSES)
def test_published_values_are_options_that_pass(name: str) -> None:
    for preset in LOSSES[name].presets.values():
        assert set(preset) <= set(LOSSES[name].options)
        assert built(name)(4, 5, **preset).double()(*batch(0)).isfinite()


def built(name: str) -> Callable[..., nn.Module]:
    import accord.losses

    found: Callable[..., nn.Module] = getattr(accord.losses, LOSSES[name].path.rpartition(".")[2])
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_the_catalogue_says_what_every_option_means(name: str) -> None:
    known = [option for option in signature(built(name)).parameters if option not in ("dim", "classes", "generator")]
    assert list(LOSSES[name].options) == known

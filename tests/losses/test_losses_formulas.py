"""Each loss equals a slow loop written from its paper, value and gradient, on batches with ties and lone classes."""

from collections.abc import Callable
from itertools import product
from math import exp, log, log1p, sqrt

import pytest
import torch
from torch import Tensor

from accord.losses import (
    Contrastive,
    MultiSimilarity,
    NormalisedSoftmax,
    NPair,
    ProxyNCA,
    SmoothedCrossEntropy,
    TripletMargin,
    n_pair,
)
from slow import Row, agrees, batch, dot, mean, squared, units


@pytest.mark.parametrize("hinge", ["squared", "linear"])
@pytest.mark.parametrize("average", ["pairs", "kinds"])
def test_contrastive_is_a_pull_on_positives_and_a_hinge_on_negatives(hinge: str, average: str) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, power = units(embeddings), 2 if hinge == "squared" else 1
        pulls, pushes = [], []
        for i, j in product(range(len(x)), repeat=2):
            distance = sqrt(squared(x[i], x[j]))
            if labels[i] != labels[j]:
                pushes.append(max(0.0, 1.3 - distance) ** power)
            elif i != j:
                pulls.append(distance**power)
        return mean(pulls + pushes) if average == "pairs" else mean(pulls) + mean(pushes)

    agrees(Contrastive(margin=1.3, hinge=hinge, average=average), slow)


def mined(mining: str, distance: Callable[[int, int], float], labels: list[int]) -> list[tuple[int, int, int]]:
    """The triplets of a mining rule, found one by one."""
    found, items = [], range(len(labels))
    for a in items:
        positives = [p for p in items if labels[p] == labels[a] and p != a]
        negatives = [n for n in items if labels[n] != labels[a]]
        if mining == "all":
            found += [(a, p, n) for p in positives for n in negatives]
        elif mining == "batch_hard" and positives:
            worst = max(positives, key=lambda p: distance(a, p))
            found.append((a, worst, min(negatives, key=lambda n: distance(a, n))))
        elif mining == "semi_hard":
            for p in positives:
                farther = [n for n in negatives if distance(a, n) > distance(a, p)]
                choice = min(farther, key=lambda n: distance(a, n)) if farther else None
                farthest = max(negatives, key=lambda n: distance(a, n))
                found.append((a, p, farthest if choice is None else choice))
    return found


@pytest.mark.parametrize("mining", ["semi_hard", "batch_hard", "all"])
@pytest.mark.parametrize("squares", [True, False])
@pytest.mark.parametrize("violating_only", [True, False])
def test_triplet_margin_is_a_hinge_over_the_mined_triplets(mining: str, squares: bool, violating_only: bool) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = units(embeddings)

        def distance(i: int, j: int) -> float:
            return squared(x[i], x[j]) if squares else sqrt(squared(x[i], x[j]))

        found = mined(mining, distance, labels)
        costs = [max(0.0, distance(a, p) - distance(a, n) + 0.3) for a, p, n in found]
        return mean([cost for cost in costs if cost > 0 or not violating_only])

    agrees(TripletMargin(margin=0.3, mining=mining, squared=squares, violating_only=violating_only), slow)


@pytest.mark.parametrize("mining", ["semi_hard", "batch_hard"])
def test_triplet_margin_may_be_soft_and_keep_lengths(mining: str) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x = embeddings.tolist()

        def distance(i: int, j: int) -> float:
            return sqrt(squared(x[i], x[j]))

        found = mined(mining, distance, labels)
        return mean([log1p(exp(distance(a, p) - distance(a, n))) for a, p, n in found])

    agrees(TripletMargin(margin="soft", mining=mining, squared=False, normalised=False), slow)


def slow_n_pair(anchors: list[Row], positives: list[Row], penalty: float) -> float:
    costs = []
    for i, anchor in enumerate(anchors):
        others = [j for j in range(len(positives)) if j != i]
        costs.append(log1p(sum(exp(dot(anchor, positives[j]) - dot(anchor, positives[i])) for j in others)))
    return mean(costs) + penalty * (mean([dot(a, a) for a in anchors]) + mean([dot(p, p) for p in positives]))


def first_and_second_rows(x: list[Row], labels: list[int]) -> tuple[list[Row], list[Row]]:
    rows = [[i for i, label in enumerate(labels) if label == one] for one in sorted(set(labels))]
    rows = [members for members in rows if len(members) > 1]
    return [x[members[0]] for members in rows], [x[members[1]] for members in rows]


def test_n_pair_recognises_the_positive_among_all() -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        return slow_n_pair(*first_and_second_rows(embeddings.tolist(), labels), 0.02)

    agrees(NPair(penalty=0.02), slow)


def test_symmetric_n_pair_is_the_mean_of_both_ways() -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        anchors, positives = first_and_second_rows(embeddings.tolist(), labels)
        return (slow_n_pair(anchors, positives, 0.005) + slow_n_pair(positives, anchors, 0.005)) / 2

    agrees(NPair(symmetric=True), slow)


def test_n_pair_takes_anchors_and_positives() -> None:
    anchors, positives = batch(0)[0][:5], batch(1)[0][:5]
    assert n_pair(anchors, positives).item() == pytest.approx(
        slow_n_pair(anchors.tolist(), positives.tolist(), 0.005), rel=1e-9
    )
    rows = torch.stack([anchors, positives], dim=1).flatten(0, 1)
    labels = torch.arange(5).repeat_interleave(2)
    torch.testing.assert_close(NPair()(rows, labels), n_pair(anchors, positives))


def test_two_pairs_make_the_logistic_triplet_on_inner_products() -> None:
    anchors, positives = batch(0)[0][:2], batch(1)[0][:2]
    a, p = anchors.tolist(), positives.tolist()
    expected = mean([log1p(exp(dot(a[0], p[1]) - dot(a[0], p[0]))), log1p(exp(dot(a[1], p[0]) - dot(a[1], p[1])))])
    assert n_pair(anchors, positives, penalty=0.0).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("positive", ["excluded", "included"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_proxy_nca_is_nca_with_squared_distances_to_proxies(positive: str, scale: float) -> None:
    objective = ProxyNCA(4, 5, scale=scale, positive=positive).double()

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        proxies = [[scale * v for v in p] for p in units(objective.proxies.detach())]
        costs = []
        for x, label in zip(units(embeddings), labels, strict=True):
            distances = [squared([scale * v for v in x], p) for p in proxies]
            rivals = [d for c, d in enumerate(distances) if c != label or positive == "included"]
            costs.append(-log(exp(-distances[label]) / sum(exp(-d) for d in rivals)))
        return mean(costs)

    agrees(objective, slow)


def test_only_the_excluded_form_of_proxy_nca_goes_below_zero() -> None:
    labels = torch.arange(5)
    excluded, included = ProxyNCA(8, 5), ProxyNCA(8, 5, positive="included")
    assert excluded(excluded.proxies.detach(), labels) < 0 <= included(included.proxies.detach(), labels)


@pytest.mark.parametrize("spread", ["all", "others"])
def test_smoothed_cross_entropy_meets_a_smoothed_target(spread: str) -> None:
    objective = SmoothedCrossEntropy(4, 5, smoothing=0.15, spread=spread).double()
    with torch.no_grad():
        objective.bias.copy_(torch.linspace(-1, 1, 5))

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        costs = []
        for x, label in zip(embeddings.tolist(), labels, strict=True):
            logits = [dot(x, w) + b for w, b in zip(objective.weight.tolist(), objective.bias.tolist(), strict=True)]
            share = 0.15 / 5 if spread == "all" else 0.15 / 4
            target = [share] * 5
            target[label] = 0.85 + (share if spread == "all" else 0)
            total = sum(exp(value) for value in logits)
            costs.append(-sum(t * log(exp(value) / total) for t, value in zip(target, logits, strict=True)))
        return mean(costs)

    agrees(objective, slow)


def test_normalised_softmax_is_cross_entropy_of_cosines() -> None:
    objective = NormalisedSoftmax(4, 5, temperature=0.2).double()

    def slow(embeddings: Tensor, labels: list[int]) -> float:
        weights = units(objective.weight.detach())
        scores = [[exp(dot(x, w) / 0.2) for w in weights] for x in units(embeddings)]
        return mean([-log(row[label] / sum(row)) for row, label in zip(scores, labels, strict=True)])

    agrees(objective, slow)


@pytest.mark.parametrize("epsilon", [0.1, None])
def test_multi_similarity_weighs_mined_pairs(epsilon: float | None) -> None:
    def slow(embeddings: Tensor, labels: list[int]) -> float:
        x, items, costs = units(embeddings), range(len(labels)), []
        for a in items:
            positives = [dot(x[a], x[j]) for j in items if labels[j] == labels[a] and j != a]
            negatives = [dot(x[a], x[j]) for j in items if labels[j] != labels[a]]
            if epsilon is not None and not positives:
                negatives = []
            elif epsilon is not None:
                lowest, highest = min(positives), max(negatives)
                positives = [s for s in positives if s - epsilon < highest]
                negatives = [s for s in negatives if s + epsilon > lowest]
            pull = log1p(sum(exp(-2 * (s - 0.5)) for s in positives)) / 2
            costs.append(pull + log1p(sum(exp(3 * (s - 0.5)) for s in negatives)) / 3)
        return mean(costs)

    # a gentle beta, so that every negative counts
    agrees(MultiSimilarity(beta=3.0, epsilon=epsilon), slow)

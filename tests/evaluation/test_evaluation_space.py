"""Measures of an embedding space against slow loops, by hand, and under rotation, scaling and re-ordering."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import (
    alignment,
    class_distances,
    effective_rank,
    hubness,
    space_scores,
    spectral_decay,
    uniformity,
)
from conformance import without_shape_checks


def space(seed, n=24, dim=5, classes=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64), torch.randint(
        classes, (n,), generator=generator
    )


def unit(rows):
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def by_loops(embeddings, labels, k):
    rows, labels = unit(embeddings), labels.tolist()
    n = len(rows)
    counts = [0] * n
    for i in range(n):
        for j in sorted((j for j in range(n) if j != i), key=lambda j: distance(rows[i], rows[j]))[:k]:
            counts[j] += 1
    deviation = math.sqrt(mean((c - k) ** 2 for c in counts))
    pairs = list(itertools.combinations(range(n), 2))
    positives = [(i, j) for i, j in pairs if labels[i] == labels[j]]
    members = {label: [row for row, own in zip(rows, labels, strict=True) if own == label] for label in set(labels)}
    pairs_of = [list(itertools.combinations(group, 2)) for group in members.values()]
    within = [mean(distance(a, b) for a, b in group) for group in pairs_of if group]
    centres = [[mean(axis) for axis in zip(*group, strict=True)] for group in members.values()]
    inter = mean(distance(a, b) for a, b in itertools.combinations(centres, 2))
    values = torch.linalg.svdvals(torch.tensor(rows, dtype=torch.float64)).tolist()
    shares = [value / sum(values) for value in values]
    return {
        "hubness_skewness": mean((c - k) ** 3 for c in counts) / deviation**3 if deviation else 0,
        "antihubs": mean(c == 0 for c in counts),
        "uniformity": math.log(mean(math.exp(-2 * distance(rows[i], rows[j]) ** 2) for i, j in pairs)),
        "alignment": mean(distance(rows[i], rows[j]) ** 2 for i, j in positives),
        "spectral_decay": mean(math.log((1 / len(shares)) / share) for share in shares),
        "effective_rank": math.exp(-sum(share * math.log(share) for share in shares)),
        "intra_distance": mean(within),
        "inter_distance": inter,
        "distance_ratio": mean(within) / inter,
    }


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from([(24, 5), (12, 16)]), st.sampled_from([1, 2**20]))
def test_measures_agree_with_slow_loops(seed, size, budget_bytes):
    embeddings, labels = space(seed, *size)
    found = space_scores(embeddings, labels, k=3, budget_bytes=budget_bytes)
    expected = by_loops(embeddings, labels, 3)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_single_measures_are_those_of_the_summary():
    embeddings, labels = space(0)
    found = space_scores(embeddings, labels, k=4)
    hubs, distances = hubness(embeddings, k=4), class_distances(embeddings, labels)
    assert (hubs.skewness, hubs.antihubs) == (found["hubness_skewness"], found["antihubs"])
    assert uniformity(embeddings) == found["uniformity"]
    assert alignment(embeddings, labels) == found["alignment"]
    assert spectral_decay(embeddings) == found["spectral_decay"]
    assert effective_rank(embeddings) == found["effective_rank"]
    assert (distances.intra, distances.inter, distances.ratio) == (
        found["intra_distance"],
        found["inter_distance"],
        found["distance_ratio"],
    )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_rotation_scale_and_order_change_nothing(seed):
    embeddings, labels = space(seed)
    generator = torch.Generator().manual_seed(seed)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    order = torch.randperm(24, generator=generator)
    lengths = 10 ** (6 * torch.rand(24, 1, generator=generator, dtype=torch.float64) - 3)
    expected = space_scores(embeddings, labels, k=3)
    found = space_scores((lengths * embeddings @ rotation)[order], 7 - labels[order], k=3)
    assert found == pytest.approx(expected, abs=1e-9)


def test_measures_worked_by_hand():
    # four unit vectors along two axes, both ways
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    # of six pairs, two are opposite (‖x − y‖² = 4) and four at right angles (2)
    assert uniformity(cross) == pytest.approx(math.log((2 * math.exp(-8) + 4 * math.exp(-4)) / 6), abs=1e-6)
    assert alignment(cross, labels) == pytest.approx(4, abs=1e-6)
    assert alignment(cross, labels, alpha=1.0) == pytest.approx(2, abs=1e-6)
    # both singular values are √2
    assert spectral_decay(cross) == pytest.approx(0, abs=1e-12)
    assert effective_rank(cross) == pytest.approx(2, abs=1e-12)
    # both centres are the origin
    distances = class_distances(cross, labels)
    assert distances.inter == 0
    assert distances.ratio == math.inf
    assert "distance_ratio" not in space_scores(cross, labels, k=1)
    # classes {(1, 0), (0, 1)} and their opposites: √2 within, centres √2 apart
    distances = class_distances(cross, torch.tensor([0, 1, 0, 1]))
    assert (distances.intra, distances.inter) == pytest.approx((2**0.5, 2**0.5), abs=1e-6)
    # singular values 2 and 1: shares 2/3 and 1/3
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert spectral_decay(rows) == pytest.approx(-math.log(2) - (math.log(2 / 3) + math.log(1 / 3)) / 2, abs=1e-12)
    assert effective_rank(rows) == pytest.approx(math.exp(math.log(3) - 2 / 3 * math.log(2)), abs=1e-12)
    assert spectral_decay(rows, skip=1) == 0


def test_a_hub_worked_by_hand():
    # three spokes are nearest to the hub, and the hub to the first of them: N = 3, 1, 0, 0
    hub = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.3, 0.3], [1.0, -0.9, 0.2], [1.0, 0.2, -0.9]])
    found = hubness(hub, k=1)
    assert found.antihubs == 0.5
    assert found.skewness == pytest.approx(((2**3) + 0 - 1 - 1) / 4 / ((4 + 0 + 1 + 1) / 4) ** 1.5, abs=1e-12)


def test_items_that_are_found_equally_often_have_no_skewness():
    assert hubness(torch.eye(4), k=3) == (0.0, 0.0)


def test_collapsed_embeddings_have_finite_measures():
    found = space_scores(torch.ones(20, 4), torch.arange(20) % 2)
    assert all(math.isfinite(value) for value in found.values())
    assert found["uniformity"] == pytest.approx(0, abs=1e-5)
    assert found["effective_rank"] == pytest.approx(1, abs=1e-5)
    assert found["spectral_decay"] > 10
    assert found["alignment"] == pytest.approx(0, abs=1e-6)


def test_measures_of_pairs_and_classes_are_left_out_where_there_are_none():
    embeddings, _ = space(1)
    every_one_alone = space_scores(embeddings, torch.arange(24))
    assert set(every_one_alone) == {"hubness_skewness", "antihubs", "uniformity", "spectral_decay", "effective_rank"}
    one_class = space_scores(embeddings, torch.zeros(24, dtype=torch.int64))
    assert set(one_class) == {*every_one_alone, "alignment"}


def test_half_precision_is_widened():
    embeddings, labels = space(2)
    halves = embeddings.half()
    assert space_scores(halves, labels) == space_scores(halves.float(), labels)


def test_refuses_what_has_no_measure():
    embeddings, labels = space(3)
    with pytest.raises(BatchError, match="24 neighbours need at least 25 items, but there are 24"):
        hubness(embeddings, k=24)
    with pytest.raises(BatchError, match="10 neighbours need at least 11 items, but there are 4"):
        space_scores(embeddings[:4], labels[:4])
    with pytest.raises(BatchError, match="at least one item"):
        effective_rank(embeddings[:0])
    with pytest.raises(BatchError, match="5 of 5 singular values"):
        spectral_decay(embeddings, skip=5)
    with pytest.raises(BatchError, match="no class has two items"):
        alignment(embeddings, torch.arange(24))
    with pytest.raises(BatchError, match="at least two classes"):
        class_distances(embeddings, torch.zeros(24, dtype=torch.int64))
    with pytest.raises(UsageError, match="t must be more than 0 and at most 20"):
        uniformity(embeddings, t=21.0)
    with pytest.raises(UsageError, match="k must be a whole number"):
        hubness(embeddings, k=0)
    with without_shape_checks(), pytest.raises(BatchError, match="one entry per embedding"):
        space_scores(embeddings, labels[:5])
    embeddings[3, 2] = torch.inf
    with pytest.raises(NumericError, match=r"3 \(id 3\)"):
        uniformity(embeddings)

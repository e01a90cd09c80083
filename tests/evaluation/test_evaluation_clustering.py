"""k-means against its own definition and scikit-learn, and mutual information against scikit-learn and by hand."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

from accord.errors import BatchError, UsageError
from accord.evaluation import _partitions as partitions
from accord.evaluation import (
    adjusted_mutual_information,
    adjusted_rand_index,
    cluster_runs,
    cluster_scores,
    kmeans,
    nmi,
    normalised_mutual_information,
    pairwise_f1,
    purity,
)
from accord.evaluation._exchange import exchange
from accord.evaluation._seeding import seed_centres
from conformance import without_shape_checks

MEASURES_OF_PARTITIONS = [
    normalised_mutual_information,
    adjusted_mutual_information,
    adjusted_rand_index,
    pairwise_f1,
    purity,
]


def blobs(seed, n, clusters, dim, noise=0.4):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % clusters
    centres = torch.randn(clusters, dim, generator=generator)
    points = centres[labels] + noise * torch.randn(n, dim, generator=generator)
    return torch.nn.functional.normalize(points), labels


def inertia(points, groups):
    points = points.double()
    means = torch.stack([points[groups == group].mean(dim=0) for group in groups])
    return float((points - means).square().sum())


MEASURES = {
    normalised_mutual_information: normalized_mutual_info_score,
    adjusted_mutual_information: adjusted_mutual_info_score,
    adjusted_rand_index: adjusted_rand_score,
}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 50), st.integers(1, 8), st.integers(1, 8))
def test_measures_agree_with_scikit_learn(seed, n, classes, groups):
    one, two = two_partitions(seed, n, classes, groups)
    for measure, peer in MEASURES.items():
        assert measure(one, two) == pytest.approx(peer(one.numpy(), two.numpy()), abs=1e-12), peer.__name__


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 6), st.integers(1, 6))
def test_measures_agree_with_slow_loops(seed, n, classes, groups):
    one, two = two_partitions(seed, n, classes, groups)
    loops = by_loops(one.tolist(), two.tolist())
    assert adjusted_rand_index(one, two) == pytest.approx(loops["ari"], abs=1e-12)
    assert pairwise_f1(one, two) == pytest.approx(loops["f1"], abs=1e-12)
    assert purity(one, two) == pytest.approx(loops["purity"], abs=1e-12)
    assert normalised_mutual_information(one, two) == pytest.approx(loops["nmi"], abs=1e-12)
    assert adjusted_mutual_information(one, two) == pytest.approx(loops["ami"], abs=1e-11)


def two_partitions(seed, n, classes, groups):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(classes, (n,), generator=generator) - 3, torch.randint(groups, (n,), generator=generator) * 7


def by_loops(one, two):
    n = len(one)
    pairs = [(one[i] == one[j], two[i] == two[j]) for i in range(n) for j in range(i)]
    both, in_one, in_two = sum(a and b for a, b in pairs), sum(a for a, _ in pairs), sum(b for _, b in pairs)
    a, b, cells = Counter(one), Counter(two), Counter(zip(one, two, strict=True))
    mutual = sum(m / n * math.log(n * m / (a[i] * b[j])) for (i, j), m in cells.items())
    # the mean over all deals, with exact binomial coefficients
    expected = sum(
        m / n * math.log(n * m / (x * y)) * (math.comb(x, m) * math.comb(n - x, y - m) / math.comb(n, y))
        for x in a.values()
        for y in b.values()
        for m in range(max(1, x + y - n), min(x, y) + 1)
    )
    mean = sum(-m / n * math.log(m / n) for sizes in (a, b) for m in sizes.values()) / 2
    same = len(a) == len(b) == len(cells)
    chance = in_one * in_two / len(pairs) if pairs else 0
    return {
        "nmi": 1 if same else mutual / mean,
        "ami": 1 if same else (mutual - expected) / (mean - expected),
        "ari": 1 if same else (both - chance) / ((in_one + in_two) / 2 - chance),
        "f1": 2 * both / (in_one + in_two) if in_one + in_two else 1,
        "purity": sum(max(m for (i, k), m in cells.items() if k == j) for j in b) / n,
    }


def test_measures_worked_by_hand():
    # pairs in one class: 01, 23; in one group: 01, 02, 12; in both: 01; all pairs: 6
    classes, groups = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    assert pairwise_f1(classes, groups) == 2 * 1 / (2 + 3)
    assert adjusted_rand_index(classes, groups) == (1 - 2 * 3 / 6) / ((2 + 3) / 2 - 2 * 3 / 6)
    assert purity(classes, groups) == (2 + 1) / 4
    # H(C) = log 2; groups {0, 1, 2}, {3}: H(G) = log 4 - 3/4 log 3; I = H(C) + H(G) - H(C, G)
    both = math.log(4) - 3 / 4 * math.log(3)
    joint = 1 / 2 * math.log(2) + 1 / 2 * math.log(4)
    expected = 2 * (math.log(2) + both - joint) / (math.log(2) + both)
    assert normalised_mutual_information(classes, groups) == pytest.approx(expected, abs=1e-15)
    assert normalised_mutual_information(classes, torch.zeros(4, dtype=torch.int64)) == 0
    # whichever item stands alone, the information is the same: it is what chance gives
    assert adjusted_mutual_information(classes, groups) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("measure", MEASURES_OF_PARTITIONS)
@pytest.mark.parametrize("classes", [[0, 0, 0], [0, 1, 2], [4], [0, 0, 1, 1]])
def test_the_same_partition_scores_one_under_any_names(measure, classes):
    classes = torch.tensor(classes)
    assert measure(classes, 9 - classes) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("measure", MEASURES_OF_PARTITIONS)
def test_refuses_partitions_of_different_items(measure):
    with pytest.raises(BatchError, match="a class and a group for each item"):
        measure(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64))
    with without_shape_checks(), pytest.raises(BatchError, match=r"classes: \(3,\) int64"):
        measure(torch.tensor([0, 1, 2]), torch.tensor([0, 1]))


def test_adjusted_measures_take_random_groups_of_many_classes_for_nothing():
    # 11,316 classes and as many groups: a table of classes × groups would take a gigabyte
    generator = torch.Generator().manual_seed(0)
    classes, groups = (torch.randint(11_316, (60_502,), generator=generator) for _ in range(2))
    assert normalised_mutual_information(classes, groups) > 0.8
    assert abs(adjusted_mutual_information(classes, groups)) < 0.01
    assert abs(adjusted_rand_index(classes, groups)) < 0.001
    assert pairwise_f1(classes, groups) < 0.001


def test_adjusted_information_cuts_long_sums_into_blocks(monkeypatch):
    monkeypatch.setattr(
        partitions, "row_blocks", lambda rows, columns, itemsize: (slice(i, i + 1) for i in range(rows))
    )
    one, two = two_partitions(0, 40, 5, 6)
    expected = adjusted_mutual_info_score(one.numpy(), two.numpy())
    assert adjusted_mutual_information(one, two) == pytest.approx(expected, abs=1e-12)


def test_ends_where_every_point_is_with_the_nearest_mean():
    points, _ = blobs(0, 300, 12, 8)
    groups = kmeans(points, 12, generator=torch.Generator().manual_seed(0))
    means = torch.stack([points[groups == group].mean(dim=0) for group in range(12)])
    own = (points - means[groups]).norm(dim=1)
    assert bool((own <= torch.cdist(points, means).amin(dim=1) + 1e-5).all())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_looking_only_at_moved_centres_changes_nothing(seed):
    # doubles: no product rounds a tie either way
    points = blobs(seed, 200, 10, 6, noise=1.0)[0].double()
    for iterations in (1, 2, 5, 100):
        generator = torch.Generator().manual_seed(seed)
        found = kmeans(points, 10, generator=generator, iterations=iterations, exchanges=0)
        groups = kmeans_by_loops(points, 10, seed, iterations)
        assert torch.equal(found, groups)


def kmeans_by_loops(points, clusters, seed, iterations):
    centres = points[seed_centres(points, clusters, generator=torch.Generator().manual_seed(seed))[0]]
    groups = torch.cdist(points, centres).argmin(dim=1)
    for _ in range(iterations):
        for group in range(clusters):
            if bool((groups == group).any()):
                centres[group] = points[groups == group].mean(dim=0)
        groups = torch.cdist(points, centres).argmin(dim=1)
    return groups


def test_seeding_puts_every_point_with_its_nearest_seed():
    points = blobs(1, 300, 10, 6)[0].double()
    seeds, assignment = seed_centres(points, 40, generator=torch.Generator().manual_seed(0))
    distances = torch.cdist(points, points[seeds])
    assert len(seeds.unique()) == 40
    assert torch.equal(assignment.groups, distances.argmin(dim=1))
    half = points.square().sum(dim=1) / 2
    nearest, second = distances.sort(dim=1).values[:, :2].unbind(dim=1)
    assert torch.allclose(half - assignment.own, nearest.square() / 2, atol=1e-12)
    assert bool((half - assignment.rival <= second.square() / 2 + 1e-12).all())


def test_batches_of_seeds_follow_the_distribution_of_single_draws():
    # five places on a line, four seeds: the last two are proposed in one batch
    points = torch.tensor([[0.0], [1.0], [3.0], [3.5], [7.0]])
    counts, expected = Counter(), Counter()
    for first in range(5):
        for second in range(5):
            for third in range(5):
                for fourth in range(5):
                    order = (first, second, third, fourth)
                    expected[tuple(sorted(order))] += chance_of_seeds(points[:, 0].tolist(), order)
    runs = 400
    generator = torch.Generator().manual_seed(0)
    with without_shape_checks():
        for _ in range(runs):
            counts[tuple(sorted(seed_centres(points, 4, generator=generator)[0].tolist()))] += 1
    for seeds, chance in expected.items():
        assert abs(counts[seeds] / runs - chance) <= 4.5 * math.sqrt(chance * (1 - chance) / runs) + 1e-12


def chance_of_seeds(places, order):
    chance = 1 / len(places)
    for step in range(1, len(order)):
        squares = [min((place - places[seed]) ** 2 for seed in order[:step]) for place in places]
        chance *= squares[order[step]] / sum(squares)
    return chance


def test_exchanges_mend_a_start_that_k_means_cannot_leave():
    # two far groups share the first centre, one near group is cut in two: Lloyd's step is stuck there
    points = torch.tensor([[0.0], [0.1], [10.0], [10.1], [20.0], [20.1]])
    groups = torch.tensor([0, 1, 2, 2, 2, 2])
    assert exchange(points, groups, 3) == 1
    assert len({tuple(pair) for pair in groups.reshape(3, 2).tolist()}) == 3
    assert all(pair[0] == pair[1] for pair in groups.reshape(3, 2).tolist())
    assert exchange(points, groups, 3) == 0


def test_exchanges_lower_the_sum_of_squares_of_many_small_clusters():
    points, _ = blobs(2, 600, 150, 16, noise=0.3)
    before, after = (
        sum(
            inertia(points, kmeans(points, 150, generator=torch.Generator().manual_seed(s), exchanges=e))
            for s in range(3)
        )
        for e in (0, 5)
    )
    assert after < 0.97 * before


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_an_exchange_never_raises_the_sum_of_squares(seed, clusters):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    groups = torch.randint(clusters, (60,), generator=generator)
    before, pairs = inertia(points, groups), exchange(points, groups, clusters)
    after = inertia(points, groups)
    assert after < before if pairs else after == before
    assert 0 <= int(groups.min()) <= int(groups.max()) < clusters


def test_is_as_good_as_scikit_learn():
    points, _ = blobs(3, 600, 30, 16, noise=0.8)
    ours = [inertia(points, kmeans(points, 30, generator=torch.Generator().manual_seed(s))) for s in range(5)]
    peer = [KMeans(30, n_init=1, random_state=s, tol=0).fit(points.numpy()).inertia_ for s in range(5)]
    assert sum(ours) <= 1.01 * sum(peer)


def test_the_generator_decides():
    points, _ = blobs(4, 200, 20, 8, noise=1.0)
    first, again, other = (kmeans(points, 20, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_clusters_than_different_points_leave_some_empty():
    points = torch.eye(2).repeat(5, 1)
    groups = kmeans(points, 4, generator=torch.Generator().manual_seed(0))
    assert len(groups.unique()) == 2
    assert normalised_mutual_information(torch.arange(10) % 2, groups.unique(return_inverse=True)[1]) == 1


def test_as_many_clusters_as_points_give_each_its_own():
    points, _ = blobs(5, 12, 12, 6)
    assert len(kmeans(points, 12, generator=torch.Generator().manual_seed(0)).unique()) == 12


def test_seeds_are_spread_by_squared_distance():
    # three points at 0 and one at 1, two clusters: both places become seeds, whichever is drawn first
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    for seed in range(20):
        groups = kmeans(points, 2, generator=torch.Generator().manual_seed(seed))
        assert int(groups[0]) == int(groups[1]) == int(groups[2]) != int(groups[3])


def test_averages_over_its_seeds():
    points, labels = blobs(6, 100, 10, 4, noise=1.0)
    runs = [nmi(points, labels, clusters=10, seeds=1, seed=seed) for seed in range(4)]
    assert nmi(points, labels, clusters=10, seeds=4, seed=0) == pytest.approx(sum(runs) / 4, abs=1e-15)
    assert len(set(runs)) > 1


def test_scores_are_means_of_runs_and_high_where_classes_are_far_apart():
    points, labels = blobs(7, 120, 6, 8, noise=0.2)
    runs = cluster_runs(points, labels, clusters=6, seeds=3, seed=1)
    scores = cluster_scores(points, labels, clusters=6, seeds=3, seed=1)
    assert list(scores) == ["nmi", "ami", "ari", "f1", "purity"]
    assert all(len(values) == 3 and scores[name] == float(values.mean()) for name, values in runs.items())
    assert all(score > 0.9 for score in scores.values())


def test_half_precision_points_are_grouped_as_single_precision_ones():
    points, _ = blobs(8, 100, 5, 8)
    halves = points.half()
    groups = [kmeans(x, 5, generator=torch.Generator().manual_seed(0)) for x in (halves, halves.float())]
    assert torch.equal(*groups)


def test_refuses_scores_without_a_class_per_point():
    with without_shape_checks(), pytest.raises(BatchError, match="one class per point"):
        cluster_scores(torch.eye(3), torch.tensor([0, 1]), clusters=2, seeds=1, seed=0)
    with pytest.raises(UsageError, match="seeds"):
        cluster_scores(torch.eye(3), torch.tensor([0, 1, 1]), clusters=2, seeds=0, seed=0)


def test_refuses_more_clusters_than_points():
    generator = torch.Generator()
    with pytest.raises(BatchError, match="at least as many points"):
        kmeans(torch.eye(3), 4, generator=generator)
    with pytest.raises(UsageError, match="clusters"):
        kmeans(torch.eye(3), 0, generator=generator)

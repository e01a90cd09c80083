"""k-means against its own definition and scikit-learn, and mutual information against scikit-learn and by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from accord.errors import BatchError, UsageError
from accord.evaluation import kmeans, nmi, normalised_mutual_information


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


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 50), st.integers(1, 8), st.integers(1, 8))
def test_mutual_information_agrees_with_scikit_learn(seed, n, classes, groups):
    generator = torch.Generator().manual_seed(seed)
    one = torch.randint(classes, (n,), generator=generator)
    two = torch.randint(groups, (n,), generator=generator)
    expected = normalized_mutual_info_score(one.numpy(), two.numpy())
    assert normalised_mutual_information(one, two) == pytest.approx(expected, abs=1e-12)


def test_mutual_information_worked_by_hand():
    # H(C) = log 2; groups {0, 1, 2}, {3}: H(G) = log 4 - 3/4 log 3; I = H(C) + H(G) - H(C, G)
    classes, groups = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    both = math.log(4) - 3 / 4 * math.log(3)
    joint = 1 / 2 * math.log(2) + 1 / 2 * math.log(4)
    expected = 2 * (math.log(2) + both - joint) / (math.log(2) + both)
    assert normalised_mutual_information(classes, groups) == pytest.approx(expected, abs=1e-15)
    assert normalised_mutual_information(classes, 1 - classes) == pytest.approx(1, abs=1e-15)
    assert normalised_mutual_information(classes, torch.zeros(4, dtype=torch.int64)) == 0


def test_ends_where_every_point_is_with_the_nearest_mean():
    points, _ = blobs(0, 300, 12, 8)
    groups = kmeans(points, 12, generator=torch.Generator().manual_seed(0))
    means = torch.stack([points[groups == group].mean(dim=0) for group in range(12)])
    own = (points - means[groups]).norm(dim=1)
    assert bool((own <= torch.cdist(points, means).amin(dim=1) + 1e-5).all())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_looking_only_at_moved_centres_changes_nothing(seed):
    # doubles: no product rounds a tie either way
    points = blobs(seed, 200, 10, 6)[0].double()
    for iterations in (1, 2, 5, 100):
        found = kmeans(points, 10, generator=torch.Generator().manual_seed(seed), iterations=iterations)
        groups = kmeans_by_loops(points, 10, seed, iterations)
        assert torch.equal(found, groups)


def kmeans_by_loops(points, clusters, seed, iterations):
    from accord.evaluation._kmeans import _seeds

    centres = points[_seeds(points, clusters, torch.Generator().manual_seed(seed))]
    groups = torch.cdist(points, centres).argmin(dim=1)
    for _ in range(iterations):
        for group in range(clusters):
            if bool((groups == group).any()):
                centres[group] = points[groups == group].mean(dim=0)
        groups = torch.cdist(points, centres).argmin(dim=1)
    return groups


def test_is_as_good_as_scikit_learn():
    points, _ = blobs(3, 600, 30, 16, noise=0.8)
    ours = [inertia(points, kmeans(points, 30, generator=torch.Generator().manual_seed(s))) for s in range(20)]
    peer = [KMeans(30, n_init=1, random_state=s, tol=0).fit(points.numpy()).inertia_ for s in range(20)]
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


def test_refuses_more_clusters_than_points():
    generator = torch.Generator()
    with pytest.raises(BatchError, match="at least as many points"):
        kmeans(torch.eye(3), 4, generator=generator)
    with pytest.raises(UsageError, match="clusters"):
        kmeans(torch.eye(3), 0, generator=generator)

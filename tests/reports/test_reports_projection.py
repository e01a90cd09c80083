"""The map keeps close what is close, and is the same every time."""

import pytest
import torch

from accord.reports import project_2d
from accord.reports._projection import TSNE_POINTS


def clusters(classes: int, size: int, dim: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator).repeat_interleave(size, 0)
    return centres + 0.3 * torch.randn(classes * size, dim, generator=generator)


def test_keeps_clusters_together():
    places = project_2d(clusters(5, 12, 40))
    points = torch.tensor([places.x, places.y]).T
    distances = torch.cdist(points, points).fill_diagonal_(9)
    labels = torch.arange(5).repeat_interleave(12)
    assert places.method == "t-SNE"
    assert (labels[distances.argmin(1)] == labels).float().mean() > 0.95
    assert points.abs().max() == pytest.approx(1)


def test_the_same_seed_gives_the_same_picture():
    x = clusters(4, 5, 20)
    assert project_2d(x, seed=3) == project_2d(x.clone(), seed=3)


@pytest.mark.parametrize(("items", "dim"), [(1, 4), (2, 4), (9, 3), (5, 1), (TSNE_POINTS + 1, 4)])
def test_falls_back_to_pca_for_few_and_for_many(items, dim):
    places = project_2d(torch.randn(items, dim, generator=torch.Generator().manual_seed(0)))
    assert places.method == "PCA"
    assert len(places.x) == len(places.y) == items
    assert all(-1 <= value <= 1 for value in places.x + places.y)


def test_puts_identical_items_in_one_place():
    places = project_2d(torch.ones(20, 6))
    assert set(places.x) == set(places.y) == {0.0}


def test_ignores_lengths_and_minds_directions():
    x = clusters(3, 8, 10)
    assert project_2d(x) == project_2d(x * 4)


def test_takes_principal_components_where_nobody_wants_to_wait():
    assert project_2d(clusters(5, 12, 40), tsne=False).method == "PCA"

"""Closed-set identification and clusters run by run: by a slow loop, and what `evaluate` averages."""

import math

import pytest
import torch

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import class_clusters, closed_set_draws, closed_set_split, evaluate
from accord.types import Labelled
from n_pair_by_hand import closed, cosines, mean


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def items_of(labels, seed=0, dim=5):
    return Labelled(
        torch.randn(len(labels), dim, generator=generator(seed)), torch.tensor(labels), torch.arange(len(labels))
    )


def test_a_split_is_complete_and_knows_every_class():
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2 + [3])
    for images in (1, 2):
        split = closed_set_split(labels, gallery_images=images, generator=generator(images))
        assert torch.equal(torch.cat(split).sort().values, torch.arange(11))
        sizes = labels[split.gallery].bincount().tolist()
        assert sizes == [min(images, size) for size in (5, 3, 2, 1)]
        assert set(labels[split.probes].tolist()) <= set(labels[split.gallery].tolist())
    draws = {tuple(closed_set_split(labels, generator=generator(seed)).gallery.tolist()) for seed in range(400)}
    assert len(draws) == 5 * 3 * 2


def test_draws_are_what_a_loop_gives():
    labels = [0, 1, 2, 3, 4, 5, 6] * 4 + [7]
    items = items_of(labels)
    found = closed_set_draws(items, draws=6, ranks=(1, 3), generator=generator(3))
    each = closed(cosines(items.embeddings), labels, draws=6, seed=3)
    assert [one["rank-1"] for one in found.each] == pytest.approx(each)
    assert found.means["rank-1"] == pytest.approx(mean(each))
    assert found.means["rank-3"] > found.means["rank-1"]
    assert found.deviations["rank-1"] == pytest.approx(torch.tensor(each).std().item(), abs=1e-6)
    assert math.isnan(closed_set_draws(items, draws=1, generator=generator()).deviations["rank-1"])


def test_a_gallery_that_leaves_nobody_to_ask_is_refused():
    with pytest.raises(BatchError, match="no class has more than 2 items"):
        closed_set_split(torch.tensor([0, 0, 1]), gallery_images=2, generator=generator())
    with pytest.raises(UsageError, match="draws"):
        closed_set_draws(items_of([0, 0]), draws=0, generator=generator())


@pytest.mark.parametrize("length", [1.0, 7.0])
def test_clusters_run_by_run_have_the_means_that_evaluate_gives(length):
    items = items_of([0, 1, 2, 3] * 9)
    items = items._replace(embeddings=length * torch.nn.functional.normalize(items.embeddings))
    runs = class_clusters(items, seeds=4, seed=5)
    told = evaluate(items, nmi_seeds=4, seed=5).overall
    assert {name: float(values.mean()) for name, values in runs.items()} == told
    assert all(len(values) == 4 for values in runs.values())
    with pytest.raises(NumericError, match="class_clusters"):
        class_clusters(items._replace(embeddings=torch.zeros(36, 5)))

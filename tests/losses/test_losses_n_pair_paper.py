"""Statements of the N-pair paper, and of those who implement it, that no formula's test states: one promise each."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as peers
from torch import Tensor

from accord.data import PKBatches
from accord.losses import NPair, n_pair, n_pair_ovo, tuplet

Loss = Callable[..., Tensor]


def rows(count: int, seed: int, dim: int = 6) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_with_a_vector_for_each_class_it_is_the_softmax_loss() -> None:
    anchors, class_vectors = rows(9, 0), rows(9, 1)
    expected = F.cross_entropy(anchors @ class_vectors.T, torch.arange(9))
    torch.testing.assert_close(n_pair(anchors, class_vectors, penalty=0.0), expected)


@pytest.mark.parametrize(
    ("loss", "cost"),
    [
        (n_pair, lambda gaps: torch.log1p(gaps.exp().sum())),
        (n_pair_ovo, lambda gaps: F.softplus(gaps).sum()),
    ],
    ids=["mc", "ovo"],
)
def test_anchors_of_other_pairs_are_no_negatives(loss: Loss, cost: Callable[[Tensor], Tensor]) -> None:
    anchors, positives = rows(5, 0), rows(5, 1)
    moved = anchors.clone()
    moved[3] = rows(1, 2)[0]
    # an anchor that moves changes its own cost, and that of nobody else
    own = [cost((side[3] @ (positives - positives[3]).T)[torch.tensor([0, 1, 2, 4])]) for side in (anchors, moved)]
    change = loss(moved, positives, penalty=0.0) - loss(anchors, positives, penalty=0.0)
    torch.testing.assert_close(change, (own[1] - own[0]) / 5)
    assert abs(change.item()) > 1e-3


def test_a_batch_of_pairs_embeds_two_images_of_each_class_and_uses_all_of_them() -> None:
    plan = PKBatches(torch.arange(200) % 40, classes_per_batch=30, per_class=2, seed=0)
    labels = plan.rows(0) % 40
    assert torch.unique(labels, return_counts=True)[1].tolist() == [2] * 30
    embeddings = rows(60, 0).requires_grad_()
    (gradient,) = torch.autograd.grad(NPair(penalty=0.0)(embeddings, labels), embeddings)
    assert bool((gradient.abs().sum(dim=1) > 0).all())


def test_further_images_of_a_class_teach_the_tuplet_loss_only() -> None:
    embeddings, labels = rows(12, 0).requires_grad_(), torch.arange(12) % 3
    (by_pairs,) = torch.autograd.grad(NPair(penalty=0.0)(embeddings, labels), embeddings)
    (by_tuplets,) = torch.autograd.grad(tuplet(embeddings, labels, penalty=0.0), embeddings)
    assert (by_pairs.abs().sum(dim=1) > 0).tolist() == [True] * 6 + [False] * 6
    assert bool((by_tuplets.abs().sum(dim=1) > 0).all())


@pytest.mark.parametrize(("weight", "penalty"), [(0.02, 0.005), (0.002, 0.0005)])
def test_the_penalty_in_the_terms_of_the_quarter_convention(weight: float, penalty: float) -> None:
    anchors, positives = rows(7, 0), rows(7, 1)
    quarter = 0.25 * weight * (anchors.square().sum(dim=1).mean() + positives.square().sum(dim=1).mean())
    bare = n_pair(anchors, positives, penalty=0.0)
    torch.testing.assert_close(n_pair(anchors, positives, penalty=penalty), bare + quarter)
    if weight == 0.02:
        torch.testing.assert_close(n_pair(anchors, positives), bare + quarter)


def test_on_the_unit_sphere_it_cannot_fall_below_its_floor_and_with_lengths_it_can() -> None:
    # of 60 unit vectors none can be farther from all others than the corners of a simplex: cosine -1/59
    corners = F.normalize(torch.eye(60, dtype=torch.float64) - 1 / 60)
    best = math.log1p(59 * math.exp(-1 / 59 - 1))
    assert n_pair(corners, corners, penalty=0.0).item() == pytest.approx(best)
    assert math.log1p(59 * math.exp(-2)) < best < math.log(60)
    assert math.log1p(59 * math.exp(-2)) == pytest.approx(2.20, abs=0.005)
    assert math.log(60) == pytest.approx(4.09, abs=0.005)
    assert n_pair(5 * corners, 5 * corners, penalty=0.0).item() < 1e-8
    labels = torch.arange(60).repeat(2)
    both = torch.cat([corners, corners])
    assert peers.NPairsLoss()(5 * both, labels).item() == pytest.approx(best), "the peer normalises unless told not to"


@pytest.mark.parametrize("loss", [n_pair, n_pair_ovo])
def test_products_beyond_the_range_of_exp_stay_finite(loss: Loss) -> None:
    anchors = (1e3 * rows(6, 0).float()).requires_grad_()
    value = loss(anchors, 1e3 * rows(6, 1).float(), penalty=0.0)
    (gradient,) = torch.autograd.grad(value, anchors)
    assert bool(value.isfinite())
    assert value.item() > 1e4
    assert bool(gradient.isfinite().all())

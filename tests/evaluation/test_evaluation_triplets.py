"""Triplet accuracy: worked by hand, with ties, and against the slow loop."""

import pytest
import torch

from accord.errors import BatchError
from accord.evaluation import triplet_accuracy
from accord.types import Labelled, Triplets


def _labelled(embeddings: torch.Tensor, first: int = 0) -> Labelled:
    return Labelled(embeddings, torch.zeros(len(embeddings), dtype=torch.int64), torch.arange(len(embeddings)) + first)


def _triplets(*rows: tuple[int, int, int]) -> Triplets:
    return Triplets(*torch.tensor(rows).T)


def test_a_case_worked_by_hand() -> None:
    labelled = _labelled(torch.tensor([[1.0, 0], [2.0, 0], [0, 1.0], [0, 3.0]]), first=10)
    # right, wrong, and a tie
    assert triplet_accuracy(labelled, _triplets((10, 11, 12), (10, 12, 11), (10, 12, 13))) == 0.5
    assert triplet_accuracy(labelled, _triplets((10, 11, 12), (12, 13, 11), (10, 12, 13))) == pytest.approx(2.5 / 3)


def test_is_the_share_of_triplets_whose_distances_are_in_order() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    triplets = [tuple(torch.randperm(20, generator=generator)[:3].tolist()) for _ in range(200)]
    unit = torch.nn.functional.normalize(x, dim=1)
    right = [float((unit[a] - unit[p]).norm() < (unit[a] - unit[n]).norm()) for a, p, n in triplets]
    assert triplet_accuracy(_labelled(x), _triplets(*triplets)) == pytest.approx(sum(right) / 200)


def test_a_constant_embedding_is_right_half_of_the_time() -> None:
    assert triplet_accuracy(_labelled(torch.ones(4, 3)), _triplets((0, 1, 2), (3, 2, 1))) == 0.5


def test_refuses_no_triplets_and_items_that_are_not_there() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(BatchError, match="no triplets to judge"):
        triplet_accuracy(_labelled(torch.eye(3)), Triplets(nothing, nothing, nothing))
    with pytest.raises(BatchError, match="7"):
        triplet_accuracy(_labelled(torch.eye(3)), _triplets((0, 1, 7)))

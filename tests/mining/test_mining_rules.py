"""The mining rules against a case worked by hand, and index triplets against slow loops."""

import pytest
import torch
from torch import Tensor

from accord.errors import NumericError, UnknownNameError
from accord.geometry import cosine
from accord.mining import TRIPLET_RULES, all_pairs, batch_hard, pair_masks, semi_hard, triplets

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])
# row 0: positives at .9 and .2; negatives at .95, .5 and .1
SCORES = torch.tensor([[1.0, 0.9, 0.2, 0.95, 0.5, 0.1]]).repeat(6, 1)


def test_pairs_leave_out_the_item_itself() -> None:
    positives, negatives = pair_masks(torch.tensor([7, 7, 3]))
    assert positives.tolist() == [[False, True, False], [True, False, False], [False, False, False]]
    assert negatives.tolist() == [[False, False, True], [False, False, True], [True, True, False]]


def test_all_keeps_only_rows_with_both_kinds() -> None:
    positives, negatives = all_pairs(SCORES, *pair_masks(LABELS))
    assert positives.sum(dim=1).tolist() == [2, 2, 2, 1, 1, 0]
    assert negatives.sum(dim=1).tolist() == [3, 3, 3, 4, 4, 0]


def test_batch_hard_keeps_the_farthest_positive_and_the_closest_negative() -> None:
    positives, negatives = batch_hard(SCORES, *pair_masks(LABELS))
    assert positives[0].nonzero().flatten().tolist() == [2]
    assert negatives[0].nonzero().flatten().tolist() == [3]
    assert positives.sum(dim=1).tolist() == negatives.sum(dim=1).tolist() == [1, 1, 1, 1, 1, 0]


def test_semi_hard_takes_the_closest_negative_beyond_the_positive() -> None:
    columns = semi_hard(SCORES, *pair_masks(LABELS))
    assert columns[0, 1] == 4  # beyond .9 lie .5 and .1
    assert columns[0, 2] == 5  # beyond .2 lies .1


def test_semi_hard_falls_back_to_the_farthest_negative() -> None:
    scores = torch.tensor([[1.0, 0.05, 0.05, 0.95, 0.5, 0.1]]).repeat(6, 1)
    assert semi_hard(scores, *pair_masks(LABELS))[0, 1] == 5


def test_semi_hard_does_not_count_a_negative_as_far_as_the_positive() -> None:
    scores = torch.tensor([[1.0, 0.5, 0.5, 0.95, 0.5, 0.1]]).repeat(6, 1)
    assert semi_hard(scores, *pair_masks(LABELS))[0, 1] == 5


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), LABELS


@pytest.mark.parametrize("kind", TRIPLET_RULES)
def test_triplets_join_two_of_one_class_with_one_of_another(kind: str) -> None:
    embeddings, labels = batch()
    found = triplets(embeddings, labels, kind=kind)
    assert len(found.anchors) == {"all": 3 * 2 * 3 + 2 * 1 * 4, "batch_hard": 5, "semi_hard": 8}[kind]
    assert bool((labels[found.anchors] == labels[found.positives]).all())
    assert bool((labels[found.anchors] != labels[found.negatives]).all())
    assert bool((found.anchors != found.positives).all())
    assert len({*zip(*(rows.tolist() for rows in found), strict=True)}) == len(found.anchors)


def test_hard_triplets_are_the_hardest_of_all() -> None:
    embeddings, labels = batch()
    scores = cosine(embeddings, embeddings)
    every, hard = triplets(embeddings, labels, kind="all"), triplets(embeddings, labels, kind="batch_hard")
    gaps = scores[every.anchors, every.negatives] - scores[every.anchors, every.positives]
    for anchor, positive, negative in zip(*hard, strict=True):
        assert scores[anchor, negative] - scores[anchor, positive] == gaps[every.anchors == anchor].max()


@pytest.mark.parametrize("kind", TRIPLET_RULES)
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], []])
def test_a_batch_without_triplets_gives_none(kind: str, labels: list[int]) -> None:
    found = triplets(torch.ones(len(labels), 4), torch.tensor(labels, dtype=torch.int64), kind=kind)
    assert [rows.tolist() for rows in found] == [[], [], []]


def test_suggests_the_rule_that_was_meant() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'semi_hard'"):
        triplets(*batch(), kind="semihard")


def test_names_itself_when_the_batch_is_wrong() -> None:
    embeddings, labels = batch()
    embeddings[2] = torch.nan
    with pytest.raises(NumericError, match="triplets: embeddings must be finite"):
        triplets(embeddings, labels)

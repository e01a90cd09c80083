"""Rows that are columns themselves, and columns that are empty: what a memory needs of groups."""

import pytest
import torch

from accord.mining import NOBODY, Groups
from accord.mining._noise import uniform

LABELS = torch.tensor([0, 1, 0, 2, 5])
KEYS = torch.tensor([0, 1, 0, 2, 5, 0, 1, 9, 0, 2])


@pytest.mark.parametrize("dense_up_to", [0, 10**6], ids=["listed", "dense"])
@pytest.mark.parametrize("itself", [True, False])
def test_row_i_is_column_i_only_if_it_says_so(itself: bool, dense_up_to: int) -> None:
    groups = Groups(LABELS, KEYS, itself=itself, dense_up_to=dense_up_to)
    assert groups.listed == (dense_up_to == 0)
    for rows in (slice(None), slice(1, 4)):
        own = groups.own(rows)
        for r, row in enumerate(range(len(LABELS))[rows]):
            kept = own.kept[r].nonzero().flatten()
            found = kept if own.chosen is None else own.chosen[r, kept]
            expected = [c for c in range(10) if KEYS[c] == LABELS[row] and not (itself and c == row)]
            assert sorted(found.tolist()) == expected
            assert own.negative_count[r] == int((LABELS[row] != KEYS).sum())
    positives, negatives = groups.totals
    assert positives == int((LABELS[:, None] == KEYS).sum()) - 5 * itself
    assert negatives == int((LABELS[:, None] != KEYS).sum())


def test_empty_places_are_neither_positives_nor_negatives() -> None:
    keys = torch.cat([KEYS, torch.full((4,), NOBODY)])
    full, empty = (Groups(LABELS, part, itself=True, dense_up_to=10**6) for part in (KEYS, keys))
    own, less = full.own(slice(None)), empty.own(slice(None))
    assert torch.equal(less.kept[:, :10], own.kept)
    assert not less.kept[:, 10:].any()
    assert less.same is not None
    assert less.same[:, 10:].all()
    assert torch.equal(less.negative_count, own.negative_count)
    assert [int(total) for total in empty.totals] == [int(total) for total in full.totals]


def test_a_batch_by_itself_is_as_before() -> None:
    alone, beside = Groups(LABELS), Groups(LABELS, LABELS, itself=True)
    assert torch.equal(alone.own(slice(None)).kept, beside.own(slice(None)).kept)


def test_noise_is_even_and_the_same_in_every_block() -> None:
    rows, places = torch.arange(400), torch.arange(500)
    whole = uniform(3, rows, places)
    assert torch.equal(uniform(torch.tensor(3), rows[100:120], places), whole[100:120])
    assert 0 < whole.min() < whole.max() < 1
    counts = whole.histc(20, 0, 1)
    assert ((counts - 10_000).abs() < 500).all()
    # neither neighbours nor rows nor draws go together
    for other in (whole.roll(1, 0), whole.roll(1, 1), uniform(4, rows, places), uniform(3 + (1 << 32), rows, places)):
        assert abs(torch.corrcoef(torch.stack([whole.flatten(), other.flatten()]))[0, 1]) < 0.01

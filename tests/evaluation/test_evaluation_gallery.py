"""What an evaluation checks at its door, and how it recognises equal embeddings."""

import pytest
import torch

from accord.errors import BatchError, NumericError
from accord.evaluation._gallery import fingerprints, gather
from accord.types import Labelled

IDS = torch.arange(4)
LABELS = torch.tensor([0, 0, 1, 1])


def test_unit_rows_are_used_without_a_copy():
    rows = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert gather("test", Labelled(rows, LABELS, IDS)).whole().data_ptr() == rows.data_ptr()


@pytest.mark.parametrize("factor", [3.0, 2.0**-70, 2.0**100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_other_rows_are_brought_to_length_one(factor, dtype):
    rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    items = gather("test", Labelled(factor * rows, LABELS, IDS))
    exact = torch.nn.functional.normalize((factor * rows).double(), eps=0)
    assert (items.whole().double() - exact).abs().max() < 2**-22
    assert torch.equal(items.unit(torch.tensor([2])), items.whole()[2:3])


def test_equal_embeddings_are_recognised_by_value():
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [1.0, 1e-7]])
    for dtype in (torch.float32, torch.float64):
        prints = fingerprints(rows.to(dtype)).tolist()
        assert prints[0] == prints[1]
        assert len(set(prints)) == 3
    assert fingerprints(rows[:0]).tolist() == []


def test_ids_of_many_bad_rows_are_cut_short():
    items = Labelled(torch.zeros(30, 2), torch.arange(30) % 2, torch.arange(100, 130))
    with pytest.raises(NumericError, match=r"100, .* 109 and 20 more"):
        gather("test", items)


def test_refuses_what_does_not_fit():
    with pytest.raises(BatchError, match="one entry per embedding"):
        gather("test", Labelled(torch.eye(4), LABELS, torch.arange(3)))
    with pytest.raises(BatchError, match="labels must have one entry"):
        gather("test", Labelled(torch.eye(4), torch.arange(3), IDS))
    with pytest.raises(BatchError, match="labels must be integers"):
        gather("test", Labelled(torch.eye(4), LABELS.float(), IDS))
    with pytest.raises(BatchError, match="ids must be unique, but 1 are given more than once: 7"):
        gather("test", Labelled(torch.eye(4), LABELS, torch.tensor([7, 7, 8, 9])))

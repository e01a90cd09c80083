"""What an evaluation checks at its door, and how it recognises equal embeddings."""

import pytest
import torch

from accord.errors import BatchError, NumericError
from accord.evaluation._gallery import gather, twins
from accord.types import Labelled

IDS = torch.arange(4)
LABELS = torch.tensor([0, 0, 1, 1])


def test_unit_rows_are_used_without_a_copy():
    rows = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)))
    assert gather("test", Labelled(rows, LABELS, IDS)).unit.data_ptr() == rows.data_ptr()
    longer = gather("test", Labelled(3 * rows, LABELS, IDS))
    assert torch.allclose(longer.unit, rows, atol=1e-7)


def test_classes_are_numbered_in_the_order_of_their_labels():
    gallery = gather("test", Labelled(torch.eye(4), torch.tensor([2**40, -3, 2**40, 7]), IDS))
    assert gallery.classes.tolist() == [2, 0, 2, 1]
    assert gallery.sizes.tolist() == [1, 1, 2]
    assert gallery.queries().tolist() == [0, 2]


def test_equal_embeddings_are_recognised_by_value():
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [1.0, 1e-7]])
    assert twins(rows) == (2, 3)
    assert twins(rows.double()) == (2, 3)


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

"""Embeddings are written with the names of their rows, and read back equal."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from accord.reports import write_embeddings

ROWS = [{"path": "a/1.jpg", "label": "a"}, {"path": 'b/",\n2.jpg', "label": "b"}]


@pytest.fixture
def vectors() -> torch.Tensor:
    return torch.randn(2, 5, generator=torch.Generator().manual_seed(0))


def test_npy_keeps_the_names_beside_it(vectors, tmp_path):
    write_embeddings(tmp_path / "e.npy", vectors, ROWS)
    assert np.array_equal(np.load(tmp_path / "e.npy", allow_pickle=False), vectors.numpy())
    assert json.loads((tmp_path / "e.json").read_text()) == ROWS


def test_safetensors_keeps_the_names_inside(vectors, tmp_path):
    write_embeddings(tmp_path / "e.safetensors", vectors, ROWS)
    with safe_open(tmp_path / "e.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("embeddings"), vectors)
        assert json.loads(file.metadata()["rows"]) == ROWS


def test_csv_survives_quotes_and_line_breaks_in_names(vectors, tmp_path):
    write_embeddings(tmp_path / "e.csv", vectors, ROWS)
    with (tmp_path / "e.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["path", "label", "e0", "e1", "e2", "e3", "e4"]
    assert [row[0] for row in table[1:]] == [row["path"] for row in ROWS]
    assert torch.equal(torch.tensor([[float(cell) for cell in row[2:]] for row in table[1:]]), vectors)

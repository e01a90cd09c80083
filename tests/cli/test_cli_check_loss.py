"""`accord check-loss`: a certificate as text or JSON, and an exit code that a script can use."""

import json
from pathlib import Path

import pytest

from conformance import without_shape_checks

BROKEN = """
import torch
def steps(): return lambda x, y: (x[1:] - x[:-1]).square().sum()
class Linear(torch.nn.Module):
    def __init__(self, dim, classes):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(classes, dim))
    def forward(self, x, y): return torch.nn.functional.cross_entropy(x @ self.weight.T, y)
number = 3
"""


@pytest.fixture(autouse=True)
def our_doorway_answers():
    with without_shape_checks():
        yield


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "some_losses_of_mine.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    return "some_losses_of_mine"


def test_prints_the_certificate_of_a_catalogued_loss(accord) -> None:
    done = accord("check-loss", "normalised_softmax")
    assert done.code == 0, done.said
    assert done.out.startswith("normalised_softmax: passed (")
    assert "✓ has the gradient of its value" in done.out


def test_examines_what_another_package_makes(accord, plug_in: str) -> None:
    done = accord("check-loss", f"{plug_in}:steps", "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert found["passed"] is False
    broken = {row["promise"] for row in found["promises"] if row["verdict"] == "broken"}
    assert "ignores_the_order_of_the_batch" in broken
    found = json.loads(accord("check-loss", f"{plug_in}:Linear", "--json").out)
    assert found["facts"]["learns classes"] is True


@pytest.mark.parametrize(
    ("name", "wish"),
    [
        ("normalised_softmaxx", "Did you mean 'normalised_softmax'?"),
        ("some_losses_of_mine:stepps", "can't be imported"),
        ("no_such_package:steps", "can't be imported"),
        ("some_losses_of_mine:number", "is no function or class that makes a loss"),
        ("some_losses_of_mine:torch.nn.Bilinear", "does not make a loss"),
    ],
)
def test_says_what_is_wrong_with_a_name(accord, plug_in: str, name: str, wish: str) -> None:
    done = accord("check-loss", name)
    assert done.code == 2
    assert wish in done.said

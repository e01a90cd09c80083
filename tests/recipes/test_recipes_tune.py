"""Choosing the path of products: what is taken is exact and was the faster one."""

from collections.abc import Iterator

import pytest
import torch

import accord
from accord.losses import _products as products
from accord.losses import choose_product_path, product_path
from accord.recipes.tune import GAIN


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = product_path()
    yield
    choose_product_path(before)


def test_takes_the_faster_path() -> None:
    found = accord.tune()
    assert found.default > 0
    assert found.path == product_path() == ("onednn" if found.onednn > GAIN * found.default else "default")


def test_never_takes_a_path_that_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_linear", lambda q, k: (q.bfloat16() @ k.bfloat16().T).float())
    found = accord.tune()
    assert found.onednn == 0
    assert found.path == "default"


def test_a_missing_path_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    choose_product_path("onednn")
    assert product_path() == "default"
    assert accord.tune().onednn == 0


def test_small_products_stay_on_the_default_path(monkeypatch: pytest.MonkeyPatch) -> None:
    choose_product_path("onednn")
    monkeypatch.setattr(products, "onednn_linear", lambda q, k: pytest.fail("too small"))
    assert products.times(torch.ones(2, 3), torch.ones(4, 3)).shape == (2, 4)

"""A head made of heads: side by side, scaled, one map on top; described, built again, refused where it can't fit."""

import json

import pytest
import torch
from torch import nn

from accord.errors import ArtifactError, UsageError
from accord.geometry import normalise
from accord.models import JoinedHead, LinearHead, MLPHead, TrunkHead
from accord.models._heads import build_head


def linear(width: int, dim: int, seed: int) -> LinearHead:
    return LinearHead(width, dim, normalise=False, generator=torch.Generator().manual_seed(seed))


def joined(*, unit: bool = True) -> JoinedHead:
    heads = {"a": linear(6, 3, 1), "trunk": TrunkHead(6)}
    return JoinedHead(heads, linear(9, 2, 2), factors={"trunk": 2.0, "a": 0.5}, unit=unit)


@pytest.mark.parametrize("unit", [True, False])
def test_heads_are_scaled_side_by_side_and_mapped(unit: bool) -> None:
    head, features = joined(unit=unit), torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    first = head.heads["a"](features)
    parts = [normalise(first), normalise(features)] if unit else [first, features]
    torch.testing.assert_close(head(features), head.outer(torch.cat([0.5 * parts[0], 2.0 * parts[1]], dim=1)))
    assert (head.width, head.dim) == (6, 2)


def test_it_is_built_again_from_its_description() -> None:
    features = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    tanh = MLPHead(9, 2, hidden=4, normalise=False, activation="tanh", generator=torch.Generator().manual_seed(3))
    for head in (
        joined(),
        joined(unit=False),
        JoinedHead({"j": joined(), "t": TrunkHead(6)}, linear(8, 2, 4), factors={"j": 1.0, "t": 1.0}),
        JoinedHead(dict(joined().heads.items()), tanh, factors={"a": 1.0, "trunk": 1.0}),
    ):
        again = build_head(json.loads(json.dumps(head.describe())))
        again.load_state_dict(head.state_dict())
        assert torch.equal(again(features), head(features))


def test_a_tanh_is_named_in_the_description_and_a_relu_is_not() -> None:
    features = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    tanh, relu = (
        MLPHead(6, 2, activation=name, generator=torch.Generator().manual_seed(0)) for name in ("tanh", "relu")
    )
    assert tanh.describe()["activation"] == "tanh"
    assert "activation" not in relu.describe()
    torch.testing.assert_close(tanh(features), normalise(tanh.outer(tanh.inner(features).tanh())))
    with pytest.raises(UsageError, match="Did you mean 'tanh'"):
        MLPHead(6, 2, activation="tanhh")


@pytest.mark.parametrize(
    ("heads", "factors", "words"),
    [
        ({}, {}, "but the heads are"),
        ({"a": linear(6, 9, 1)}, {"b": 1.0}, "factors name"),
        ({"a": linear(6, 9, 1)}, {"a": -1.0}, "factor of 'a'"),
        ({"a": linear(6, 8, 1)}, {"a": 1.0}, "give 8 numbers, but what is on top of them takes 9"),
        ({"a": nn.Linear(6, 9)}, {"a": 1.0}, "not Linear"),
    ],
)
def test_parts_that_do_not_fit_are_refused(heads: dict[str, nn.Module], factors: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        JoinedHead(heads, linear(9, 2, 2), factors=factors)


@pytest.mark.parametrize("change", [{"heads": []}, {"outer": {"kind": "none"}}, {"factors": {"a": 1.0}}, {"more": 1}])
def test_a_damaged_description_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ArtifactError):
        build_head({**joined().describe(), **change})

"""Heads, and their descriptions."""

import json

import pytest
import torch
from torch import nn

from accord.errors import ArtifactError, UsageError
from accord.models import LinearHead, MaskedLinearHead, MLPHead, TrunkHead
from accord.models._heads import build_head, describe_head

FEATURES = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))


def test_a_linear_head_is_one_affine_map_to_the_unit_sphere() -> None:
    head = LinearHead(10, 4)
    raw = FEATURES @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(FEATURES), raw / raw.norm(dim=1, keepdim=True))


def test_an_mlp_head_has_one_hidden_layer() -> None:
    head = MLPHead(10, 4, hidden=7, normalise=False)
    inner = (FEATURES @ head.inner.weight.T + head.inner.bias).clamp_min(0)
    torch.testing.assert_close(head(FEATURES), inner @ head.outer.weight.T + head.outer.bias)
    assert MLPHead(10, 4).hidden == 10


def test_heads_may_leave_the_length_alone() -> None:
    head = LinearHead(10, 4, normalise=False)
    torch.testing.assert_close(head(2 * FEATURES) - head.linear.bias, 2 * (head(FEATURES) - head.linear.bias))


def test_a_zero_row_stays_zero_with_a_finite_gradient() -> None:
    features = torch.zeros(2, 10, requires_grad=True)
    output = LinearHead(10, 4)(features)
    output.sum().backward()
    assert torch.equal(output, torch.zeros(2, 4))
    assert bool(features.grad.isfinite().all())


def test_the_trunk_head_hands_the_feature_on() -> None:
    head = TrunkHead(10)
    assert head(FEATURES) is FEATURES
    assert not list(head.parameters())


@pytest.mark.parametrize("normalise", [True, False])
def test_a_masked_head_is_a_linear_one_behind_its_mask(normalise: bool) -> None:
    head = MaskedLinearHead(10, 4, normalise, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        head.mask.copy_(torch.linspace(-3, 3, 10))
    raw = (FEATURES / (1 + torch.exp(-head.mask))) @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(FEATURES), raw / raw.norm(dim=1, keepdim=True) if normalise else raw)


@pytest.mark.parametrize("normalise", [True, False])
def test_a_masked_head_folds_into_a_linear_one(normalise: bool) -> None:
    head = MaskedLinearHead(10, 4, normalise).double()
    with torch.no_grad():
        head.mask.copy_(torch.randn(10, generator=torch.Generator().manual_seed(2)) * 3)
        head.linear.bias.copy_(torch.arange(4))
    before = torch.get_rng_state()
    folded = head.eval().folded()
    assert torch.equal(torch.get_rng_state(), before)
    assert type(folded) is LinearHead
    assert not folded.training
    torch.testing.assert_close(folded(FEATURES.double()), head(FEATURES.double()), rtol=1e-12, atol=1e-12)
    assert folded.linear.weight.requires_grad
    assert folded.linear.weight.data_ptr() != head.linear.weight.data_ptr()


def test_a_mask_begins_open_and_learns() -> None:
    head, plain = (kind(10, 4, generator=torch.Generator().manual_seed(1)) for kind in (MaskedLinearHead, LinearHead))
    assert torch.equal(head.linear.weight, plain.linear.weight)
    assert torch.all(head.mask.sigmoid() > 0.98)
    head(FEATURES).square()[:, 0].sum().backward()
    assert bool(head.mask.grad.ne(0).all())


@pytest.mark.parametrize("head", [TrunkHead(10), LinearHead(10, 4, False), MaskedLinearHead(10, 4), MLPHead(10, 4, 6)])
def test_a_description_survives_json(head: nn.Module) -> None:
    again = build_head(json.loads(json.dumps(describe_head("one", head, 4))))
    again.load_state_dict(head.state_dict())
    assert torch.equal(again(FEATURES), head(FEATURES))


def test_an_identity_is_described_as_the_trunk() -> None:
    assert describe_head("trunk", nn.Identity(), 10) == {"kind": "trunk", "width": 10}


def test_a_foreign_head_is_refused_with_a_way_out() -> None:
    with pytest.raises(UsageError, match=r"head 'mine' is a Linear.*\n.*package.module:factory"):
        describe_head("mine", nn.Linear(10, 4), 4)


@pytest.mark.parametrize(
    "damaged", [{"kind": "cubic"}, {}, {"kind": "linear", "width": 10}, {"kind": "linear", "width": 10, "dim": 0}]
)
def test_a_damaged_description_is_refused(damaged: dict[str, object]) -> None:
    with pytest.raises(ArtifactError, match="head"):
        build_head(damaged)


def test_equal_generators_draw_equal_heads() -> None:
    one, two = (MLPHead(10, 4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one(FEATURES), two(FEATURES))


@pytest.mark.parametrize(
    "make",
    [lambda: LinearHead(0, 4), lambda: MaskedLinearHead(10, 0), lambda: MLPHead(10, 4, hidden=0), lambda: TrunkHead(0)],
)
def test_sizes_below_one_are_refused(make: object) -> None:
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]

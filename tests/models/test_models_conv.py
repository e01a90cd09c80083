"""Padding as TensorFlow does it, and the folded step against plain modules."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.models import _conv
from accord.models._conv import conv_norm, same_pads


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", range(1, 20))
def test_same_padding_gives_the_ceiling_of_size_over_stride(size: int, stride: int, kernel: int) -> None:
    left, right, top, bottom = same_pads(size, size + 1, kernel, stride)
    assert (size + top + bottom - kernel) // stride + 1 == math.ceil(size / stride)
    assert (size + 1 + left + right - kernel) // stride + 1 == math.ceil((size + 1) / stride)


@pytest.mark.parametrize(
    ("size", "kernel", "pads"),
    [((8, 8), 3, (0, 1, 0, 1)), ((7, 7), 3, (1, 1, 1, 1)), ((8, 7), 5, (2, 2, 1, 2)), ((7, 8), 5, (1, 2, 2, 2))],
)
def test_the_odd_pixel_goes_right_and_below(size: tuple[int, int], kernel: int, pads: tuple[int, ...]) -> None:
    assert same_pads(*size, kernel, 2) == pads


def _layers(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    generator = torch.Generator().manual_seed(3)
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False).double()
    norm = nn.BatchNorm2d(outputs, eps=1e-3).double().eval()
    with torch.no_grad():
        for tensor in (conv.weight, norm.weight, norm.bias, norm.running_mean):
            tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64))
        norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return conv, norm


def _reference(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, high: float | None) -> Tensor:
    pads = same_pads(x.shape[2], x.shape[3], conv.kernel_size[0], conv.stride[0])
    y = norm(F.conv2d(F.pad(x, pads), conv.weight, None, conv.stride, 0, 1, conv.groups))
    return y if high is None else F.hardtanh(y, 0.0, high)


CASES = [
    # inputs, outputs, kernel, stride, groups, height, width, bound
    pytest.param(3, 5, 3, 2, 1, 8, 8, 6.0, id="stem-even"),
    pytest.param(3, 5, 3, 2, 1, 7, 8, 6.0, id="stem-odd"),
    pytest.param(6, 4, 1, 1, 1, 5, 4, None, id="narrowing"),
    pytest.param(6, 6, 3, 1, 6, 6, 5, 6.0, id="depthwise"),
    pytest.param(6, 6, 3, 2, 6, 6, 6, 6.0, id="depthwise-stride-even"),
    pytest.param(6, 6, 3, 2, 6, 7, 6, 6.0, id="depthwise-stride-mixed"),
    pytest.param(6, 6, 5, 1, 6, 8, 7, 6.0, id="depthwise-5"),
    pytest.param(6, 6, 5, 2, 6, 8, 8, math.inf, id="depthwise-5-stride-even"),
    pytest.param(6, 6, 5, 2, 6, 7, 9, 6.0, id="depthwise-5-stride-odd"),
    pytest.param(6, 6, 5, 1, 6, 1, 1, 6.0, id="map-smaller-than-kernel"),
    pytest.param(6, 6, 3, 1, 6, 2, 2, None, id="map-of-two"),
]


@pytest.mark.parametrize(("inputs", "outputs", "kernel", "stride", "groups", "height", "width", "high"), CASES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_folding_changes_neither_value_nor_gradient(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    groups: int,
    height: int,
    width: int,
    high: float | None,
    layout: torch.memory_format,
) -> None:
    conv, norm = _layers(inputs, outputs, kernel, stride, groups)
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4, inputs, height, width, generator=generator, dtype=torch.float64)
    x = x.contiguous(memory_format=layout).requires_grad_()
    wanted = _reference(x, conv, norm, high)
    pads = same_pads(height, width, kernel, stride)
    got = conv_norm(x, conv, norm, pads=pads, high=high)
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)

    upstream = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    leaves = [x, conv.weight, norm.weight, norm.bias]
    expected = torch.autograd.grad(wanted, leaves, upstream)
    for mine, theirs in zip(torch.autograd.grad(got, leaves, upstream), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_no_gradient_is_computed_for_what_does_not_learn() -> None:
    conv, norm = _layers(4, 4, 5, 1, 4)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    conv.weight.requires_grad_(False)
    norm.weight.requires_grad_(False)
    conv_norm(x, conv, norm, pads=(2, 2, 2, 2), high=6.0).sum().backward()
    assert conv.weight.grad is None
    assert norm.weight.grad is None
    assert norm.bias.grad is not None


def test_training_batch_norm_is_not_folded_and_moves_its_statistics() -> None:
    conv, norm = _layers(4, 4, 3, 1, 4)
    norm.train()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    before = norm.running_mean.clone()
    got = conv_norm(x, conv, norm, pads=(1, 1, 1, 1), high=6.0)
    assert not torch.equal(before, norm.running_mean)
    assert float(got.detach().min()) == 0.0


def test_half_precision_autocast_still_runs_and_differentiates() -> None:
    conv, norm = _layers(4, 4, 5, 2, 4)
    conv, norm = conv.float(), norm.float()
    with torch.autocast("cpu", torch.bfloat16):
        y = conv_norm(torch.randn(2, 4, 6, 6), conv, norm, pads=(1, 2, 1, 2), high=6.0)
    y.float().sum().backward()
    assert conv.weight.grad is not None
    assert bool(conv.weight.grad.isfinite().all())


@pytest.fixture
def unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_conv, "_may_fold", lambda *_: False)


def test_the_plain_path_differentiates_twice(unfolded: None) -> None:
    conv, norm = _layers(2, 2, 3, 1, 2)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: conv_norm(x, conv, norm, pads=(1, 1, 1, 1)), (x,))


def test_the_folded_path_says_that_it_differentiates_only_once() -> None:
    conv, norm = _layers(2, 2, 3, 1, 2)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    y = conv_norm(x, conv, norm, pads=(1, 1, 1, 1))
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()

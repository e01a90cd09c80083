"""Layers built without touching the global random state, and their first weights drawn from a given generator."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

_skip: Callable[..., Any] = nn.utils.skip_init  # torch leaves it untyped


def conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """An uninitialised convolution without bias. Padding is chosen at each call, by the network."""
    layer: nn.Conv2d = _skip(nn.Conv2d, inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
    return layer


def linear(inputs: int, outputs: int) -> nn.Linear:
    """An uninitialised affine layer."""
    layer: nn.Linear = _skip(nn.Linear, inputs, outputs)
    return layer


def draw_weights(network: nn.Module, generator: torch.Generator | None) -> None:
    """He et al. (ICCV 2015) for convolutions (fan out), uniform ±1/√inputs for affine layers, zero biases.

    Without a generator, torch's own global one is used, as torch's layers do.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan = layer.weight.shape[0] // layer.groups * layer.weight[0, 0].numel()
            nn.init.normal_(layer.weight, 0.0, (2.0 / fan) ** 0.5, generator=generator)
        elif isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            nn.init.zeros_(layer.bias)

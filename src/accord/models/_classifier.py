"""Backbones that may carry the ImageNet classifier their published weights come with, or leave it out."""

from typing import Any

from torch import nn


def skip_classifier(network: nn.Module, name: str) -> None:
    """Let a network without classifier load, strictly, a state dict that has one under `name`."""

    def drop(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        del module
        for part in ("weight", "bias"):
            state.pop(f"{prefix}{name}.{part}", None)

    network.register_load_state_dict_pre_hook(drop)  # type: ignore[no-untyped-call]

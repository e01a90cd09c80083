"""A tiny model, an objective with state of every kind, and batches that are functions of the step."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from accord.training import Rates, parameter_groups
from accord.types import Batch


class TinyModel(nn.Module):
    """Convolution, batch norm, dropout and two heads: weights, buffers and random numbers all take part."""

    def __init__(self, heads: tuple[str, ...] = ("pairs", "proxies")) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.heads = nn.ModuleDict({name: nn.Linear(6, 4) for name in heads})

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        features = self.pool(self.backbone(images.float() / 255)).flatten(1)
        return {name: head(features) for name, head in self.heads.items()}


class Several(nn.Module):
    """Two losses with proxies, learned weights, a running scale, a memory and its place: an ensemble in small."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(classes, 4))
        self.loss_weights = nn.Parameter(torch.zeros(2))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("memory", torch.zeros(6, 4))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        self.terms: dict[str, Tensor] = {}

    def forward(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        pairs, proxies = embeddings["pairs"], embeddings["proxies"]
        against = torch.cat([pairs, self.memory.clone()])
        first = (pairs @ against.T).square().mean()
        second = nn.functional.cross_entropy(-torch.cdist(proxies, self.proxies).square(), labels)
        if self.training:
            self.scale.mul_(0.9).add_(0.1 * first.detach())
            self.memory[int(self.place) % 6] = pairs.detach()[0]
            self.place += 1
        self.terms = {"pairs": first.detach(), "proxies": second.detach()}
        weights = self.loss_weights.exp()
        return weights[0] * first / self.scale + weights[1] * second - self.loss_weights.sum()


def batches(step: int) -> Batch:
    """Eight small images of three classes: a pure function of the step."""
    source = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (8, 3, 5, 5), generator=source, dtype=torch.uint8)
    return Batch(images, torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), torch.arange(8) + 100 * step)


class Parts(NamedTuple):
    """What is trained."""

    model: nn.Module
    objective: nn.Module
    optimizer: torch.optim.AdamW

    def everything(self) -> dict[str, Tensor]:
        """Every tensor that learning has formed, copied."""
        found = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        found |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{name}": value for name, value in state.items()}
        return {name: value.clone() for name, value in found.items()}


def build(seed: int = 0) -> Parts:
    """Fresh parts; the seed also sets the random numbers of dropout."""
    torch.manual_seed(seed)
    model, objective = TinyModel(), Several()
    rates = Rates(trunk=0.01, heads=0.02, proxies=0.05, weights=0.01)
    groups = parameter_groups(model, objective, rates=rates, weight_decay=0.01)
    return Parts(model, objective, torch.optim.AdamW(groups))


@pytest.fixture(name="build")
def _build() -> Callable[..., Parts]:
    return build


@pytest.fixture(name="batches")
def _batches() -> Callable[[int], Batch]:
    return batches


@pytest.fixture
def tiny() -> type[TinyModel]:
    return TinyModel

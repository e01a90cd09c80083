"""A backbone small enough for any test, and images for it."""

import torch
from torch import Tensor, nn

IMAGES = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


class Patches(nn.Module):
    """A backbone of one convolution, for speed."""

    name, width = "patches", 6

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).relu()

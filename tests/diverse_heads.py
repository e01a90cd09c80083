"""What tests of diversity between heads share: heads by name, and rotations."""

import torch
from torch import Tensor


def heads_of(*widths: int, items: int = 7, seed: int = 0) -> dict[str, Tensor]:
    """One head of normal numbers for each width, called a, b, c …"""
    source = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(items, width, generator=source, dtype=torch.float64) for width in widths]
    return {name: head.requires_grad_() for name, head in zip("abcdef", drawn, strict=False)}


def rotation(dim: int, seed: int = 0) -> Tensor:
    """A random orthogonal matrix."""
    source = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=source, dtype=torch.float64)).Q

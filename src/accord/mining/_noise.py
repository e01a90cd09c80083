"""Random numbers that depend on nothing but the number of the draw, the row and the place: the same in every block."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# odd numbers without structure: the first 31 digits of √2, √3 and √7 after the point
_TWO, _THREE, _SEVEN = 0x3504F333, 0x5DB3D743, 0x52A7FA9D
_WORD = 0xFFFFFFFF


def uniform(draw: int | Tensor, rows: Int[Tensor, " row"], places: Int[Tensor, "..."]) -> Float[Tensor, "row place"]:
    """Numbers in (0, 1), one for each row and place; `places` are (place,) or (row, place).

    A hash and no generator: a loss goes through its blocks again for a second derivative, and must choose the same; how
    many rows a block has and what device it is on must not matter either. Float32, in steps of 2⁻²³.
    """
    if isinstance(draw, int):
        draw = torch.tensor(draw, device=rows.device)
    key = _stirred(_stirred(draw) + (draw >> 32) * _SEVEN)
    mixed = _stirred(_stirred(key + rows * _SEVEN)[:, None] + places * _TWO)
    return ((mixed >> 9).to(torch.float32) + 0.5) * 2.0**-23


def _stirred(x: Tensor) -> Tensor:
    """Thirty-two bits in which each bit of x has a say; products stay below 2⁶³."""
    x = x & _WORD
    x = ((x ^ (x >> 16)) * _THREE) & _WORD
    x = ((x ^ (x >> 15)) * _TWO) & _WORD
    return x ^ (x >> 16)

"""How much one request, and all of them together, may take."""

import math
from dataclasses import dataclass

from accord.checks import check_range

NEIGHBOURS_MAX = 100
"""The largest k a request may ask for."""
THUMBNAIL_SIDES = (32, 512)
"""The smallest and the largest thumbnail in pixels."""


@dataclass(frozen=True)
class Limits:
    """Bounds that hold from the first byte of a request on; the defaults suit one machine and a few people.

    `queue` requests may wait for the one that is being computed; one more is told to come back. `bytes_in_flight`
    bounds the uploads held in memory, whoever sent them. `megapixels` is for the message alone: the service refuses.
    """

    body_bytes: int = 10_000_000
    body_seconds: float = 30.0
    bytes_in_flight: int = 60_000_000
    answer_seconds: float = 30.0
    queue: int = 32
    megapixels: int = 25
    header_seconds: float = 10.0
    connections: int = 128
    shutdown_seconds: int = 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_range("Limits", name, value, low=0.0, high=math.inf, open_low=True)

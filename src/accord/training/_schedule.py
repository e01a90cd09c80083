"""How the learning rate rises and falls: pure functions of the step, so that there is nothing to save."""

import math

from accord.checks import check_count, check_range


def warmup_cosine(step: int, *, steps: int, warmup: float = 0.05) -> float:
    """What the rates are multiplied by: a straight rise over the first `warmup` share of the steps, then half a cosine.

    Steps count from 0; the first one already moves, the last one barely does, and from `steps` on the factor is 0.
    Loshchilov and Hutter, ICLR 2017, eq. 5 without restarts, after a linear warm-up (Goyal et al., 2017).

    >>> [round(warmup_cosine(step, steps=8, warmup=0.25), 3) for step in (0, 1, 2, 5, 8)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    check_count("warmup_cosine", "step", step, low=0)
    check_count("warmup_cosine", "steps", steps)
    check_range("warmup_cosine", "warmup", warmup, low=0.0, high=1.0)
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    if step >= steps:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising)))

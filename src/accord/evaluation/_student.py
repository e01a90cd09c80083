"""Student's t for whole degrees of freedom, and how far into its tails a bootstrap of few classes must reach."""

import math
from functools import lru_cache
from statistics import NormalDist

CONFIDENCE = 0.95
MANY = 1000


@lru_cache(maxsize=256)
def student_quantile(freedom: int) -> float:
    """The t that 95 % of Student's distribution stay within: 12.71 for 1 degree of freedom, 1.96 for very many.

    By bisection of the closed form for whole degrees (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4); above a thousand
    by their expansion 26.7.5, which is then exact to eleven digits.
    """
    if freedom > MANY:
        return round(_expansion(NormalDist().inv_cdf(0.5 + CONFIDENCE / 2), freedom), 12)
    low, high = 0.0, 16.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return round(middle, 12)


@lru_cache(maxsize=256)
def expanded_tail(classes: int) -> float:
    """The share to cut off at each end of a bootstrap over so few classes, so that the interval covers 95 %.

    Percentiles at 2.5 % are too narrow twice over: drawing again shrinks the spread by √((n - 1)/n), and the normal's
    tails stand where Student's belong. The expanded percentile interval makes up for both (Hesterberg 2015, "What
    teachers should know about the bootstrap", section 4.2.1): Φ(-√(n/(n - 1)) t).
    Takes two classes or more.
    """
    reach = math.sqrt(classes / (classes - 1)) * student_quantile(classes - 1)
    return round(NormalDist().cdf(-reach), 12)


def _within(t: float, freedom: int) -> float:
    """The share of Student's distribution between -t and t."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * power / (power + 1)
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def _expansion(x: float, freedom: int) -> float:
    """Student's quantile from the normal's."""
    first = (x**3 + x) / 4
    second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    return x + first / freedom + second / freedom**2 + third / freedom**3

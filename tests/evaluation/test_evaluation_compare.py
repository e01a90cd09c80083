"""Two methods on the same queries: intervals over seeds and classes, sign flips, and how often both are right."""

import itertools
import math

import pytest
import torch

from accord.errors import BatchError, UsageError
from accord.evaluation import class_bootstrap, paired_bootstrap, sign_flip, two_level_bootstrap, verdict
from conformance import without_shape_checks


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_one_seed_gives_the_interval_over_classes():
    scores, labels = torch.rand(1, 60, generator=_generator()), torch.arange(60) // 3
    drawn = _generator(1)
    torch.randint(1, (500, 1), generator=drawn)  # the seeds, drawn first
    alone = class_bootstrap(scores[0], labels, draws=500, generator=drawn)
    assert two_level_bootstrap(scores, labels, draws=500, generator=_generator(1)) == alone


def test_a_method_against_nothing_has_its_own_interval():
    scores, labels = torch.rand(4, 60, generator=_generator()), torch.arange(60) // 3
    own = two_level_bootstrap(scores, labels, draws=300, generator=_generator(1))
    none = torch.zeros_like(scores)
    assert paired_bootstrap(scores, none, labels, paired=True, draws=300, generator=_generator(1)) == own


def test_a_method_does_not_differ_from_itself():
    scores, labels = torch.rand(3, 60, generator=_generator()), torch.arange(60) // 3
    assert paired_bootstrap(scores, scores, labels, paired=True, draws=100, generator=_generator()) == (0, 0)
    assert sign_flip(scores, scores, labels, draws=100, generator=_generator()) == 1


def test_swapping_the_methods_mirrors_the_interval():
    first, second = torch.rand(2, 3, 60, generator=_generator()).unbind()
    labels = torch.arange(60) // 3
    low, high = paired_bootstrap(first, second, labels, paired=True, draws=201, generator=_generator(4))
    assert paired_bootstrap(second, first, labels, paired=True, draws=201, generator=_generator(4)) == pytest.approx(
        (-high, -low), abs=1e-12
    )


def test_a_seed_that_moves_everything_widens_the_interval():
    labels = torch.arange(200) // 2
    moved = torch.tensor([[0.0], [0.1], [0.2]]).expand(3, 200) + 0.01 * torch.rand(3, 200, generator=_generator())
    low, high = two_level_bootstrap(moved, labels, generator=_generator())
    one = class_bootstrap(moved.mean(dim=0), labels, generator=_generator())
    assert high - low > 10 * (one[1] - one[0])


def test_methods_of_other_seeds_are_drawn_independently():
    labels = torch.arange(100) // 5
    seeds = torch.linspace(0, 0.5, 4)[:, None] * torch.ones(1, 100)
    together = paired_bootstrap(seeds + 0.1, seeds, labels, paired=True, draws=500, generator=_generator())
    apart = paired_bootstrap(seeds + 0.1, seeds, labels, draws=500, generator=_generator())
    assert together == pytest.approx((0.1, 0.1), abs=1e-6)
    assert apart[1] - apart[0] > 0.3
    assert paired_bootstrap(seeds, seeds[:2], labels, draws=50, generator=_generator())  # as many are not needed


@pytest.mark.parametrize("classes", [3, 6, 9])
def test_few_classes_are_flipped_in_every_way(classes):
    generator = _generator(classes)
    labels = torch.randint(0, classes, (40,), generator=generator)
    first, second = torch.rand(2, 2, 40, generator=generator, dtype=torch.float64).unbind()
    gaps = (first.mean(dim=0) - second.mean(dim=0)).tolist()
    sums = [sum(g for g, y in zip(gaps, labels.tolist(), strict=True) if y == label) for label in labels.unique()]
    patterns = list(itertools.product((-1, 1), repeat=len(sums)))
    totals = [abs(sum(s * x for s, x in zip(pattern, sums, strict=True))) for pattern in patterns]
    expected = sum(total >= abs(sum(sums)) - 1e-12 for total in totals) / len(patterns)
    assert sign_flip(first, second, labels, generator=generator) == expected


def test_fewer_than_six_classes_prove_nothing():
    ones, labels = torch.ones(1, 5), torch.arange(5)
    assert sign_flip(ones, torch.zeros(1, 5), labels, generator=_generator()) == 2 / 2**5


def test_many_classes_are_flipped_at_random_and_the_observed_pattern_counts():
    generator = _generator(1)
    gaps = 0.1 + _normal(1, 30, generator=generator)
    p = sign_flip(gaps, torch.zeros(1, 30), torch.arange(30), draws=20_000, generator=generator)
    t = float(gaps.mean() / gaps.std()) * math.sqrt(30)
    assert p == pytest.approx(math.erfc(abs(t) / math.sqrt(2)), abs=0.03)
    assert sign_flip(torch.ones(1, 60), torch.zeros(1, 60), torch.arange(60), draws=99, generator=generator) == 0.01


@pytest.mark.parametrize(("seeds", "widest"), [(3, 1.4), (5, 1.4), (10, 1.3)])
def test_the_interval_of_a_difference_covers_the_truth(seeds, widest):
    # standard deviations in points: seeds .4, classes 4, the rest 6; 500 repetitions are in benchmarks/intervals.py
    generator, labels, repetitions = _generator(seeds), torch.arange(100), 120
    covered, width = 0, 0.0
    for _ in range(repetitions):
        gains = 0.4 * _normal(seeds, 1, generator=generator) + 4 * _normal(1, 100, generator=generator)
        gains = (gains + 6 * _normal(seeds, 100, generator=generator)) / 100
        low, high = paired_bootstrap(gains, 0 * gains, labels, paired=True, draws=300, generator=generator)
        covered, width = covered + (low <= 0 <= high), width + (high - low) / repetitions
    assert covered >= 0.93 * repetitions
    needed = 2 * 1.96 * math.sqrt(0.16 / seeds + 16 / 100 + 36 / (100 * seeds)) / 100
    assert width < widest * needed


def _words(gain: float, repetitions: int) -> list[str]:
    """What is said of two methods with five seeds, 100 classes of 59 images, and a true gain."""
    labels, words = torch.arange(100).repeat_interleave(59), []
    for repetition in range(repetitions):
        generator = _generator(repetition)
        rates = 0.6 + 0.21 * _normal(100, generator=generator)
        sides = []
        for more in (gain, 0.0):
            moved = 0.004 * _normal(5, 1, generator=generator) + 0.06 * _normal(5, 100, generator=generator)
            rate = (rates + more + moved).clamp(0, 1).repeat_interleave(59, dim=1)
            sides.append(torch.bernoulli(rate, generator=generator))
        bounds = paired_bootstrap(*sides, labels, paired=True, draws=300, generator=generator)
        p = sign_flip(*sides, labels, draws=300, generator=generator)
        words.append(verdict(float(sides[0].mean() - sides[1].mean()), *bounds, p).word)
    return words


def test_equal_methods_are_rarely_told_apart():
    words = _words(0.0, 60)
    assert words.count("no difference shown") >= 57


def test_three_points_are_found():
    words = _words(0.03, 40)
    assert words.count("better") >= 32
    assert "worse" not in words


def test_refuses_methods_that_were_not_asked_the_same():
    labels, scores = torch.arange(4), torch.ones(2, 4)
    with without_shape_checks(), pytest.raises(BatchError, match="the same queries"):
        paired_bootstrap(scores, torch.ones(2, 3), labels, generator=_generator())
    with pytest.raises(BatchError, match="the same queries"):
        sign_flip(scores, torch.ones(0, 4), labels, generator=_generator())
    with pytest.raises(BatchError, match="as many seeds"):
        paired_bootstrap(scores, torch.ones(3, 4), labels, paired=True, generator=_generator())
    with without_shape_checks(), pytest.raises(BatchError, match="one label per query"):
        two_level_bootstrap(scores, torch.arange(3), generator=_generator())
    with pytest.raises(UsageError, match="draws"):
        two_level_bootstrap(scores, labels, draws=0, generator=_generator())

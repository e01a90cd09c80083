"""The parts of a mean's uncertainty: as analysis of variance gives them, and enough of them."""

import pytest
import torch

from accord.evaluation import paired_bootstrap
from accord.evaluation._two_way import Parts, correction, parts_of


def test_parts_are_those_of_analysis_of_variance():
    table = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = parts_of([table], torch.full((9,), 5.0, dtype=torch.float64))
    mean, rows, columns = table.mean(), table.mean(dim=1, keepdim=True), table.mean(dim=0, keepdim=True)
    rest = (table - rows - columns + mean).square().sum() / (3 * 8)
    expected = (4 * columns.var() / 36, 9 * rows.var() / 36, rest / 36)
    scale = 1 / 25  # a class sum of five queries counts a fifth
    assert found[:3] == pytest.approx([float(part) * scale for part in expected])
    classes, seeds, rest = found[:3]
    assert found.drawn == pytest.approx(classes + (seeds + rest) * 3 / 4)
    assert found.doubt == pytest.approx(classes**2 / 8 + max(0, seeds - rest) ** 2 / 3)


def test_classes_of_more_queries_count_more():
    # the sums of equal rates differ only because the classes do: nothing is uncertain
    sizes = torch.tensor([2.0, 4.0, 10.0], dtype=torch.float64)
    assert parts_of([0.5 * sizes[None]], sizes) == pytest.approx((0, 0, 0, 0, 0))


def test_methods_with_seeds_of_their_own_share_their_classes():
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(seeds, 6, generator=generator, dtype=torch.float64) for seeds in (3, 2))
    sizes = torch.ones(6, dtype=torch.float64)
    both, alone, other = (parts_of(methods, sizes) for methods in ([first, -second], [first], [second]))
    assert both.classes == pytest.approx(float((first.mean(dim=0) - second.mean(dim=0)).var() / 6))
    assert both.seeds == pytest.approx(alone.seeds + other.seeds)
    assert both.rest == pytest.approx(alone.rest + other.rest)
    assert parts_of([first[:1]], sizes)[1:3] == (0, 0)


@pytest.mark.parametrize(
    ("parts", "factor"),
    [
        ((4.0, 0.0, 0.0), 1.0),
        ((1.0, 1.0, 1.0), (1 / 3) ** 0.5),
        ((3.0, 2.0, 1.0), (4 / 6) ** 0.5),
        ((3.0, 0.5, 1.0), (3 / 4.5) ** 0.5),  # classes alone are not undercut
        ((0.5, 3.0, 1.0), (3 / 4.5) ** 0.5),
        ((0.0, 0.0, 0.0), 1.0),
    ],
)
def test_what_is_counted_too_often_is_taken_off(parts: tuple[float, float, float], factor: float):
    sure = Parts(*parts, drawn=sum(parts), doubt=1e-12)
    assert correction(sure, 100) == pytest.approx(factor)


def test_few_seeds_reach_further():
    # told by two degrees of freedom: t is 4.303, where one hundred classes have 1.984
    assert correction(Parts(0.0, 1.0, 0.0, drawn=1.0, doubt=1 / 2), 100) == pytest.approx(4.302653 / 1.984217)
    assert correction(Parts(0.0, 1.0, 0.0, drawn=1.0, doubt=5.0), 100) == pytest.approx(12.706205 / 1.984217)
    halfway = correction(Parts(0.0, 1.0, 0.0, drawn=1.0, doubt=1 / 2.4), 100) * 1.984217
    assert 3.182446 < halfway < 4.302653


def test_noise_of_single_seeds_and_classes_is_counted_once():
    widths, differences = [], []
    for world in range(40):
        generator = torch.Generator().manual_seed(world)
        first, second = torch.randn(2, 5, 30, generator=generator, dtype=torch.float64)
        low, high = paired_bootstrap(
            first, second, torch.arange(30), paired=True, draws=400, generator=torch.Generator().manual_seed(0)
        )
        widths.append(high - low)
        differences.append(first.mean() - second.mean())
    wanted = 2 * 1.96 * (2 / 150) ** 0.5
    assert sum(widths) / len(widths) == pytest.approx(wanted, rel=0.25)  # and not √3 times as wide

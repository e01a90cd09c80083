"""What each head contributes: everything against loops, and cases whose answer is known beforehand."""

import math

import pytest
import torch
from torch import Tensor

from accord.errors import BatchError, NumericError, UsageError
from accord.evaluation import head_contributions

LABELS = torch.arange(24) // 4
NAMES = ("a", "b", "c")
SHARES = {"a": 0.5, "b": 0.3, "c": 1.2}


def heads(seed: int = 0) -> dict[str, Tensor]:
    """Three heads of different widths and lengths that know the classes more or less."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(6, 9, generator=generator, dtype=torch.float64)[LABELS]
    found = {}
    for name, dim, noise in (("a", 3, 0.6), ("b", 5, 1.0), ("c", 2, 1.5)):
        look = torch.randn(9, dim, generator=generator, dtype=torch.float64)
        found[name] = 3.0 * ((centres + noise * torch.randn(24, 9, generator=generator, dtype=torch.float64)) @ look)
    return found


def slow_scores(given: dict[str, Tensor], shares: dict[str, float]) -> list[list[float]]:
    """The weighted mean of the heads' cosines, one pair after another; shares need not sum to 1."""
    total = sum(shares[name] for name in given)
    table = [[0.0] * len(LABELS) for _ in LABELS]
    for i in range(len(LABELS)):
        for j in range(len(LABELS)):
            for name, head in given.items():
                x, y = head[i].tolist(), head[j].tolist()
                lengths = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
                table[i][j] += shares[name] / total * sum(v * w for v, w in zip(x, y, strict=True)) / lengths
    return table


def slow_ranking(table: list[list[float]], i: int) -> list[int]:
    return sorted((j for j in range(len(LABELS)) if j != i), key=lambda j: -table[i][j])


def slow_metrics(table: list[list[float]]) -> dict[str, list[float]]:
    """Recall@1 and MAP@R of each query, counted out."""
    found: dict[str, list[float]] = {"recall@1": [], "map@r": []}
    for i in range(len(LABELS)):
        ranking, wanted = slow_ranking(table, i), sum(bool(LABELS[j] == LABELS[i]) for j in range(len(LABELS))) - 1
        right = [float(LABELS[j] == LABELS[i]) for j in ranking]
        found["recall@1"].append(right[0])
        found["map@r"].append(sum(right[k] * sum(right[: k + 1]) / (k + 1) for k in range(wanted)) / wanted)
    return found


def slow_cka(x: Tensor, y: Tensor) -> float:
    x, y = (v / v.norm(dim=1, keepdim=True) for v in (x, y))
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def test_equals_its_slow_loop() -> None:
    given = heads()
    found = head_contributions(given, LABELS, shares=SHARES)
    assert found.shares == pytest.approx({"a": 0.25, "b": 0.15, "c": 0.6})
    cases = {("whole", ""): (found.whole, given)}
    cases |= {("alone", name): (found.alone[name], {name: given[name]}) for name in NAMES}
    cases |= {
        ("without", name): (found.without[name], {other: given[other] for other in NAMES if other != name})
        for name in NAMES
    }
    for case, (evaluation, used) in cases.items():
        expected = slow_metrics(slow_scores(used, SHARES))
        for metric, values in expected.items():
            assert evaluation.per_query[metric].tolist() == pytest.approx(values), (case, metric)
    values = {tuple(found.alone[name].per_query["map@r"].tolist()) for name in NAMES}
    assert len(values) == 3, "the heads must differ, or the loop would prove nothing"


def test_agreement_equals_its_slow_loop() -> None:
    given = heads(1)
    found = head_contributions(given, LABELS)
    assert [(pair.first, pair.second) for pair in found.agreement] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in found.agreement:
        tables = [slow_scores({name: given[name]}, {name: 1.0}) for name in (pair.first, pair.second)]
        nearest = [[slow_ranking(table, i)[0] for i in range(len(LABELS))] for table in tables]
        right = [[bool(LABELS[j] == LABELS[i]) for i, j in enumerate(row)] for row in nearest]
        same = sum(p == q for p, q in zip(*nearest, strict=True)) / len(LABELS)
        apart = sum(p != q for p, q in zip(*right, strict=True)) / len(LABELS)
        assert 0 < same < 1
        assert apart > 0
        assert pair.same_neighbour == pytest.approx(same)
        assert pair.one_right == pytest.approx(apart)
        assert pair.cka == pytest.approx(slow_cka(given[pair.first], given[pair.second]))


def test_heads_count_alike_unless_told_otherwise() -> None:
    assert head_contributions(heads(), LABELS).shares == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


def test_of_two_heads_each_is_what_is_left_without_the_other() -> None:
    given = {name: heads()[name] for name in ("a", "b")}
    found = head_contributions(given, LABELS, shares={"a": 0.9, "b": 0.1})
    assert found.without["a"].metrics == pytest.approx(found.alone["b"].metrics)
    assert found.without["b"].metrics == pytest.approx(found.alone["a"].metrics)


def test_a_rotated_copy_is_not_missed_and_agrees_on_everything() -> None:
    head = heads()["b"]
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    found = head_contributions({"head": head, "copy": 7.0 * head @ turn}, LABELS)
    (pair,) = found.agreement
    assert pair.cka == pytest.approx(1)
    assert (pair.same_neighbour, pair.one_right) == (1, 0)
    assert found.without["copy"].metrics == pytest.approx(found.whole.metrics)


def test_a_head_that_knows_all_of_it_is_missed() -> None:
    noise = torch.randn(24, 6, generator=torch.Generator().manual_seed(1))
    found = head_contributions({"all": torch.eye(6)[LABELS] + 0.01 * noise, "none": noise.flip(0)}, LABELS)
    assert found.alone["all"].metrics["map@r"] == 1
    assert found.without["all"].metrics["map@r"] < 0.5 < found.without["none"].metrics["map@r"]


def test_an_item_that_a_head_maps_to_zero_finds_nothing_by_it() -> None:
    given = heads()
    given["a"][5] = 0.0
    given["b"][5] = 0.0
    found = head_contributions(given, LABELS)
    row = found.alone["a"].query_ids.tolist().index(5)
    assert found.alone["a"].per_query["recall@1"][row] == 0
    assert found.without["c"].per_query["map@r"][row] == 0


def test_two_heads_that_find_nothing_do_not_find_the_same() -> None:
    head = heads()["a"]
    head[5] = 0.0
    (pair,) = head_contributions({"head": head, "copy": 2.0 * head}, LABELS).agreement
    assert pair.same_neighbour == pytest.approx(23 / 24)


def test_items_alone_in_their_class_do_not_ask() -> None:
    labels = LABELS.clone()
    labels[0] = 99
    found = head_contributions(heads(), labels)
    assert 0 not in found.whole.query_ids.tolist()
    assert len(found.whole.query_ids) == 23


def test_scales_and_order_of_the_items_change_nothing() -> None:
    given, order = heads(), torch.randperm(24, generator=torch.Generator().manual_seed(0))
    first = head_contributions(given, LABELS, shares=SHARES)
    second = head_contributions(
        {name: 0.01 * head[order] for name, head in given.items()}, LABELS[order], shares=SHARES
    )
    assert second.whole.metrics == pytest.approx(first.whole.metrics)
    for one, two in zip(first.agreement, second.agreement, strict=True):
        assert two[2:] == pytest.approx(one[2:])


def test_a_single_head_is_refused() -> None:
    with pytest.raises(UsageError, match=r"at least two heads, not 1; one alone is the whole"):
        head_contributions({"a": heads()["a"]}, LABELS)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": 1.0, "b": 1.0}, r"shares name \['a', 'b'\], but the heads are \['a', 'b', 'c'\]"),
        ({"a": 0.0, "b": 1.0, "c": 1.0}, r"the share of 'a' must be"),
        ({"a": math.nan, "b": 1.0, "c": 1.0}, r"the share of 'a' must be"),
    ],
)
def test_shares_that_do_not_fit_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        head_contributions(heads(), LABELS, shares=shares)


def test_heads_of_other_items_are_refused_by_name() -> None:
    with pytest.raises(BatchError, match=r"(?s)head_contributions, head 'b'.*one entry per embedding"):
        head_contributions({**heads(), "b": heads()["b"][:5]}, LABELS)


def test_nothing_to_find_is_refused() -> None:
    with pytest.raises(BatchError, match=r"nothing to find|no class|find"):
        head_contributions(heads(), torch.arange(24))


def test_what_is_not_finite_is_refused_by_name() -> None:
    given = heads()
    given["c"][3, 0] = torch.nan
    with pytest.raises(NumericError, match=r"head 'c'"):
        head_contributions(given, LABELS)

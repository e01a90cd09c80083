"""Closed forms of compression: exact where they say so, held against loops, refused where nothing can be fitted."""

import math

import jaxtyping
import pytest
import torch
from torch import Tensor

from accord.ensembles import Affine, compose, fold_heads, ledoit_wolf, pca, shrinkage_lda, side_by_side, wccn
from accord.errors import BatchError, UsageError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(width: int, *dims: int) -> list[Affine]:
    return [Affine(drawn(dim, width, seed=seed), drawn(dim, seed=seed + 50)) for seed, dim in enumerate(dims)]


def distances(rows: Tensor) -> Tensor:
    return torch.stack([torch.stack([(a - b).square().sum() for b in rows]) for a in rows])


def ensemble_distances(maps: list[Affine], weights: list[float], features: Tensor) -> Tensor:
    return sum(w * distances(part(features)) for part, w in zip(maps, weights, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize(("width", "dims", "rank"), [(10, (3, 4), 7), (5, (3, 4), 5), (6, (4,), 4)])
def test_folding_changes_no_distance_of_the_ensemble(width: int, dims: tuple[int, ...], rank: int) -> None:
    maps, weights, features = heads(width, *dims), [0.2, 0.8][: len(dims)], drawn(9, width, seed=9)
    folded = fold_heads(maps, weights)
    assert folded.matrix.shape == (rank, width)
    assert folded.retained == pytest.approx(1.0)
    torch.testing.assert_close(distances(folded(features)), ensemble_distances(maps, weights, features))
    # numbers beyond the rank say nothing
    wider = fold_heads(maps, weights, dim=rank + 2)
    assert not wider(features)[:, rank:].any()
    torch.testing.assert_close(wider(features)[:, :rank], folded(features))


def test_folding_heads_that_all_differ_keeps_inner_products_too() -> None:
    maps, features = heads(10, 3, 4), drawn(6, 10, seed=9)
    joined = side_by_side(maps, [0.3**0.5, 0.7**0.5])(features)
    folded = fold_heads(maps, [0.3, 0.7])(features)
    torch.testing.assert_close(folded @ folded.T, joined @ joined.T)


def test_folding_to_fewer_numbers_keeps_the_share_it_says() -> None:
    maps, weights = heads(10, 3, 4), [0.5, 0.5]
    metric = sum(w * part.matrix.T @ part.matrix for part, w in zip(maps, weights, strict=True))
    values = torch.linalg.eigvalsh(metric).flip(0)
    for dim in (1, 2, 5):
        folded = fold_heads(maps, weights, dim=dim)
        assert folded.retained == pytest.approx(float(values[:dim].sum() / values.sum()))
        torch.testing.assert_close(torch.linalg.eigvalsh(folded.matrix.T @ folded.matrix).flip(0)[:dim], values[:dim])


def test_a_head_of_weight_zero_does_not_count() -> None:
    maps = heads(8, 3, 4)
    torch.testing.assert_close(fold_heads(maps, [1.0, 0.0]).matrix, fold_heads(maps[:1], [1.0]).matrix)
    assert len(fold_heads(maps, [1.0, 0.0]).matrix) == 3


@pytest.mark.parametrize(("weights", "words"), [([0.0, 0.0], "more than 0"), ([1.0, -1.0], "at least 0")])
def test_folding_refuses_weights_that_make_no_distance(weights: list[float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fold_heads(heads(4, 2, 2), weights)


def test_maps_are_refused_where_they_do_not_fit() -> None:
    first, second = heads(4, 3, 2)
    with pytest.raises(UsageError, match="takes 4 numbers, and the inner one gives 3"):
        compose(second, first)
    with pytest.raises(UsageError, match="one factor for each"):
        side_by_side([first, second], [1.0])
    with pytest.raises(UsageError, match="one input"):
        side_by_side([first, *heads(5, 2)], [1.0, 1.0])


def test_composing_is_one_map_after_the_other() -> None:
    inner, outer = heads(6, 4)[0], heads(4, 3)[0]
    features = drawn(5, 6, seed=9)
    torch.testing.assert_close(compose(outer, inner)(features), outer(inner(features)))


@pytest.mark.parametrize("shape", [(30, 6), (5, 8)])
def test_components_keep_the_share_of_squared_distances_that_they_say(shape: tuple[int, int]) -> None:
    table = drawn(*shape) * torch.arange(1, shape[1] + 1)
    full = distances(table)
    before = 0.0
    for dim in range(1, min(shape[0] - 1, shape[1]) + 1):
        found = pca(table, dim=dim)
        kept = distances(found(table))
        assert float(kept.sum() / full.sum()) == pytest.approx(found.retained)
        assert bool((kept <= full + 1e-9 * full.max()).all())  # they never grow
        assert found.retained > before
        before = found.retained
    assert before == pytest.approx(1.0)


def test_no_other_directions_keep_more() -> None:
    table = drawn(40, 6) @ drawn(6, 6, seed=1)
    best = pca(table, dim=2).retained
    centred = table - table.mean(dim=0)
    for seed in range(50):
        directions = torch.linalg.qr(drawn(6, 2, seed=seed)).Q
        assert float((centred @ directions).square().sum() / centred.square().sum()) < best


def test_components_are_centred_unless_the_mean_is_to_stay() -> None:
    table = drawn(40, 6) + 10
    torch.testing.assert_close(pca(table, dim=3)(table).mean(dim=0), torch.zeros(3, dtype=torch.float64))
    uncentred = pca(table, dim=6, centre=False)
    assert not uncentred.bias.any()
    torch.testing.assert_close(uncentred(table) @ uncentred(table).T, table @ table.T)


def test_whitening_evens_the_spreads_by_as_much_as_it_is_told() -> None:
    table = drawn(60, 4) * torch.tensor([1.0, 2.0, 5.0, 9.0])
    spread = pca(table, dim=3)(table).std(dim=0, correction=0)
    for exponent in (0.0, 0.5, 1.0):
        white = pca(table, dim=3, whiten=exponent)(table).std(dim=0, correction=0)
        torch.testing.assert_close(white, spread ** (1 - exponent))


def test_whitening_leaves_a_direction_without_spread_at_zero() -> None:
    table = torch.cat([drawn(9, 2), torch.ones(9, 2, dtype=torch.float64)], dim=1)
    found = pca(table, dim=3, whiten=1.0)
    assert bool(found.matrix.isfinite().all())
    assert not found.matrix[2].any()


def test_the_same_rows_give_the_same_map_whatever_their_sign() -> None:
    table = drawn(30, 5)
    torch.testing.assert_close(pca(table, dim=3).matrix, pca(-table, dim=3).matrix)


def test_classes_that_differ_little_along_a_wide_axis_are_found_there() -> None:
    labels = torch.arange(60) % 3
    # axis 0 tells the classes apart; axis 1 is ten times as wide and tells nothing
    table = torch.stack([labels * 1.0, torch.zeros(60), torch.zeros(60)], dim=1).double() + drawn(60, 3) * torch.tensor(
        [0.05, 10.0, 0.05]
    )
    assert int(pca(table, dim=1).matrix.abs().argmax()) == 1
    found = shrinkage_lda(table, labels, dim=1, shrinkage=0.0)
    assert int(found.matrix.abs().argmax()) == 0
    assert 0.9 < found.retained < 1


def test_within_classes_the_spread_is_normalised() -> None:
    labels = torch.arange(40) % 4
    table = drawn(40, 5) @ drawn(5, 5, seed=1) + 4 * drawn(4, 5, seed=2)[labels]
    mapped = shrinkage_lda(table, labels, dim=5, shrinkage=0.0)(table)
    inside = torch.cat([mapped[labels == c] - mapped[labels == c].mean(dim=0) for c in range(4)])
    torch.testing.assert_close(inside.T @ inside / 40, torch.eye(5, dtype=torch.float64))


def test_shrunk_all_the_way_it_is_principal_components() -> None:
    labels, table = torch.arange(40) % 4, drawn(40, 5) @ drawn(5, 5, seed=1)
    found, plain = shrinkage_lda(table, labels, dim=2, shrinkage=1.0), pca(table, dim=2)
    assert found.retained == pytest.approx(plain.retained)
    ratio = distances(found(table)) / distances(plain(table))
    off = ~torch.eye(40, dtype=torch.bool)
    torch.testing.assert_close(ratio[off], ratio[0, 1].expand(int(off.sum())))


def test_the_estimated_shrinkage_is_that_of_a_loop() -> None:
    table = drawn(12, 4) @ drawn(4, 4, seed=1)
    table = table - table.mean(dim=0)
    n, p = table.shape
    covariance = table.T @ table / n
    mean = torch.trace(covariance) / p
    apart = (covariance - mean * torch.eye(p)).square().sum() / p
    noise = sum((torch.outer(row, row) - covariance).square().sum() / p for row in table) / n**2
    assert ledoit_wolf(table) == pytest.approx(float(min(noise / apart, 1)))
    assert 0 < ledoit_wolf(table) < 1
    assert ledoit_wolf(drawn(20_000, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0])) < 0.01
    assert ledoit_wolf(torch.zeros(5, 3)) == 1.0


def test_more_numbers_than_rows_are_normalised_by_the_estimate() -> None:
    labels, table = torch.arange(12) % 4, drawn(12, 30)
    found = shrinkage_lda(table, labels, dim=11)
    assert bool(found.matrix.isfinite().all())
    assert found.retained == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rows", "dim", "words"),
    [
        (20, 0, "dim must be a whole number of at least 1"),
        (20, 7, "dim=7 is more than the 6 numbers"),
        (4, 4, r"more than 4 items.*\n.*dim=3 or less"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_way_out(rows: int, dim: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        pca(drawn(rows, 6), dim=dim)
    with pytest.raises(UsageError, match=words):
        shrinkage_lda(drawn(rows, 6), torch.arange(rows) % 2, dim=dim)


def test_classes_of_one_item_cannot_be_normalised() -> None:
    with pytest.raises(BatchError, match="no class has two items that differ"):
        shrinkage_lda(drawn(6, 3), torch.arange(6), dim=2)


def test_numbers_that_are_not_finite_are_refused() -> None:
    table = drawn(6, 3)
    table[2, 1] = math.nan
    with pytest.raises(BatchError, match="must be finite"):
        pca(table, dim=2)
    with pytest.raises(UsageError, match="whiten"):
        pca(drawn(6, 3), dim=2, whiten=1.5)


@pytest.mark.parametrize("table", [torch.zeros(0, 3), torch.zeros(4, 3, dtype=torch.complex64)])
def test_tables_without_numbers_are_refused(table: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    # the tests' annotation checks would answer before our own
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(BatchError, match="pca: wants a floating-point"):
        pca(table, dim=1)


def test_wccn_is_mahalanobis_distance_within_classes_as_a_loop_says() -> None:
    table, labels = drawn(40, 5), torch.arange(40) % 4
    gamma = 0.3
    inside = [
        row - torch.stack([other for other, k in zip(table, labels, strict=True) if k == label]).mean(dim=0)
        for row, label in zip(table, labels, strict=True)
    ]
    covariance = sum(torch.outer(row, row) for row in inside) / 40
    shrunk = (1 - gamma) * covariance + gamma * covariance.trace() / 5 * torch.eye(5, dtype=torch.float64)
    found = wccn(table, labels, shrinkage=gamma)
    rows = found(table)
    for one, other in ((0, 1), (3, 17), (8, 4)):
        apart = table[one] - table[other]
        expected = apart @ torch.linalg.inv(shrunk) @ apart
        torch.testing.assert_close((rows[one] - rows[other]).square().sum(), expected)
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(5, dtype=torch.float64))
    assert found.retained == 1.0


def test_unshrunk_wccn_leaves_equal_spread_within_classes_and_shrunk_to_the_end_no_change() -> None:
    table, labels = drawn(60, 4), torch.arange(60) % 5
    rows = wccn(table, labels, shrinkage=0.0)(table)
    means = torch.stack([rows[labels == k].mean(dim=0) for k in range(5)])
    inside = rows - means[labels]
    torch.testing.assert_close(inside.T @ inside / 60, torch.eye(4, dtype=torch.float64))
    plain = wccn(table, labels, shrinkage=1.0)(table)
    torch.testing.assert_close(
        torch.pdist(plain) / torch.pdist(table), (torch.pdist(plain) / torch.pdist(table))[:1].expand(1770)
    )


def test_wccn_takes_fewer_items_than_numbers_and_refuses_classes_of_one() -> None:
    assert wccn(drawn(6, 9), torch.arange(6) % 2, shrinkage=0.9).matrix.shape == (9, 9)
    with pytest.raises(BatchError, match="wccn: no class has two items"):
        wccn(drawn(6, 3), torch.arange(6))

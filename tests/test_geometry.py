"""Similarities and distances equal slow sums and stay finite, value and gradient, where the textbook forms do not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from accord.geometry import (
    cosine,
    euclidean,
    full,
    inner,
    normalise,
    places,
    quick_inner,
    row_blocks,
    smallest_norm,
    squared_euclidean,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TABLES = (cosine, inner, squared_euclidean, euclidean)


def rows(count: int, seed: int = 0, dim: int = 5) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_table_equals_a_slow_sum() -> None:
    q, k = rows(3), rows(4, seed=1)
    for i, a in enumerate(q.tolist()):
        for j, b in enumerate(k.tolist()):
            dot, aa, bb = (sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (a, a), (b, b)))
            gap = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
            assert inner(q, k)[i, j].item() == pytest.approx(dot, abs=1e-12)
            assert cosine(q, k)[i, j].item() == pytest.approx(dot / (aa * bb) ** 0.5, abs=1e-12)
            assert squared_euclidean(q, k)[i, j].item() == pytest.approx(gap, abs=1e-12)
            assert euclidean(q, k)[i, j].item() == pytest.approx(gap**0.5, abs=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_the_gradient_of_its_value(table: object) -> None:
    q, k = rows(3).requires_grad_(), rows(4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(table, (q, k))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_table_takes_every_dtype_and_multiplies_in_single_precision(table: object, dtype: torch.dtype) -> None:
    q, k = rows(3).to(dtype), rows(4, seed=1).to(dtype)
    found = table(q, k)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double(), table(q.double(), k.double()), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(table(q, k), found)


def test_two_dtypes_meet_in_the_wider() -> None:
    assert inner(rows(2).half(), rows(2)).dtype == torch.float64
    assert inner(rows(2).half(), rows(2).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("table", TABLES)
def test_empty_tables_are_empty(table: object) -> None:
    assert table(torch.zeros(0, 4), torch.ones(2, 4)).shape == (0, 2)
    assert table(torch.ones(2, 4), torch.zeros(0, 4)).shape == (2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-8, 1e-3, 1.0, 1e4])
def test_normalise_is_finite_with_a_bounded_gradient(dtype: torch.dtype, scale: float) -> None:
    x = (rows(4) * scale).to(dtype).requires_grad_()
    unit = normalise(x)
    assert unit.dtype == dtype
    assert bool((unit.detach().double().norm(dim=1) <= 1.01).all())
    (gradient,) = torch.autograd.grad(unit.sum(), x)
    assert bool(gradient.isfinite().all())
    assert gradient.abs().max() <= 5 / smallest_norm(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalise_gives_unit_length_above_the_smallest_norm(dtype: torch.dtype) -> None:
    x = (normalise(rows(4)) * smallest_norm(dtype) * 1.1).to(dtype)
    torch.testing.assert_close(normalise(x, dtype=torch.float64).norm(dim=1), torch.ones(4).double(), rtol=0, atol=1e-6)


def test_normalise_takes_any_axis() -> None:
    x = rows(4)
    torch.testing.assert_close(normalise(x.T, dim=0), normalise(x).T)


def test_full_widens_only_half_precision() -> None:
    assert [full(torch.ones(1, dtype=dtype)).dtype for dtype in DTYPES] == [torch.float64, *[torch.float32] * 3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [0.0, 1e-3, 1.0, 1e4])
def test_duplicates_are_at_distance_zero_without_a_gradient(dtype: torch.dtype, length: float) -> None:
    x = (rows(1).repeat(3, 1) * length).to(dtype).requires_grad_()
    distances = euclidean(x, x)
    (gradient,) = torch.autograd.grad(distances.sum(), x)
    assert distances.eq(0).all()
    assert gradient.eq(0).all()


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    q, k = rows(3), rows(4, seed=1)
    torch.testing.assert_close(euclidean(q + 1e6, k + 1e6), euclidean(q, k), rtol=1e-8, atol=0)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=8), st.sampled_from([1e-8, 1.0, 1e8]), st.sampled_from(DTYPES[:3])
)
def test_distances_are_finite_and_symmetric_on_any_rows(chosen: list[int], scale: float, dtype: torch.dtype) -> None:
    table = rows(4)
    table[3] = 0
    x = (table[chosen] * scale).to(dtype).requires_grad_()
    distances = euclidean(x, x)
    (gradient,) = torch.autograd.grad(distances.sum(), x)
    assert bool(distances.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool((distances >= 0).all())
    torch.testing.assert_close(distances, distances.T, rtol=1e-5, atol=1e-5 * scale)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 500), st.sampled_from([1, 4, 8]))
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_row_blocks_cover_all_rows_within_the_budget(count: int, columns: int, budget: int, itemsize: int) -> None:
    blocks = list(row_blocks(count, columns, budget_bytes=budget, itemsize=itemsize))
    assert [row for block in blocks for row in range(count)[block]] == list(range(count))
    for block in blocks:
        height = block.stop - block.start
        assert height == 1 or height * columns * itemsize <= budget


@given(st.lists(st.integers(-5, 300), max_size=12, unique=True), st.lists(st.integers(-5, 300), max_size=12))
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_places_are_those_of_a_slow_search(known: list[int], ids: list[int]) -> None:
    expected = [known.index(id) if id in known else -1 for id in ids]
    found = places(torch.tensor(ids, dtype=torch.int64), torch.tensor(known, dtype=torch.int64))
    assert found.dtype == torch.int64
    assert found.tolist() == expected


def test_places_mind_no_shape_stride_or_dtype() -> None:
    known = torch.tensor([7, 3, 250], dtype=torch.uint8)
    ids = torch.tensor([[3, 7], [250, 3 + 256], [-6, 7]])  # of these, 259 and -6 would be 3 and 250 in eight bits
    assert places(ids, known).tolist() == [[1, 0], [2, -1], [-1, 0]]
    assert places(ids.T, known).tolist() == [[1, 2, -1], [0, -1, 0]]
    assert places(ids, known[:0]).tolist() == [[-1, -1]] * 3
    assert places(known, ids[0]).tolist() == [1, 0, -1]


def test_an_id_that_is_known_twice_has_one_of_its_rows() -> None:
    assert places(torch.tensor([5]), torch.tensor([5, 2, 5])).item() in (0, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_quick_products_are_products_on_either_path(dtype: torch.dtype) -> None:
    q, k = rows(3, seed=1).to(dtype).requires_grad_(), rows(4, seed=2).to(dtype)
    found = quick_inner(q, k)
    assert not found.requires_grad
    assert torch.allclose(found.double(), q.detach().double() @ k.double().T, atol=1e-5)

"""Doorway checks say who complains, what is wrong, what came and what to do."""

import math

import numpy as np
import pytest
import torch

from accord.checks import check_batch, check_classes, check_count, check_finite, check_flag, check_range, describe
from accord.errors import BatchError, NumericError, UsageError

EMBEDDINGS, LABELS = torch.ones(3, 2), torch.tensor([0, 1, 1])


def test_describes_a_tensor_by_shape_dtype_and_device() -> None:
    assert describe(torch.zeros(16, 128)) == "(16, 128) float32 on cpu"
    assert describe(torch.zeros(5, dtype=torch.int64, device="meta")) == "(5,) int64 on meta"
    assert describe([1, 2]) == "list"


def test_passes_a_usable_batch() -> None:
    check_batch("who", EMBEDDINGS, LABELS)
    check_batch("who", EMBEDDINGS.half(), LABELS.to(torch.uint8))
    check_batch("who", EMBEDDINGS[:0], LABELS[:0])
    for dtype in (torch.int8, torch.int16, torch.int32):
        check_batch("who", EMBEDDINGS.bfloat16(), LABELS.to(dtype))


@pytest.mark.parametrize(
    ("embeddings", "labels", "wish"),
    [
        (EMBEDDINGS, [0, 1, 1], "must be tensors"),
        (np.ones((3, 2)), LABELS, "must be tensors"),
        (EMBEDDINGS[0], LABELS, r"floating-point \(item, dim\)"),
        (EMBEDDINGS.long(), LABELS, r"floating-point \(item, dim\)"),
        (EMBEDDINGS, LABELS.float(), r"labels\.long\(\)"),
        (EMBEDDINGS, LABELS > 0, r"labels\.long\(\)"),
        (EMBEDDINGS, LABELS[:, None], r"labels\.flatten\(\)"),
        (EMBEDDINGS, LABELS[:2], "one entry per embedding"),
        (EMBEDDINGS, LABELS.to("meta"), "on one device"),
        (EMBEDDINGS, LABELS.to(torch.uint16), r"labels\.long\(\)"),
        (EMBEDDINGS, LABELS.to(torch.uint32), r"labels\.long\(\)"),
        (EMBEDDINGS, LABELS.to(torch.uint64), r"labels\.long\(\)"),
        (EMBEDDINGS[:, :0], LABELS, "at least 1 wide"),
        (EMBEDDINGS[:0, :0], LABELS[:0], "at least 1 wide"),
        (EMBEDDINGS.to_sparse(), LABELS, r"to_dense\(\)"),
        (EMBEDDINGS, LABELS.to_sparse(), r"to_dense\(\)"),
        (EMBEDDINGS.to(torch.float8_e4m3fn), LABELS, r"embeddings\.float\(\)"),
    ],
)
def test_refuses_a_batch_that_does_not_fit(embeddings: object, labels: object, wish: str) -> None:
    with pytest.raises(BatchError, match=rf"^who: (.|\n)*{wish}") as caught:
        check_batch("who", embeddings, labels)
    assert f"embeddings: {describe(embeddings)}" in str(caught.value)
    assert f"labels:     {describe(labels)}" in str(caught.value)


def test_names_rows_that_are_not_finite() -> None:
    wrong = torch.ones(9, 2, 2)
    wrong[3, 0, 1], wrong[5] = torch.nan, torch.inf
    with pytest.raises(NumericError, match="who: features must be finite, but 2 of 9 rows are not: 3, 5\\."):
        check_finite("who", "features", wrong)


def test_names_the_ids_and_shortens_a_long_list() -> None:
    wrong = torch.full((8, 2), torch.nan)
    with pytest.raises(NumericError, match=r"0 \(id 10\), 1 \(id 11\), .* 4 \(id 14\) and 3 more"):
        check_finite("who", "embeddings", wrong, ids=torch.arange(10, 18))
    with pytest.raises(NumericError, match=r"0 \(id a\.png\)"):
        check_finite("who", "embeddings", wrong[:1], ids=["a.png"])


def test_takes_a_scalar_for_one_row() -> None:
    with pytest.raises(NumericError, match="1 of 1 rows"):
        check_finite("who", "loss", torch.tensor(torch.nan))


def test_looks_only_into_main_memory() -> None:
    check_finite("who", "embeddings", torch.ones(2, 2, device="meta"))
    check_classes("who", torch.ones(2, device="meta", dtype=torch.int64), 1)


def test_names_labels_out_of_range() -> None:
    check_classes("who", LABELS, 2)
    with pytest.raises(BatchError, match=r"0 … 4, but 3 of 5 do not: -1, 5\."):
        check_classes("who", torch.tensor([5, -1, 0, 5, 4]), 5)
    # 300 does not fit these labels, and must not wrap
    with pytest.raises(BatchError, match=r"0 … 299, but 1 of 4 do not: -1\."):
        check_classes("who", torch.tensor([44, -1, 0, 127], dtype=torch.int8), 300)
    with pytest.raises(BatchError, match=r"0 … 99, but 1 of 2 do not: 255\."):
        check_classes("who", torch.tensor([44, 255], dtype=torch.uint8), 100)


def test_passes_options_within_their_range() -> None:
    check_range("who", "margin", 0.0, low=0)
    check_range("who", "margin", 2, high=2)
    check_range("who", "margin", -1e6)
    check_range("who", "bytes", 2**40, high=math.inf)
    check_range("who", "margin", 0.5, low=0, high=1, open_low=True, open_high=True)
    check_count("who", "dim", 1)


@pytest.mark.parametrize(
    ("value", "bounds", "wish"),
    [
        (-1, {"low": 0}, "at least 0, not -1"),
        (0, {"low": 0, "open_low": True}, "more than 0, not 0"),
        (3, {"high": 2}, "at most 2, not 3"),
        (2, {"low": 0, "high": 2, "open_high": True}, "at least 0 and less than 2, not 2"),
        (float("nan"), {}, "a finite number, not nan"),
        (float("inf"), {}, "a finite number, not inf"),
        ("1", {}, "a finite number, not '1'"),
        (True, {}, "a finite number, not True"),
        (None, {}, "a finite number, not None"),
        (1e-320, {"low": 0, "open_low": True}, "at least 1e-12, not 1e-320"),
        (9e-13, {"low": 0, "high": 2, "open_low": True}, "at least 1e-12 and at most 2, not 9e-13"),
        (1e300, {"low": 0, "open_low": True}, r"more than 0 and at most 1e6, not 1e\+300"),
        (1e300, {}, r"at most 1e6, not 1e\+300"),
        (-1e300, {}, r"at least -1e6, not -1e\+300"),
        (10**400, {"low": 0}, "at least 0 and at most 1e6, not one of so many digits"),
        (float("inf"), {"high": math.inf}, "a finite number, not inf"),
    ],
)
def test_refuses_options_out_of_range(value: object, bounds: dict[str, object], wish: str) -> None:
    with pytest.raises(UsageError, match=f"who: margin must be {wish}"):
        check_range("who", "margin", value, **bounds)


@pytest.mark.parametrize("value", [0, 1.5, True, "3"])
def test_refuses_what_is_no_count(value: object) -> None:
    with pytest.raises(UsageError, match="who: dim must be a whole number of at least 1"):
        check_count("who", "dim", value)


@pytest.mark.parametrize("value", [10**7, 10**400])
def test_refuses_more_than_can_be_counted_with(value: int) -> None:
    check_count("who", "bins", 10_000, high=10_000)
    with pytest.raises(UsageError, match="who: bins must be a whole number of at least 1 and at most 10,000, not"):
        check_count("who", "bins", value, high=10_000)


@pytest.mark.parametrize("value", ["no", 3, 0, None, 1.0])
def test_refuses_what_is_neither_true_nor_false(value: object) -> None:
    check_flag("who", "squared", True)
    check_flag("who", "squared", False)
    with pytest.raises(UsageError, match="who: squared must be True or False, not"):
        check_flag("who", "squared", value)


def test_says_so_of_a_number_python_does_not_write_out() -> None:
    with pytest.raises(UsageError, match="who: scale must be at most 1e6, not one of so many digits"):
        check_range("who", "scale", 10**5000)
